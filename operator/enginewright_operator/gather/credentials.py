"""With what a storage is reached from a namespace. A Secret is read only where a spec names it."""

import base64
import binascii
from collections.abc import Mapping

from enginewright_operator import api
from enginewright_operator.cached_kube import CachedKube
from enginewright_operator.stores import Access
from enginewright_runtime.errors import StorageError


class Credentials:
    """Reads the Secret and the certificates that a storage names."""

    def __init__(self, kube: CachedKube) -> None:
        self._kube = kube

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
        secret = await self._kube.get("Secret", namespace, storage.credentials_secret)
        if secret is None:
            return None
        wanted = (*api.CREDENTIAL_KEYS, api.SESSION_TOKEN)
        return {key: _decoded(value) for key, value in (secret.get("data") or {}).items() if key in wanted}

    async def certificates(self, namespace: str, storage: api.Storage) -> str:
        """The certificates to trust the endpoint by, in PEM; empty if the storage names none."""
        bundle = storage.ca_bundle
        if bundle is None:
            return ""
        if bundle.secret:
            secret = await self._kube.get("Secret", namespace, bundle.secret.name)
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
