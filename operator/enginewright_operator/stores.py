"""Object storage as the operator uses it: who has which version of an object, and deleting a plan's folder.

boto3 blocks, so everything runs in threads. Credentials are held by the few clients that were used last, and never
logged.
"""

import asyncio
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from enginewright_operator import recipes
from enginewright_operator.api import Storage
from enginewright_operator.errors import NotLeadingError
from enginewright_operator.kube import unfenced
from enginewright_runtime.storage import uris
from enginewright_runtime.storage.open import open_store
from enginewright_runtime.storage.store import ObjectStore

OPEN_LIMIT = 8


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
    """All that the operator asks of object storage.

    `may_write_for` gives the seconds for which this process is sure to lead, as for the API server: without some left
    no file is deleted, since the next leader may have had the same plan built anew.
    """

    def __init__(self, *, may_write_for: Callable[[], float] = unfenced) -> None:
        self._may_write_for = may_write_for
        self._opened: OrderedDict[str, _Opened] = OrderedDict()

    async def identity(self, uri: str, access: Access) -> str:
        """How a recipe names the object as it is now. Raises StorageError and its kin, naming the URI."""
        opened = self._open(uri, access)
        return await asyncio.to_thread(lambda: opened.store.head(uri).identity)

    async def delete_folder(self, folder: str, access: Access) -> int:
        """Delete every object under the URI `folder`, which ends in "/"; returns how many there were.

        Raises NotLeadingError where this process may not do so, or not any more.
        """
        opened = self._open(folder, access)
        return await asyncio.to_thread(self._delete_folder, opened.store, folder)

    async def list_folder(self, folder: str, access: Access) -> list[str]:
        """The URIs of every object under the URI `folder`, which ends in "/"."""
        opened = self._open(folder, access)
        return await asyncio.to_thread(lambda: [entry.uri for entry in opened.store.list(folder)])

    def _delete_folder(self, store: ObjectStore, folder: str) -> int:
        found = list(store.list(folder))
        for entry in found:
            if self._may_write_for() <= 0:
                raise NotLeadingError(f"{entry.uri} was not deleted: this process may not lead any more.")
            store.delete(entry.uri)
        return len(found)

    def _open(self, uri: str, access: Access) -> "_Opened":
        """A client takes 30 ms and some megabytes to make: the last few are kept."""
        key = f"{uris.scheme(uri)} {access.fingerprint()}"
        opened = self._opened.pop(key, None) or _Opened(uri, access)
        self._opened[key] = opened
        if len(self._opened) > OPEN_LIMIT:
            self._opened.popitem(last=False)
        return opened


class _Opened:
    """A store, and the file with its CA certificates, which is what boto3 takes, for as long as it is used."""

    def __init__(self, uri: str, access: Access) -> None:
        path = ""
        if access.ca_certificates:
            with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
                file.write(access.ca_certificates)
            path = file.name
            weakref.finalize(self, Path(path).unlink, missing_ok=True)
        options = recipes.store_options(access.storage, ca_bundle=path)
        self.store = open_store(uri, options, credentials=access.credentials)
