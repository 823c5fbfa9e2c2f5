"""A plan file: 64 bytes of header, the manifest as JSON, blobs at aligned offsets, signatures; nothing between them.

Everything is checked before it is used, and nothing is allocated by what a header claims: lengths are compared with
the file's own before a byte is read, the manifest's sha256 stands in the header, a blob's in the manifest, and blobs
must fill the file exactly, in order, with zeroes as padding. Blobs are read through mmap, so that a plan costs no
memory until its pages are touched. docs/plan-format.md is the same in prose.
"""

import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan import header, records, signature
from enginewright_runtime.plan.header import HEADER, MANIFEST_LIMIT, Header
from enginewright_runtime.plan.manifest import FORMAT_VERSION, Blob, Manifest

ALIGNMENT = 256
HASHERS = 8  # threads: a processor hashes 0.4 to 2 GB/s, and Python's lock is free meanwhile

Buffer = bytes | bytearray | memoryview


def layout(blobs: Mapping[str, Buffer]) -> dict[str, Blob]:
    """The blob table for these bytes: in the mapping's order, each at the next aligned offset."""
    table: dict[str, Blob] = {}
    end = 0
    for (name, data), digest in zip(blobs.items(), digests(blobs.values()), strict=True):
        offset = _aligned(end)
        size = memoryview(data).nbytes
        table[name] = Blob(offset=offset, bytes=size, sha256=digest)
        end = offset + size
    return table


def digests(contents: Iterable[Buffer]) -> list[str]:
    """The sha256 of each, as 64 hexadecimal digits, on several processors."""
    with ThreadPoolExecutor(HASHERS) as pool:
        return list(pool.map(lambda content: sha256(content).hexdigest(), contents))


def write(
    path: Path,
    manifest: Manifest,
    blobs: Mapping[str, Buffer],
    *,
    sign: signature.Sign | None = None,
    durable: bool = True,
) -> None:
    """Write a plan atomically: a reader finds the old file or the whole new one, never a part; if it is `durable`,
    after a power cut too.

    `manifest.blobs` must be `layout(blobs)`. Raises PlanError if it is not, OSError if the disk refuses.
    """
    if manifest.blobs != layout(blobs):
        raise PlanError(f"The plan {path} cannot be written: the manifest's blob table is not that of its blobs.")
    text = records.canonical(manifest)
    if len(text) > MANIFEST_LIMIT:
        raise PlanError(
            f"The plan {path} cannot be written: its manifest has {len(text)} bytes, and no reader takes more than "
            f"{MANIFEST_LIMIT}; build fewer shapes into one plan."
        )
    base = _aligned(HEADER.size + len(text))
    last = max((blob.offset + blob.bytes for blob in manifest.blobs.values()), default=0)
    head = Header(manifest_bytes=len(text), file_bytes=base + last, manifest_sha256=sha256(text).digest())
    signatures = signature.encode((sign(head.signed),)) if sign else b""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path, durable=durable) as file:
        file.write(head.with_signatures(len(signatures)).pack() + text)
        for blob_name, data in blobs.items():
            _pad_to(base + manifest.blobs[blob_name].offset, file)
            file.write(data)
        _pad_to(base + last, file)
        file.write(signatures)


def add_signature(path: Path, sign: signature.Sign) -> signature.Signature:
    """Sign a plan that there is, atomically; its other signatures stay. Raises PlanError for what is no plan."""
    with PlanFile(path) as plan:
        head, new = plan.header, sign(plan.header.signed)
        signatures = signature.encode(signature.added(plan.signatures, new))
    with path.open("rb") as old, _replacing(path) as file:
        shutil.copyfileobj(old, file)
        file.truncate(head.content_bytes)
        file.seek(0)
        file.write(head.with_signatures(len(signatures)).pack())
        file.seek(0, os.SEEK_END)
        file.write(signatures)
    return new


