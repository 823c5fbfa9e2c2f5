"""Compiled kernels kept on disk by their content, so that equal kernels are compiled once on a machine.

The folder may be deleted at any time, and one that cannot be written to only costs time.
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

CACHE = Path.home() / ".cache" / "enginewright" / "cubins"
CACHE_BYTES = 512 << 20  # a cubin is 5 to 100 kB: some ten thousand kernels
TRIMMED_AFTER = 256  # kernels, and at a process's first: to look at ten thousand files holds all its threads for 60 ms
_stored = itertools.count()


def kept(key: Sequence[str], make: Callable[[], bytes]) -> bytes:
    """What `make` gave when it was last called for an equal `key`, or gives now."""
    path = CACHE / f"{sha256(chr(0).join(key).encode()).hexdigest()}.cubin"
    try:
        found = path.read_bytes()
        os.utime(path)
    except OSError:
        found = make()
        _keep(path, found)
    return found


def _keep(path: Path, content: bytes) -> None:
    """Written whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(content)
        Path(file.name).replace(path)
        if next(_stored) % TRIMMED_AFTER == 0:
            _trim(path.parent)
    except OSError:
        return


def _trim(folder: Path) -> None:
    """The least recently used leave until the rest fits CACHE_BYTES; other builders' come and go meanwhile."""
    found = []
    for each in folder.iterdir():
        with suppress(FileNotFoundError):
            said = each.stat()
            found.append((said.st_mtime, said.st_size, each))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= CACHE_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= size
