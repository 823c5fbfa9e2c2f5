"""Moving many bytes to and from S3: parts in parallel, pinned to one version, verified.

boto3's own transfer manager is not used because it takes no If-None-Match, which the first of two writers is told by,
and does not verify an object that is fetched in ranges. Nothing here outlives its call: a multipart upload that fails
is aborted, threads are joined.
"""

import base64
import os
import random
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from hashlib import sha1, sha256
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError as TransportError

from enginewright_runtime.errors import StorageError
from enginewright_runtime.storage import landing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, HeadObjectOutputTypeDef

SHA256_ENTRY = "enginewright-sha256"  # user metadata: the digest of the whole object, which no store has to know about

_CHUNK = 1 << 20
_PARTS_LIMIT = 9_000  # S3 takes 10,000
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes in bytes, times in seconds. An object above `single` is stored in parts of `part` or more."""

    single: int = 64 << 20
    part: int = 16 << 20
    workers: int = 4
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    attempts: int = 5
    pause: float = 0.5

    def wait(self, attempt: int) -> None:
        """Sleep before another attempt: exponential, with full jitter, so that two writers part company."""
        time.sleep(random.uniform(0, self.pause * 2**attempt))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file being stored: an open descriptor, its size and sha256, and whether it may replace an object."""

    descriptor: int
    bytes: int
    sha256: str
    overwrite: bool

    @property
    def condition(self) -> dict[str, Any]:
        """The condition of the write: that there be no object, unless it may be replaced."""
        return {} if self.overwrite else {"IfNoneMatch": "*"}

    @property
    def metadata(self) -> dict[str, str]:
        """What is kept beside the object."""
        return {SHA256_ENTRY: self.sha256}


