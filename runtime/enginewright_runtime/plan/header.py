"""A plan's first 64 bytes: how long its parts are, and the digest from which every other byte follows.

The manifest has the sha256 that stands here, each blob the one that stands in the manifest, and the rest must be zero:
so who signs these 64 bytes signs the whole plan, and checking it costs the same for every size.
"""

import mmap
import struct
from dataclasses import dataclass, replace
from pathlib import Path

from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan import signature
from enginewright_runtime.plan.manifest import FORMAT_VERSION

MAGIC = b"\x89EWPLAN\n"  # a high byte and a line feed, as PNG's, show transfers that were not binary
HEADER = struct.Struct(
    "<8sIIQQ32s"
)  # magic, version, signatures' length, manifest length, file length, manifest sha256
MANIFEST_LIMIT = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the header says. `file_bytes` counts the signatures, which are the last bytes of the file."""

    manifest_bytes: int
    file_bytes: int
    manifest_sha256: bytes
    signature_bytes: int = 0

    @property
    def content_bytes(self) -> int:
        """The file's length without its signatures."""
        return self.file_bytes - self.signature_bytes

    @property
    def signed(self) -> bytes:
        """The message that a signature is of: the same for a plan before and after it was signed."""
        return signature.CONTEXT + replace(self, file_bytes=self.content_bytes, signature_bytes=0).pack()

    def with_signatures(self, count: int) -> "Header":
        """The header of the same plan, followed by so many bytes of signatures."""
        return replace(self, file_bytes=self.content_bytes + count, signature_bytes=count)

    def pack(self) -> bytes:
        """The 64 bytes."""
        return HEADER.pack(
            *(MAGIC, FORMAT_VERSION, self.signature_bytes),
            *(self.manifest_bytes, self.file_bytes, self.manifest_sha256),
        )


def read(mapped: mmap.mmap, path: Path) -> Header:
    """The header of a file, its lengths compared with the file's own. Raises PlanError."""
    magic, version, signatures, length, total, digest = HEADER.unpack_from(mapped)
    if magic != MAGIC:
        raise PlanError(
            f"{path} is not a plan: it starts with {magic!r}, and a plan starts with {MAGIC!r}; "
            "give a file that enginewright build wrote."
        )
    if version != FORMAT_VERSION:
        raise PlanError(
            f"The plan {path} is of format version {version}, and this runtime reads {FORMAT_VERSION}: "
            "build it again, or use the runtime of the builder's version."
        )
    if total != len(mapped):
        raise PlanError(
            f"The plan {path} is damaged: it should have {total} bytes and has {len(mapped)}; fetch it again."
        )
    if signatures > min(signature.LIMIT, len(mapped) - HEADER.size):
        raise PlanError(f"The plan {path} is damaged: its signatures claim {signatures} bytes, more than there can be.")
    if length > min(MANIFEST_LIMIT, len(mapped) - signatures - HEADER.size):
        raise PlanError(f"The plan {path} is damaged: its manifest claims {length} bytes, more than there can be.")
    return Header(manifest_bytes=length, file_bytes=total, manifest_sha256=digest, signature_bytes=signatures)
