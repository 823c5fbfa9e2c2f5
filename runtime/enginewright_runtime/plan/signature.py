"""A plan's signatures: what is signed, and how signatures lie in the file. Who checks them is not decided here.

The standard library has no ed25519, so the arithmetic lives in enginewright_runtime.signing; a Check from there is
called by PlanFile before anything of the plan is used but its header.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from enginewright_runtime.plan import records

CONTEXT = b"enginewright.dev/plan/v1\n"  # before every signed message: a signature of a plan is none of anything else
LIMIT = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One key's signature: `key` is the sha256 of the public key's DER (hexadecimal), `value` is in base64."""

    key: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Signatures:
    """What follows a plan's last blob, as JSON."""

    signatures: tuple[Signature, ...] = ()


Sign = Callable[[bytes], Signature]
Check = Callable[[Path, bytes, Sequence[Signature]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """How a builder signs its plans, and how it knows them again."""

    sign: Sign
    check: Check


def encode(signatures: Sequence[Signature]) -> bytes:
    """The bytes that follow the last blob; none where there is no signature."""
    return records.canonical(Signatures(signatures=tuple(signatures))) if signatures else b""


def decode(text: bytes, path: Path) -> tuple[Signature, ...]:
    """The signatures at the end of a file. Raises PlanError for what is not such a list."""
    if not text:
        return ()
    what = f"The signature list of the plan {path}"
    return records.from_json(Signatures, records.parse(text, what=what), what=what).signatures


def added(signatures: Sequence[Signature], new: Signature) -> tuple[Signature, ...]:
    """The list with a signature more; one of the same key is replaced."""
    return (*(each for each in signatures if each.key != new.key), new)