class Digest(Protocol):
    """A hash that is fed in chunks."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""

    def digest(self) -> bytes:
        """The value so far."""


class Crc32:
    """CRC-32 as a Digest, big endian as S3 writes it."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        """The value so far."""
        return self._value.to_bytes(4, "big")


CHECKSUMS: Mapping[str, Callable[[], Digest]] = {
    "ChecksumSHA256": sha256,  # each only where the store computed it over the whole object
    "ChecksumSHA1": sha1,
    "ChecksumCRC32": Crc32,
}


def put_whole(client: "S3Client", bucket: str, key: str, source: Source) -> None:
    """Store a file in one request. Raises what boto3 raises."""
    with os.fdopen(os.dup(source.descriptor), "rb") as body:
        body.seek(0)
        client.put_object(Bucket=bucket, Key=key, Body=body, Metadata=source.metadata, **source.condition)


def put_in_parts(client: "S3Client", bucket: str, key: str, source: Source, limits: Limits, *, checksums: bool) -> None:
    """Store a file in parallel parts, all or nothing. Raises what boto3 raises, after aborting the upload."""
    algorithm: dict[str, Any] = {"ChecksumAlgorithm": "CRC32"} if checksums else {}
    upload = client.create_multipart_upload(Bucket=bucket, Key=key, Metadata=source.metadata, **algorithm)["UploadId"]

    def put(part: tuple[int, int, int]) -> "CompletedPartTypeDef":
        number, offset, size = part
        answer = client.upload_part(
            Bucket=bucket,
            Key=key,
            UploadId=upload,
            PartNumber=number,
            Body=_read(source.descriptor, offset, size),
            **algorithm,
        )
        done: CompletedPartTypeDef = {"PartNumber": number, "ETag": answer["ETag"]}
        if answer.get("ChecksumCRC32"):
            done["ChecksumCRC32"] = answer["ChecksumCRC32"]
        return done

    try:
        parts = _in_parallel(put, _parts(source.bytes, limits), limits.workers)
        client.complete_multipart_upload(
            Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, **source.condition
        )
    except BaseException:
        with suppress(BotoCoreError, ClientError):  # the first error is the one to tell
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
        raise


def get(
    client: "S3Client", bucket: str, key: str, head: "HeadObjectOutputTypeDef", target: int, limits: Limits
) -> None:
    """Fetch an object of which `head` was told into the descriptor `target`, in parallel ranges of that version.

    Raises what boto3 raises, StorageError if fewer or more bytes came, OSError if the disk refuses.
    """
    size = head["ContentLength"]

    def fetch(part: tuple[int, int, int]) -> None:
        _, offset, length = part
        # Without a range botocore verifies the store's own checksum as well.
        span: dict[str, Any] = {} if length == size else {"Range": f"bytes={offset}-{offset + length - 1}"}
        for attempt in range(limits.attempts):
            try:
                answer = client.get_object(Bucket=bucket, Key=key, IfMatch=head["ETag"], **span)
                with closing(answer["Body"]) as body:
                    return _receive(body, target, offset, length, f"s3://{bucket}/{key}")
            except (BotoCoreError, TransportError, StorageError):
                # The connection broke in the middle of the body, where botocore itself does not try again.
                if attempt + 1 == limits.attempts:
                    raise
                limits.wait(attempt)

    _in_parallel(fetch, _parts(size, limits), limits.workers)


def verify(head: "HeadObjectOutputTypeDef", target: int, *, uri: str) -> None:
    """Compare what was fetched with every whole-object checksum that is known. Raises StorageError."""
    wanted: dict[str, bytes] = {}
    with suppress(ValueError):
        wanted["sha256"] = bytes.fromhex(head.get("Metadata", {}).get(SHA256_ENTRY, ""))
    known: Mapping[str, Any] = head
    # Of parts, a store may keep the checksum of their checksums; not each says so, but the ETag shows the parts.
    if known.get("ChecksumType", "COMPOSITE" if "-" in head["ETag"] else "FULL_OBJECT") == "FULL_OBJECT":
        for name in CHECKSUMS:
            if known.get(name):
                wanted[name] = base64.b64decode(known[name])
    hashes = {name: CHECKSUMS.get(name, sha256)() for name, value in wanted.items() if value}
    for _, offset, length in _parts(head["ContentLength"], Limits(part=_CHUNK)) if hashes else ():
        data = _read(target, offset, length)
        for digest in hashes.values():
            digest.update(data)
    for name, digest in hashes.items():
        if digest.digest() != wanted[name]:
            raise StorageError(
                f"The bytes of {uri} are damaged: they should have the {name.removeprefix('Checksum')} "
                f"{wanted[name].hex()} and have {digest.digest().hex()}; fetch it again, and if that does not help "
                "store it again."
            )


def _receive(body: Any, target: int, offset: int, length: int, uri: str) -> None:
    left = length
    while data := body.read(min(_CHUNK, left + 1)):
        if len(data) > left:
            break
        landing.write_all(target, data, offset + length - left)
        left -= len(data)
    else:
        if left == 0:
            return
    sent = "more" if data else f"{left} fewer"
    raise StorageError(f"The store sent {sent} bytes of {uri} than the {length} that were asked for: try again.")


def _in_parallel(task: Callable[[_Item], _Answer], items: Iterable[_Item], workers: int) -> list[_Answer]:
    todo = list(items)
    if len(todo) == 1:
        return [task(todo[0])]
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="s3") as pool:
        futures = [pool.submit(task, item) for item in todo]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _parts(size: int, limits: Limits) -> list[tuple[int, int, int]]:
    """(number from 1, offset, length) of each part; one empty part for an empty object."""
    length = max(limits.part, -(-size // _PARTS_LIMIT))
    offsets = range(0, size, length) if size else (0,)
    return [(number, offset, min(length, size - offset)) for number, offset in enumerate(offsets, start=1)]


def _read(descriptor: int, offset: int, size: int) -> bytes:
    data = os.pread(descriptor, size, offset)
    while len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
        data += more
    return data
