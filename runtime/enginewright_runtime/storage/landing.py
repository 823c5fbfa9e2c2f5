"""Files that appear whole or not at all: bytes go to a hidden file beside the final one, then it gets its name.

Both stores land downloads here, and the folder store its objects. A reader never sees a part of a file, and a
process that is killed leaves at most a hidden file that ends in ".part", which listings skip.
"""

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enginewright_runtime.errors import ObjectMissingError, StorageDeniedError, StorageError, UsageError

PREFIX, SUFFIX = ".enginewright-", ".part"

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_MISNAMED = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL)


@contextmanager
def landing(path: Path, *, needed: int, what: str) -> Iterator[int]:
    """A descriptor to write `needed` bytes to; on leaving, the file takes the name `path`, in place of any other.

    Raises StorageError if the disk is full, StorageDeniedError or UsageError if there can be no such file; `what`
    begins their sentence. Whatever is raised within, nothing is left behind.
    """
    with part(path, needed=needed, what=what) as (descriptor, temporary), os_errors(path, needed=needed, what=what):
        yield descriptor
        temporary.replace(path)


@contextmanager
def part(path: Path, *, needed: int, what: str) -> Iterator[tuple[int, Path]]:
    """An empty hidden file beside `path`: its descriptor and its name, which is gone afterwards."""
    with os_errors(path, needed=needed, what=what):
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=PREFIX, suffix=SUFFIX)
    try:
        yield descriptor, Path(name)
    finally:
        os.close(descriptor)
        Path(name).unlink(missing_ok=True)


@contextmanager
def opened(path: Path, what: str) -> Iterator[tuple[int, int]]:
    """A descriptor to read a regular file from, and its size in bytes; `what` begins the sentence if there is none."""
    # O_NONBLOCK: opening a named pipe must not wait for a writer that never comes.
    with os_errors(path, needed=0, what=what):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        require_regular(status.st_mode, path, what)
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


def require_regular(mode: int, path: Path, what: str) -> None:
    """Raise ObjectMissingError for a folder, a pipe or a device."""
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise ObjectMissingError(f"{what}: {path} is {kind}; name a file.")


def sha256_of(descriptor: int) -> str:
    """sha256 of a whole open file, as hexadecimal digits."""
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


def settle(descriptor: int, *, durable: bool = True) -> None:
    """Make a landed file durable, and readable by the serving pod, which is another user."""
    os.fchmod(descriptor, 0o644)
    if durable:
        os.fsync(descriptor)


def is_part(name: str) -> bool:
    """Whether a file name is that of an unfinished one."""
    return name.startswith(PREFIX) and name.endswith(SUFFIX)


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset` (os.pwrite may take a part of it). Raises OSError."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


@contextmanager
def os_errors(path: Path, *, needed: int, what: str) -> Iterator[None]:
    """Turn an OSError into one of the three storage errors, in a sentence that `what` begins."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            raise StorageError(
                f"{what}: {path.parent} is full ({reason}), {needed} bytes are needed and {_free(path.parent)} are "
                "free; make room there, or point to a larger disk."
            ) from error
        if error.errno in _REFUSED:
            raise StorageDeniedError(
                f"{what}: {path} is refused ({reason}); give this user the right to it, or use another path."
            ) from error
        if error.errno in _MISNAMED:
            raise UsageError(f"{what}: {path} cannot be a file ({reason}); use another path.") from error
        if error.errno == errno.ENOENT:
            raise ObjectMissingError(f"{what}: {path} does not exist; check the path.") from error
        raise StorageError(f"{what}: {path} failed ({reason}); look at the disk and try again.") from error


def _free(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
