"""Object storage as the operator uses it: who has which version of an object, and deleting a plan's folder.

boto3 blocks, so everything runs in threads. Credentials are held for the one call and never logged. What was looked
up is remembered for a while, since every reconciliation asks and each question is a request to the store.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from enginewright_operator import recipes
from enginewright_operator.api import Storage
from enginewright_runtime.storage.open import open_store

CACHE_LIMIT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach a store, and as whom. Its repr holds no secret."""

    storage: Storage
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_certificates: str = field(default="", repr=False)

    def fingerprint(self) -> str:
        """The same for the same store and identity; the credentials cannot be read from it."""
        secret = repr(sorted(self.credentials.items())) + self.ca_certificates
        return sha256((self.storage.model_dump_json() + secret).encode()).hexdigest()


class Stores:
    """All that the operator asks of object storage."""

    def __init__(self, *, remember: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`remember` is for how many seconds an object's version is taken as still so."""
        self._remember = remember
        self._clock = clock
        self._identities: dict[tuple[str, str], tuple[float, str]] = {}

    async def identity(self, uri: str, access: Access) -> str:
        """How a recipe names the object as it is now. Raises StorageError and its kin, naming the URI."""
        key = (access.fingerprint(), uri)
        known = self._identities.get(key)
        if known and self._clock() - known[0] < self._remember:
            return known[1]
        identity = await asyncio.to_thread(_identity, uri, access)
        if len(self._identities) >= CACHE_LIMIT:
            self._identities.clear()
        self._identities[key] = (self._clock(), identity)
        return identity

    async def delete_folder(self, folder: str, access: Access) -> int:
        """Delete every object under the URI `folder`, which ends in "/"; returns how many there were."""
        return await asyncio.to_thread(_delete_folder, folder, access)


def _identity(uri: str, access: Access) -> str:
    with _CaFile(access) as ca_bundle:
        options = recipes.store_options(access.storage, ca_bundle=ca_bundle)
        return open_store(uri, options, credentials=access.credentials).head(uri).identity


def _delete_folder(folder: str, access: Access) -> int:
    with _CaFile(access) as ca_bundle:
        store = open_store(folder, recipes.store_options(access.storage, ca_bundle=ca_bundle),
                           credentials=access.credentials)  # fmt: skip
        found = list(store.list(folder))
        for entry in found:
            store.delete(entry.uri)
        return len(found)


class _CaFile:
    """The CA certificates as a file, since that is what boto3 takes; an empty path where there are none."""

    def __init__(self, access: Access) -> None:
        self._certificates = access.ca_certificates
        self._path: Path | None = None

    def __enter__(self) -> str:
        if not self._certificates:
            return ""
        with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
            file.write(self._certificates)
        self._path = Path(file.name)
        return file.name

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
