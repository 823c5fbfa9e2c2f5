"""What a storage URI means. Pure: nothing here looks at a disk or a network.

`s3://bucket/key` holds the key as it is, as every S3 tool writes it; `file:///path` is percent-encoded, as RFC 8089
asks. A URI must never climb out of the folder it names: segments "." and ".." are refused in both, however written.
"""

import re
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from enginewright_runtime.errors import UsageError

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_KEY_LIMIT = 1024  # bytes of UTF-8; S3 User Guide, "Object key names"


def scheme(uri: str) -> str:
    """The part before "://", in lower case; empty if there is none."""
    name, separator, _ = uri.partition("://")
    return name.lower() if separator else ""


def to_bucket_and_key(uri: str) -> tuple[str, str]:
    """The bucket and the key (empty for the bucket itself) of an s3:// URI. Raises UsageError."""
    bucket, _, key = uri[len("s3://") :].partition("/")
    if scheme(uri) != "s3" or not _BUCKET.fullmatch(bucket):
        raise UsageError(f"{uri!r} is not the URI of an object: it must look like s3://bucket/key.")
    if not _encodable(key) or len(key.encode()) > _KEY_LIMIT:
        raise UsageError(f"The key of {uri[:100]!r} is not a key: it must be text of at most {_KEY_LIMIT} bytes.")
    _refuse_climbing(uri, key.split("/"))
    return bucket, key


def to_path(uri: str) -> Path:
    """The absolute path that a file:// URI names. Raises UsageError."""
    host, slash, rest = uri[len("file://") :].partition("/")
    if scheme(uri) != "file" or host not in ("", "localhost") or not slash:
        raise UsageError(f"{uri!r} is not the URI of a file: it must look like file:///absolute/path.")
    if "?" in rest or "#" in rest:
        raise UsageError(f"{uri!r} is not the URI of a file: write '?' as %3F and '#' as %23.")
    segments = [unquote_to_bytes(segment) for segment in rest.split("/")]
    if any(b"/" in segment or b"\0" in segment for segment in segments):
        raise UsageError(f"{uri!r} is not the URI of a file: a name in it holds an encoded slash or a zero byte.")
    names = [segment.decode("utf-8", "surrogateescape") for segment in segments]
    _refuse_climbing(uri, names)
    return Path("/", *names)


def from_path(path: Path) -> str:
    """The file:// URI of an absolute path, whatever bytes its name holds."""
    return "file://" + quote(bytes(path), safe="/")


def require_prefix(uri: str) -> str:
    """The URI itself, if it can be a prefix of URIs. Raises UsageError: "a" is also the beginning of "ab/c"."""
    if not uri.endswith("/"):
        raise UsageError(f"{uri!r} is not a prefix to list: it must end in '/'.")
    return uri


def _encodable(text: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def _refuse_climbing(uri: str, segments: list[str]) -> None:
    if "." in segments or ".." in segments:
        raise UsageError(f"{uri!r} has a segment '.' or '..', which is refused: write the path without it.")
