"""Whether the keys that the operator's signing settings name are where the pods will look for them.

Only their metadata is read: a private key has no business in this process.
"""

import math
from collections.abc import Callable

from enginewright_operator.kube import Kube
from enginewright_operator.settings import Settings


class SigningKeys:
    """The Secret to sign with and the ConfigMap of public keys, in an engine's namespace."""

    def __init__(self, kube: Kube, settings: Settings, *, clock: Callable[[], float]) -> None:
        self._kube = kube
        self._clock = clock
        self._fresh_for = settings.resync_seconds
        self._wanted = [("Secret", settings.signing_secret)] if settings.signing_secret else []
        if settings.signature_policy != "off":
            self._wanted.append(("ConfigMap", settings.trusted_keys))
        self._seen: dict[tuple[str, str, str], float] = {}

    async def missing(self, namespace: str) -> tuple[str, ...]:
        """What is not there, as "Secret plan-signing". What was there is asked for again at the next resync."""
        absent = []
        for kind, name in self._wanted:
            key = (kind, namespace, name)
            if self._clock() - self._seen.get(key, -math.inf) < self._fresh_for:
                continue
            if await self._kube.metadata(*key) is None:
                absent.append(f"{kind} {name}")
            else:
                self._seen[key] = self._clock()
        return tuple(absent)
