"""Which file it is, by its content: what a recipe calls its inputs.

Light to import, and a model can be hashed ahead, while the rest of a build is imported: Python is free meanwhile.
"""

from concurrent.futures import Future
from hashlib import file_digest
from pathlib import Path
from threading import Thread

SHA256 = "sha256:"

_ahead: dict[Path, Future[str]] = {}


def begin(path: Path) -> None:
    """Hash a file in a thread; `of` has the answer, once, or the error. A process that ends does not wait for it."""
    answer = _ahead[path] = Future[str]()

    def hashed() -> None:
        try:
            answer.set_result(_hashed(path))
        except OSError as error:
            answer.set_exception(error)

    Thread(target=hashed, name="identity", daemon=True).start()


def of(path: Path) -> str:
    """ "sha256:" and 64 hexadecimal digits. Raises OSError."""
    begun = _ahead.pop(path, None)
    return _hashed(path) if begun is None else begun.result()


def _hashed(path: Path) -> str:
    with path.open("rb") as file:
        return SHA256 + file_digest(file, "sha256").hexdigest()
