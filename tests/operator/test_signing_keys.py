"""Keys are looked for where pods will look, by their metadata alone, and not at every look."""

from typing import Any

from enginewright_operator.gather.signing_keys import SigningKeys
from enginewright_operator.settings import Settings

SIGNED = Settings(signature_policy="warn", signing_secret="plan-signing", trusted_keys="plan-keys")


class FakeKube:
    """Has the named objects, and counts who asks."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.asked: list[tuple[str, str, str]] = []

    async def metadata(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        self.asked.append((kind, namespace, name))
        return {"metadata": {"name": name}} if name in self.names else None


def keys(kube: FakeKube, settings: Settings, now: list[float]) -> SigningKeys:
    return SigningKeys(kube, settings, clock=lambda: now[0])  # type: ignore[arg-type]


async def test_without_signing_nothing_is_asked() -> None:
    kube = FakeKube()
    assert await keys(kube, Settings(), [0.0]).missing("n") == ()
    assert kube.asked == []


async def test_what_is_missing_is_named_and_asked_for_again_at_once() -> None:
    kube = FakeKube("plan-keys")
    looking = keys(kube, SIGNED, [0.0])
    assert await looking.missing("n") == ("Secret plan-signing",)
    kube.names.add("plan-signing")
    assert await looking.missing("n") == ()


async def test_what_is_there_is_asked_for_again_at_the_next_resync() -> None:
    kube, now = FakeKube("plan-keys", "plan-signing"), [0.0]
    looking = keys(kube, SIGNED, now)
    await looking.missing("n")
    await looking.missing("n")
    assert len(kube.asked) == 2
    kube.names.clear()
    now[0] = SIGNED.resync_seconds
    assert await looking.missing("n") == ("Secret plan-signing", "ConfigMap plan-keys")