@contextmanager
def _replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place when the block is done, and is gone when the block fails."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class PlanFile:
    """A plan opened for reading. Close it, or use it in a `with`; views of its blobs keep the mapping alive."""

    def __init__(self, path: Path, *, check: signature.Check | None = None) -> None:
        """Open and check header, manifest and blob table (not yet the blobs). Raises PlanError.

        `check` judges the signatures before anything else of the plan is read.
        """
        self.path = path
        self._map = _map(path)
        try:
            self.header = header.read(self._map, path)
            self.signatures = signature.decode(self._map[self.header.content_bytes :], path)
            if check is not None:
                check(path, self.header.signed, self.signatures)
            self.manifest, self._base = _read_manifest(self._map, self.header, path)
            _check_table(self._map, self._base, self.manifest.blobs, self.header, path)
        except BaseException:
            self.close()
            raise

    def blob(self, name: str) -> memoryview:
        """The bytes of a blob, read-only, without a copy, after its sha256 was checked. Raises PlanError."""
        entry = self.manifest.blobs.get(name)
        if entry is None:
            raise PlanError(f"The plan {self.path} has no blob {records.shown(name)!r}: build it again.")
        start = self._base + entry.offset
        view = memoryview(self._map)[start : start + entry.bytes]
        if sha256(view).hexdigest() != entry.sha256:
            raise PlanError(
                f"The plan {self.path} is damaged: blob {records.shown(name)!r} does not have the sha256 that its "
                "manifest gives; fetch or build it again."
            )
        return view

    def blobs(self) -> dict[str, memoryview]:
        """The bytes of all blobs, as `blob` gives one, on several processors. Raises PlanError at the first that is
        damaged."""
        names = list(self.manifest.blobs)
        with ThreadPoolExecutor(HASHERS) as pool:
            return dict(zip(names, pool.map(self.blob, names), strict=True))

    def verify(self) -> None:
        """Check the sha256 of every blob. Raises PlanError at the first that is damaged."""
        for view in self.blobs().values():
            view.release()

    def close(self) -> None:
        """Let go of the file. While views of blobs are alive the mapping stays until they are gone."""
        try:
            self._map.close()
        except BufferError:
            return  # a view is still in use: the mapping goes with the last one

    def __enter__(self) -> "PlanFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _map(path: Path) -> mmap.mmap:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            size = os.fstat(file.fileno()).st_size
            if size < HEADER.size:
                raise PlanError(
                    f"{path} is not a plan: it has {size} bytes, and a plan's header alone has {HEADER.size}."
                )
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PlanError(f"The plan {str(path)!r} cannot be read: {reason}; check the path.") from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a named pipe would wait for a writer that never comes


def _read_manifest(mapped: mmap.mmap, head: Header, path: Path) -> tuple[Manifest, int]:
    text = mapped[HEADER.size : HEADER.size + head.manifest_bytes]
    if sha256(text).digest() != head.manifest_sha256:
        raise PlanError(f"The plan {path} is damaged: its manifest does not have the sha256 that the header gives.")
    what = f"The manifest of the plan {path}"
    manifest = records.from_json(Manifest, records.parse(text, what=what), what=what)
    _check_references(manifest, path)
    return manifest, _aligned(HEADER.size + head.manifest_bytes)


def _check_references(manifest: Manifest, path: Path) -> None:
    tensors = [tensor for golden in manifest.goldens for tensor in (*golden.inputs.values(), *golden.outputs.values())]
    segments = [segment for schedule in manifest.schedules for segment in schedule.segments]
    named = {tensor.blob for tensor in tensors} | {segment.blob for segment in segments}
    unknown = named - set(manifest.blobs)
    if unknown:
        name = records.shown(min(unknown))
        raise PlanError(f"The plan {path} is damaged: it names the blob {name!r}, which it does not have.")
    for golden in manifest.goldens:
        if not 0 <= golden.schedule < len(manifest.schedules):
            raise PlanError(
                f"The plan {path} is damaged: a golden is of schedule {golden.schedule}, and there are "
                f"{len(manifest.schedules)}, counted from 0."
            )
    if manifest.format != FORMAT_VERSION:
        raise PlanError(f"The plan {path} is damaged: its manifest says that it is of format {manifest.format}.")


def _check_table(mapped: mmap.mmap, base: int, blobs: Mapping[str, Blob], head: Header, path: Path) -> None:
    end, file_end, whole = 0, HEADER.size + head.manifest_bytes, head.content_bytes
    for name, blob in sorted(blobs.items(), key=lambda item: (item[1].offset, item[1].bytes)):
        if blob.offset != _aligned(end) or blob.bytes < 0 or base + blob.offset + blob.bytes > whole:
            raise PlanError(
                f"The plan {path} is damaged: blob {records.shown(name)!r} claims {blob.bytes} bytes at {blob.offset}, "
                "which does not follow the blob before it or lies outside the file."
            )
        start = base + blob.offset
        if any(mapped[file_end:start]):
            raise PlanError(
                f"The plan {path} is damaged: there are bytes before blob {records.shown(name)!r} that belong to "
                "nothing."
            )
        end, file_end = blob.offset + blob.bytes, start + blob.bytes
    wanted = base + end
    if wanted != whole:
        raise PlanError(f"The plan {path} is damaged: its blobs end at {wanted}, and the file at {whole}.")
    if any(mapped[file_end:wanted]):
        raise PlanError(f"The plan {path} is damaged: there are bytes after its manifest that belong to nothing.")


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _pad_to(offset: int, file: BinaryIO) -> None:
    file.write(bytes(offset - file.tell()))
