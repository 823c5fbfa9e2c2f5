"""Who bears a name that a child of ours would have: asked when an engine is new, then left to the create."""

from typing import Any

import pytest
from operator_objects import engine, plan

from enginewright_operator.gather import neighbours

WANTED = [("Deployment", "e-cpu"), ("Service", "e"), ("HTTPRoute", "e")]
THEIRS = {"metadata": {"ownerReferences": [{"uid": "another"}]}}


class FakeKube:
    """Has somebody else's object for each name that is asked for; knows of those in `cached` without asking."""

    def __init__(self, *cached: str) -> None:
        self.asked: list[str] = []
        self._cached = cached

    def known(self, kind: str, namespace: str, name: str) -> Any:
        return THEIRS if kind in self._cached else None

    async def bearer(self, kind: str, namespace: str, name: str) -> Any:
        self.asked.append(kind)
        return THEIRS


def waiting(reason: str) -> dict[str, Any]:
    return {"observedGeneration": 3, "targets": [{"gpuClass": "cpu", "reason": reason}]}


@pytest.mark.parametrize(
    ("status", "phase", "asked"),
    [
        (None, "", ["Deployment", "Service", "HTTPRoute"]),
        (waiting("Building"), "Building", []),
        (waiting("Building"), "Built", ["HTTPRoute"]),
        (waiting("NameTaken"), "Built", ["Deployment", "Service", "HTTPRoute"]),
    ],
)
async def test_a_name_is_asked_for_when_an_engine_is_new_and_before_what_is_not_created(
    status: dict[str, Any] | None, phase: str, asked: list[str]
) -> None:
    kube = FakeKube()
    found = await neighbours.in_the_way(kube, engine(status=status), WANTED, [plan(phase=phase)])  # type: ignore[arg-type]
    assert kube.asked == asked
    assert [each.split()[0] for each in found] == asked


async def test_what_the_cache_knows_to_be_anothers_is_in_the_way_without_a_question() -> None:
    kube = FakeKube("Service")
    wanted = WANTED[:2]
    found = await neighbours.in_the_way(kube, engine(status=waiting("Building")), wanted, [plan(phase="Built")])  # type: ignore[arg-type]
    assert (found, kube.asked) == (("Service e",), [])
