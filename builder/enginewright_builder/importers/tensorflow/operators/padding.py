"""Padding: with a constant, and with the tensor's own elements mirrored at its edges."""

from collections.abc import Sequence

import onnx_ir as ir

from enginewright_builder.importers.tensorflow.call import Call, Convert, Table
from enginewright_builder.importers.tensorflow.scope import Tensor, channels_first

_BEGINNING = -(1 << 62)


def _pad(mode: str) -> Convert:
    """(input, widths [rank, 2], filling if the mode is constant)."""

    def convert(call: Call) -> list[Tensor]:
        x, filling = call.inputs[0], call.scope.plain(call.inputs[2]) if len(call.inputs) > 2 else None
        if call.inputs[1].array is None:
            swapped = call.scope.put("Transpose", call.scope.long(call.inputs[1]), perm=[1, 0])
            pads = call.scope.put("Reshape", swapped, call.scope.ints(-1))
            return [Tensor(value=call.scope.put("Pad", call.scope.plain(x), pads, filling, mode=mode), rank=x.rank)]
        numbers = call.numbers(1, "paddings")
        widths = list(zip(numbers[::2], numbers[1::2], strict=True))
        if x.first is not None and x.rank == len(widths):
            turned = [widths[axis] for axis in channels_first(x.rank)]
            return [Tensor(first=_padded(call, x.first, turned, mode, filling), rank=x.rank)]
        return [Tensor(value=_padded(call, call.scope.plain(x), widths, mode, filling), rank=x.rank)]

    return convert


def _padded(
    call: Call, value: ir.Value, widths: Sequence[tuple[int, int]], mode: str, filling: ir.Value | None
) -> ir.Value:
    pads = call.scope.ints(*(before for before, _ in widths), *(behind for _, behind in widths))
    return call.scope.put("Pad", value, pads, filling, mode=mode)


def _mirrored(call: Call) -> list[Tensor]:
    """REFLECT leaves the edge out, as ONNX does; SYMMETRIC repeats it, for which ONNX has no mode."""
    if call.text("mode", "REFLECT") == "REFLECT":
        return list(_pad("reflect")(call))
    x, widths = call.inputs[0], call.numbers(1, "paddings")
    places = channels_first(x.rank) if x.first is not None and x.rank is not None else range(len(widths) // 2)
    value = x.first if x.first is not None else call.scope.plain(x)
    for place, axis in enumerate(places):
        value = _symmetric(call, value, place, widths[2 * axis], widths[2 * axis + 1])
    return [Tensor(first=value, rank=x.rank) if x.first is not None else Tensor(value=value, rank=x.rank)]


def _symmetric(call: Call, value: ir.Value, axis: int, before: int, behind: int) -> ir.Value:
    """The first `before` elements backwards in front, the last `behind` of them backwards at the end."""

    def backwards(start: int, end: int) -> ir.Value:
        ints = call.scope.ints
        return call.scope.put("Slice", value, ints(start), ints(end), ints(axis), ints(-1))

    parts = [value]
    if before:
        parts.insert(0, backwards(before - 1, _BEGINNING))
    if behind:
        parts.append(backwards(-1, -1 - behind))
    return call.scope.put("Concat", *parts, axis=axis) if len(parts) > 1 else value


TABLE: Table = {"Pad": _pad("constant"), "PadV2": _pad("constant"), "MirrorPad": _mirrored}
