"""What layers ask of their arguments, each question with the sentence that refuses a wrong one."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import onnx_ir as ir

from enginewright_builder.network import text
from enginewright_runtime.errors import UsageError

Line = TypeVar("Line")
Sizes = int | Sequence[int]


def of(tensor: ir.Value, layer: str, *, least: int = 0, most: int = 64) -> tuple[int | str, ...]:
    """The sizes of a tensor, a free one as its word. Raises UsageError where their number is not known or not fit."""
    if tensor.shape is None:
        raise UsageError(f"The layer {layer!r} must know the rank of {tensor.name!r}, which depends on values.")
    sizes = tuple(size if isinstance(size, int) else size.value or "?" for size in tensor.shape)
    if not least <= len(sizes) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}" if most < 64 else f"{least} or more"
        raise UsageError(
            f"The layer {layer!r} takes {wanted} dimensions, and {tensor.name!r} is {text.type_text(tensor)}."
        )
    return sizes


def axis(tensor: ir.Value, wanted: int, layer: str) -> int:
    """An axis counted from the front. Raises UsageError for one that there is not."""
    rank = len(of(tensor, layer))
    if not -rank <= wanted < rank:
        raise UsageError(f"The layer {layer!r} has no axis {wanted} in {tensor.name!r} {text.type_text(tensor)}.")
    return wanted % rank


def fixed(tensor: ir.Value, wanted: int, layer: str) -> int:
    """The size of a dimension that weights depend on. Raises UsageError where it is free."""
    size = of(tensor, layer)[axis(tensor, wanted, layer)]
    if not isinstance(size, int):
        raise UsageError(
            f"The layer {layer!r} must know dimension {wanted} of {tensor.name!r} {text.type_text(tensor)}: fix it in "
            "add_input."
        )
    return size


def require(tensor: ir.Value, wanted: Sequence[int | str], layer: str, role: str) -> None:
    """Raises UsageError for a tensor of other sizes; a free one fits any."""
    got = of(tensor, layer)
    pairs = zip(got, wanted, strict=False)
    if len(got) != len(wanted) or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs):
        listed = ", ".join(map(str, wanted))
        raise UsageError(
            f"The {role} of the layer {layer!r} must be [{listed}], and {tensor.name!r} is {text.type_text(tensor)}."
        )


def each(given: Sizes, rank: int, layer: str, what: str, *, least: int = 1) -> list[int]:
    """One number for each of `rank` dimensions, from one for all or from as many. Raises UsageError."""
    sizes = [given] * rank if isinstance(given, int) else list(given)
    if len(sizes) != rank or any(size < least for size in sizes):
        raise UsageError(
            f"The {what} of the layer {layer!r} must be one number of {least} or more, or {rank} of them, got {given}."
        )
    return sizes


def chosen(table: Mapping[str, Line], kind: str, what: str) -> Line:
    """The line of a table. Raises UsageError with all there are."""
    if kind not in table:
        raise UsageError(f"{what} must be one of {', '.join(table)}, got {kind!r}.")
    return table[kind]
