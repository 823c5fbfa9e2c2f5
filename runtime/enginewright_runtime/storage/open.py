"""Picks the object store for a URI, by its scheme, from a table.

The one place that knows which stores there are; whoever needs one calls `open_store` and never a class.
"""

from collections.abc import Callable, Mapping

from enginewright_runtime.errors import MissingExtraError, UsageError
from enginewright_runtime.plan.request import StoreOptions
from enginewright_runtime.storage import folder, uris
from enginewright_runtime.storage.store import ObjectStore

Opener = Callable[[StoreOptions, Mapping[str, str]], ObjectStore]


def _open_s3(options: StoreOptions, credentials: Mapping[str, str]) -> ObjectStore:
    try:
        # Here and not above: boto3 takes 0.3 s and 30 MB, and is absent where only folders are used.
        from enginewright_runtime.storage import s3
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("enginewright"):
            raise
        raise MissingExtraError(package=error.name, extra="storage", purpose="Reaching an s3:// URI") from error
    return s3.S3Store(options, credentials=credentials)


def _open_folder(_options: StoreOptions, _credentials: Mapping[str, str]) -> ObjectStore:
    return folder.FolderStore()


STORES: Mapping[str, Opener] = {
    "s3": _open_s3,  # S3 and all that speak it
    "file": _open_folder,  # this machine: no network, no credentials
}


def open_store(uri: str, options: StoreOptions, *, credentials: Mapping[str, str] | None = None) -> ObjectStore:
    """The store that `uri` (of an object or of a prefix) lies in. Nothing is asked of it yet.

    `credentials` are a Secret's entries (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and perhaps AWS_SESSION_TOKEN), for
    a process that acts for several owners; without them the process's own environment and identity count. Raises
    UsageError for a scheme that there is no store for.
    """
    opener = STORES.get(uris.scheme(uri))
    if opener is None:
        supported = ", ".join(f"{name}://" for name in STORES)
        raise UsageError(f"{uri!r} names no store that is supported: a URI must begin with one of {supported}.")
    return opener(options, credentials or {})
