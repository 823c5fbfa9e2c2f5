"""With what a storage is reached from a namespace. A Secret is read only where a spec names it."""

import base64
import binascii
from collections.abc import Callable, Mapping

from enginewright_operator import api
from enginewright_operator.cached_kube import CachedKube
from enginewright_operator.kube import Manifest
from enginewright_operator.stores import Access
from enginewright_runtime.errors import StorageError

FRESH_FOR = 5.0  # seconds: hundreds of engines name the same Secret


class Credentials:
    """Reads the Secret and the certificates that a storage names."""

    def __init__(self, kube: CachedKube, *, clock: Callable[[], float]) -> None:
        self._kube = kube
        self._clock = clock
        self._read: dict[tuple[str, str], tuple[float, Manifest]] = {}

    async def access(self, namespace: str, storage: api.Storage) -> Access:
        """How to reach a storage as a namespace does. Raises StorageError where its Secret is not there."""
        secret = await self.secret(namespace, storage)
        if secret is None:
            raise StorageError(f"The Secret {storage.credentials_secret} is not in the namespace {namespace}.")
        return Access(storage=storage, credentials=secret, ca_certificates=await self.certificates(namespace, storage))

    async def secret(self, namespace: str, storage: api.Storage) -> Mapping[str, str] | None:
        """What the Secret holds that a store asks for; empty if the storage names none, None if it is not there."""
        if not storage.credentials_secret:
            return {}
        secret = await self._secret(namespace, storage.credentials_secret)
        if secret is None:
            return None
        wanted = (*api.CREDENTIAL_KEYS, api.SESSION_TOKEN)
        return {key: _decoded(value) for key, value in (secret.get("data") or {}).items() if key in wanted}

    async def _secret(self, namespace: str, name: str) -> Manifest | None:
        """One Secret, as it was a few seconds ago at the most; one that is missing is asked for each time."""
        now = self._clock()
        self._read = {key: held for key, held in self._read.items() if now - held[0] < FRESH_FOR}
        if (held := self._read.get((namespace, name))) is not None:
            return held[1]
        found = await self._kube.get("Secret", namespace, name)
        if found is not None:
            self._read[namespace, name] = now, found
        return found

    async def certificates(self, namespace: str, storage: api.Storage) -> str:
        """The certificates to trust the endpoint by, in PEM; empty if the storage names none."""
        bundle = storage.ca_bundle
        if bundle is None:
            return ""
        if bundle.secret:
            secret = await self._secret(namespace, bundle.secret.name)
            return _decoded(((secret or {}).get("data") or {}).get(bundle.secret.key, ""))
        if bundle.config_map:
            config = await self._kube.get("ConfigMap", namespace, bundle.config_map.name)
            return str(((config or {}).get("data") or {}).get(bundle.config_map.key, ""))
        return ""


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
