"""Objects as files of this machine: `file:///path`. The embedded default, and what tests and laptops use.

The first writer of a URI wins, among processes too, because a hard link to a finished file either is made or is not.
A reader never sees half an object.
"""

import errno
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from enginewright_runtime.errors import ObjectMissingError, StorageDeniedError, StorageError
from enginewright_runtime.storage import landing, uris
from enginewright_runtime.storage.store import StoredObject

_CHUNK = 1 << 20
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


class FolderStore:
    """Files of this machine, addressed by file:// URIs."""

    def head(self, uri: str) -> StoredObject:
        """Size, and the sha256 of the content as its version: the whole file is read."""
        path = uris.to_path(uri)
        with landing.opened(path, f"{uri} cannot be read") as (descriptor, size):
            return StoredObject(uri=uri, bytes=size, version=_version(descriptor, size, uri))

    def download(self, uri: str, path: Path, *, durable: bool = True) -> StoredObject:
        """Copy the file to `path`, atomically; the version is that of the bytes that were copied."""
        with (
            landing.opened(uris.to_path(uri), f"{uri} cannot be read") as (source, size),
            landing.landing(path, needed=size, what=f"{uri} cannot be written to this machine") as target,
        ):
            version = _version(source, size, uri, lambda data, offset: landing.write_all(target, data, offset))
            landing.settle(target, durable=durable)
        return StoredObject(uri=uri, bytes=size, version=version)

    def upload(self, path: Path, uri: str, *, overwrite: bool = False) -> bool:
        """Copy `path` beside its destination, then name it: by rename to overwrite, else by a link, once."""
        destination, what = uris.to_path(uri), f"{path} cannot be stored as {uri}"
        if not overwrite and os.path.lexists(destination):
            with landing.os_errors(destination, needed=0, what=what):
                landing.require_regular(destination.stat().st_mode, destination, what)
            return False
        with (
            landing.opened(path, f"{path} cannot be read") as (source, size),
            landing.part(destination, needed=size, what=what) as (target, temporary),
            landing.os_errors(destination, needed=size, what=what),
        ):
            _version(source, size, str(path), lambda data, offset: landing.write_all(target, data, offset))
            landing.settle(target)
            if overwrite:
                temporary.replace(destination)
                return True
            return _link(temporary, destination, what)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every file under the folder, links to folders not followed; one that vanishes meanwhile is left out."""
        top = uris.to_path(uris.require_prefix(prefix))
        for folder, folders, names in os.walk(top, onerror=_raise_unless_gone):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if landing.is_part(name) or not path.is_file():
                    continue
                try:
                    yield self.head(uris.from_path(path))
                except ObjectMissingError:
                    continue

    def delete(self, uri: str) -> None:
        """Remove the file. Its folder stays: it may be the person's own."""
        path = uris.to_path(uri)
        with landing.os_errors(path, needed=0, what=f"{uri} cannot be removed"):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return


def _link(temporary: Path, destination: Path, what: str) -> bool:
    try:
        os.link(temporary, destination)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise StorageDeniedError(
            f"{what}: the file system of {destination.parent} has no hard links, which the first of two writers is "
            "told by; use a folder on another file system, or object storage."
        ) from error
    return True


def _version(
    descriptor: int, size: int, name: str, write: Callable[[bytes, int], None] = lambda _data, _offset: None
) -> str:
    """Read `size` bytes, hand each chunk to `write`, and return the version; StorageError if the file changed size."""
    digest, offset = sha256(), 0
    while data := os.pread(descriptor, _CHUNK, offset):
        digest.update(data)
        write(data, offset)
        offset += len(data)
        if offset > size:
            break
    if offset != size:
        raise StorageError(f"{name} changed while it was read: it had {size} bytes, and {offset} came; try again.")
    return f"sha256:{digest.hexdigest()}"


def _raise_unless_gone(error: OSError) -> None:
    path = Path(os.fsdecode(error.filename))
    if error.errno not in (errno.ENOENT, errno.ENOTDIR):
        with landing.os_errors(path, needed=0, what=f"{uris.from_path(path)}/ cannot be listed"):
            raise error
