"""A pair of braces of a kernel's text, and what is known inside of it. Pure."""

from dataclasses import dataclass, field

from enginewright_builder.device.motion import Motion
from enginewright_builder.device.tensors import ITEM_BYTES, TensorType


@dataclass(slots=True)
class Block:
    """A pair of braces. `binds`: the index variables that it gives values; `branch`: entered under a condition;
    `together`: every thread of the team comes by; `motion`: several neighbours along an index are computed at once;
    `lane`: the one of them that this block is about; `slots`: values kept from one pass over a row to the next."""

    parent: "Block | None" = None
    binds: frozenset[str] = frozenset()
    branch: bool = False
    together: bool = False
    motion: Motion | None = None
    lane: str = ""
    slot: str = ""
    lines: list[str] = field(default_factory=list)
    known: dict[int, tuple[str, bool]] = field(default_factory=dict)  # text, and whether it is one of lanes

    def say(self, line: str) -> None:
        """Adds a statement."""
        self.lines.append(line)

    def add(self, head: str, inner: "Block") -> None:
        """Adds an inner block behind its head."""
        self.lines.append(head + " {")
        self.lines.extend("    " + line for line in inner.lines)
        self.lines.append("}")


def pack_width(kind: TensorType, width: int, divisor: int) -> int:
    """Elements that one load or store may take: a power of two, at most 16 bytes, as aligned as the operand is."""
    item = ITEM_BYTES[kind.dtype]
    made = width & -width
    while made > 1 and (divisor % made or made * item > 16 or kind.alignment % (made * item)):
        made //= 2
    return made


def moving(block: Block) -> Motion | None:
    """The motion of the block, or of the one whose lane it is about."""
    at: Block | None = block
    while at is not None:
        if at.motion is not None:
            return at.motion
        if not at.lane:
            return None
        at = at.parent
    return None
