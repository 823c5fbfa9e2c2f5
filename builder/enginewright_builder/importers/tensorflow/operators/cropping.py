"""CropAndResize: boxes of images, each sampled at a grid (tensorflow/core/kernels/image/crop_and_resize_op.cc).

ONNX's RoiAlign samples elsewhere, and its Resize takes one box for all: so the places are computed and gathered.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.tensorflow.call import Call, Table
from enginewright_builder.importers.tensorflow.scope import Tensor

_LARGEST = 1 << 16  # rows or columns of a crop


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """Along one axis, [boxes, samples]: whether a sample lies in the image, the pixels on its sides, and how far on."""

    inside: ir.Value
    low: ir.Value
    high: ir.Value
    share: ir.Value


def _crop_and_resize(call: Call) -> list[Tensor]:
    """(images [batch, height, width, channels], boxes [n, 4], image of each [n], size [2]) -> float32 crops."""
    scope, method = call.scope, call.text("method", "bilinear")
    if method not in ("bilinear", "nearest"):
        raise call.refuse(f"has the method {method!r}, wanted bilinear or nearest")
    put, ints = scope.put, scope.ints
    images = put("Cast", scope.plain(call.inputs[0]), to=ir.DataType.FLOAT)
    height, width = call.numbers(3, "size")
    if max(height, width) > _LARGEST:
        raise call.refuse(f"makes crops of {height} by {width}, wanted {_LARGEST} at most")
    sizes = put("Shape", images)
    y, x = (_axis(call, sizes, axis, count, method) for axis, count in enumerate((height, width)))
    pixels = put("Reshape", images, put("Concat", ints(-1), put("Slice", sizes, ints(3), ints(4), ints(0)), axis=0))
    images_of = put("Unsqueeze", scope.long(call.inputs[2]), ints(1, 2))
    rows, columns = (put("Slice", sizes, ints(axis), ints(axis + 1), ints(0)) for axis in (1, 2))

    def at(row: ir.Value, column: ir.Value) -> ir.Value:
        place = put("Add", put("Mul", images_of, rows), put("Unsqueeze", row, ints(2)))
        place = put("Add", put("Mul", place, columns), put("Unsqueeze", column, ints(1)))
        return put("Gather", pixels, place, axis=0)

    def between(first: ir.Value, last: ir.Value, share: ir.Value) -> ir.Value:
        return put("Add", first, put("Mul", put("Sub", last, first), share))

    value = at(y.low, x.low)
    if method == "bilinear":
        across, down = put("Unsqueeze", x.share, ints(1, 3)), put("Unsqueeze", y.share, ints(2, 3))
        top = between(value, at(y.low, x.high), across)
        value = between(top, between(at(y.high, x.low), at(y.high, x.high), across), down)
    inside = put("And", put("Unsqueeze", y.inside, ints(2, 3)), put("Unsqueeze", x.inside, ints(1, 3)))
    outside = scope.constant(np.array(call.number("extrapolation_value"), np.float32))
    return [Tensor(value=put("Where", inside, value, outside), rank=4)]


def _axis(call: Call, sizes: ir.Value, axis: int, count: int, method: str) -> _Axis:
    """Corners lie on pixels: 0 is the first one's place and 1 the last one's."""
    scope, put, ints = call.scope, call.scope.put, call.scope.ints
    boxes = scope.plain(call.inputs[1])
    start, end = (put("Slice", boxes, ints(side), ints(side + 1), ints(1)) for side in (axis, axis + 2))
    length = put("Slice", sizes, ints(axis + 1), ints(axis + 2), ints(0))
    zero, last = scope.constant(np.zeros(1, np.float32)), put("Cast", put("Sub", length, ints(1)), to=ir.DataType.FLOAT)
    if count > 1:
        steps = scope.constant(np.arange(count, dtype=np.float32).reshape(1, count))
        whole = scope.constant(np.array(count - 1, np.float32))
        step = put("Div", put("Mul", put("Sub", end, start), last), whole)
        place = put("Add", put("Mul", start, last), put("Mul", steps, step))
    else:
        half = scope.constant(np.array(0.5, np.float32))
        place = put("Mul", put("Mul", half, put("Add", start, end)), last)
    inside = put("And", put("GreaterOrEqual", place, zero), put("LessOrEqual", place, last))
    near = put("Min", put("Max", place, zero), last)
    if method == "nearest":  # halves go away from zero, as C's round has them
        near = put("Floor", put("Add", near, scope.constant(np.array(0.5, np.float32))))
    low = put("Floor", near)
    share = put("Sub", near, low)
    low, high = (put("Cast", each, to=ir.DataType.INT64) for each in (low, put("Ceil", near)))
    return _Axis(inside=inside, low=low, high=high, share=share)


TABLE: Table = {"CropAndResize": _crop_and_resize}
