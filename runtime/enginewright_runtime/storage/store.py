"""The interface to object storage: the few verbs that plans and models need.

Every verb raises StorageError (worth another try), StorageDeniedError (not worth one) or ObjectMissingError, naming
the URI. Retries within a verb are the implementation's own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """What a store knows of an object without reading it.

    `version` is the store's own word for this very content: an object store's ETag; for a folder, "sha256:" and the
    digest. It changes whenever the content does. (Not S3's VersionId, which also changes when the same bytes are put
    again, and which a listing does not tell.)
    """

    uri: str
    bytes: int
    version: str

    @property
    def identity(self) -> str:
        """How a recipe names this content: "sha256:<hex>" where the store tells it, else "version:<its version>"."""
        return self.version if self.version.startswith("sha256:") else f"version:{self.version}"


class ObjectStore(Protocol):
    """One object store, addressed by whole URIs of its own scheme. Safe to use from several threads."""

    def head(self, uri: str) -> StoredObject:
        """Size and version. Raises ObjectMissingError if there is none."""

    def download(self, uri: str, path: Path, *, durable: bool = True) -> StoredObject:
        """Write the object to `path`, atomically, its size and checksum verified; return what was fetched.

        Unless it is `durable` a power cut may leave a part: enough for a folder of this process's own, and faster.
        """

    def upload(self, path: Path, uri: str, *, overwrite: bool = False) -> bool:
        """Store the file `path`, all or nothing. Without `overwrite` the first writer wins: False if one was there."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object whose URI begins with `prefix`, which ends in "/"; in no order that one may rely on."""

    def delete(self, uri: str) -> None:
        """Remove the object; removing one that is not there is no error."""
