"""CropAndResize: boxes of images, each sampled at a grid (tensorflow/core/kernels/image/crop_and_resize_op.cc).

ONNX's RoiAlign samples elsewhere, and its Resize takes one box for all. So a sample between pixels is written as the
product of weights and pixels, of which two ways are given to an If: small images, as the features of a detector's
second stage, are multiplied whole by the weights of their rows and then of their columns; of others the four pixels
around each sample are gathered. Shapes decide, so where they are fixed a pass leaves one of the two.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.tensorflow.call import Call, Table
from enginewright_builder.importers.tensorflow.scope import Scope, Tensor

_LARGEST = 1 << 16  # rows or columns of a crop
_PRODUCTS = 128  # for a number of a crop: what gathering it costs, measured on a CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """Along one axis, [boxes, samples]: the sample's place on the image, and whether that lies inside."""

    place: ir.Value
    inside: ir.Value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Crops:
    """Crops of `size` of images [batch, height, width, channels] with these `sizes`; `image` of each box [n]."""

    images: ir.Value
    sizes: ir.Value
    image: ir.Value
    y: _Axis
    x: _Axis
    size: tuple[int, int]


def _crop_and_resize(call: Call) -> list[Tensor]:
    """(images [batch, height, width, channels], boxes [n, 4], image of each [n], size [2]) -> float32 crops."""
    scope, method = call.scope, call.text("method", "bilinear")
    if method not in ("bilinear", "nearest"):
        raise call.refuse(f"has the method {method!r}, wanted bilinear or nearest")
    put = scope.put
    images = put("Cast", scope.plain(call.inputs[0]), to=ir.DataType.FLOAT)
    height, width = call.numbers(3, "size")
    if max(height, width) > _LARGEST:
        raise call.refuse(f"makes crops of {height} by {width}, wanted {_LARGEST} at most")
    sizes = put("Shape", images)
    y, x = (_axis(call, sizes, axis, count) for axis, count in enumerate((height, width)))
    image = scope.long(call.inputs[2])
    crops = _Crops(images=images, sizes=sizes, image=image, y=y, x=x, size=(height, width))
    value = _nearest(scope, crops) if method == "nearest" else _bilinear(scope, crops)
    inside = put("And", put("Unsqueeze", y.inside, scope.ints(2, 3)), put("Unsqueeze", x.inside, scope.ints(1, 3)))
    extrapolation = call.number("extrapolation_value")
    outside = scope.constant(np.array(extrapolation, np.float32))
    if method == "bilinear":  # there it is 0 already
        if extrapolation == 0:
            return [Tensor(value=value, rank=4)]
        inside = put("Cast", inside, to=ir.DataType.FLOAT)
        rest = put("Mul", put("Sub", _number(scope, 1), inside), outside)
        return [Tensor(value=put("Add", value, rest), rank=4)]
    return [Tensor(value=put("Where", inside, value, outside), rank=4)]


def _axis(call: Call, sizes: ir.Value, axis: int, count: int) -> _Axis:
    """Corners lie on pixels: 0 is the first one's place and 1 the last one's."""
    scope, put, ints = call.scope, call.scope.put, call.scope.ints
    boxes = scope.plain(call.inputs[1])
    start, end = (put("Slice", boxes, ints(side), ints(side + 1), ints(1)) for side in (axis, axis + 2))
    length = put("Slice", sizes, ints(axis + 1), ints(axis + 2), ints(0))
    zero, last = scope.constant(np.zeros(1, np.float32)), put("Cast", put("Sub", length, ints(1)), to=ir.DataType.FLOAT)
    if count > 1:
        steps = scope.constant(np.arange(count, dtype=np.float32).reshape(1, count))
        step = put("Div", put("Mul", put("Sub", end, start), last), _number(scope, count - 1))
        place = put("Add", put("Mul", start, last), put("Mul", steps, step))
    else:
        place = put("Mul", put("Mul", _number(scope, 0.5), put("Add", start, end)), last)
    inside = put("And", put("GreaterOrEqual", place, zero), put("LessOrEqual", place, last))
    return _Axis(place=put("Min", put("Max", place, zero), last), inside=inside)


def _nearest(scope: Scope, crops: _Crops) -> ir.Value:
    """Halves go away from zero, as C's round has them."""
    near = (
        scope.put("Unsqueeze", scope.put("Floor", scope.put("Add", axis.place, _number(scope, 0.5))), scope.ints(2))
        for axis in (crops.y, crops.x)
    )
    return scope.put("Squeeze", _gathered(scope, crops, *near, of=1), scope.ints(3))


def _bilinear(scope: Scope, crops: _Crops) -> ir.Value:
    """Zeros outside of the image."""
    put, ints = scope.put, scope.ints
    scope.describe()
    batch, rows, columns, _ = (put("Slice", crops.sizes, ints(axis), ints(axis + 1)) for axis in range(4))
    across = ints(crops.size[1])
    products = put("Add", put("Mul", put("Mul", batch, rows), columns), put("Mul", columns, across))
    few = put("Squeeze", put("LessOrEqual", products, put("Mul", across, ints(_PRODUCTS))))
    bodies = []
    for role, write in (("then", _multiplied), ("else", _weighed)):
        inside = scope.body(role)
        inside.graph.outputs.append(write(inside, crops))
        bodies.append(inside.graph)
    value = put("If", few, then_branch=bodies[0], else_branch=bodies[1])
    value.type = ir.TensorType(ir.DataType.FLOAT)
    return value


def _multiplied(scope: Scope, crops: _Crops) -> ir.Value:
    """Weights of all rows, of all images, times the images; then weights of all columns times that."""
    put, ints = scope.put, scope.ints

    def weights(axis: _Axis, count: ir.Value) -> ir.Value:
        """[n, samples, count]: 1 at the sample's place, 0 a pixel away."""
        far = put("Abs", put("Sub", put("Unsqueeze", axis.place, ints(2)), put("Cast", _range(scope, count), to=1)))
        near = put("Relu", put("Sub", _number(scope, 1), far))
        return put("Mul", near, put("Cast", put("Unsqueeze", axis.inside, ints(2)), to=1))

    batch, rows, columns, _ = (put("Slice", crops.sizes, ints(axis), ints(axis + 1)) for axis in range(4))
    own = put("Cast", put("Equal", put("Unsqueeze", crops.image, ints(1)), _range(scope, batch)), to=1)
    down = put("Mul", put("Unsqueeze", weights(crops.y, rows), ints(2)), put("Unsqueeze", own, ints(1, 3)))
    strips = put("MatMul", put("Flatten", down, axis=2), put("Flatten", crops.images, axis=2))
    shape = put("Concat", ints(-1, crops.size[0]), put("Slice", crops.sizes, ints(2), ints(4)), axis=0)
    return put("MatMul", put("Unsqueeze", weights(crops.x, columns), ints(1)), put("Reshape", strips, shape))


def _weighed(scope: Scope, crops: _Crops) -> ir.Value:
    """The four pixels around each sample, times their weights."""
    put, ints = scope.put, scope.ints

    def sides(axis: _Axis) -> tuple[ir.Value, ir.Value]:
        """[n, samples, 2]: the pixels before and behind, and their weights."""
        low, inside = put("Floor", axis.place), put("Cast", axis.inside, to=1)
        share = put("Sub", axis.place, low)
        pairs = (
            (low, put("Ceil", axis.place)),
            (put("Mul", inside, put("Sub", _number(scope, 1), share)), put("Mul", inside, share)),
        )
        pixels, weights = (put("Concat", *(put("Unsqueeze", e, ints(2)) for e in pair), axis=2) for pair in pairs)
        return pixels, weights

    (row, down), (column, across) = sides(crops.y), sides(crops.x)
    weights = put("Mul", put("Unsqueeze", down, ints(2, 4)), put("Unsqueeze", across, ints(1, 3)))
    pixels = _gathered(scope, crops, row, column, of=4)
    return put("Squeeze", put("MatMul", put("Reshape", weights, ints(0, 0, 0, 1, 4)), pixels), ints(3))


def _gathered(scope: Scope, crops: _Crops, row: ir.Value, column: ir.Value, *, of: int) -> ir.Value:
    """Pixels at rows [n, height, k] and columns [n, width, k] -> [n, height, width, k * k, channels]; `of` is k * k."""
    put, ints = scope.put, scope.ints
    rows, columns, channels = (put("Slice", crops.sizes, ints(axis), ints(axis + 1)) for axis in (1, 2, 3))
    row, column = (put("Cast", each, to=ir.DataType.INT64) for each in (row, column))
    above = put("Mul", put("Unsqueeze", crops.image, ints(1, 2)), rows)  # rows of the images before
    down = put("Unsqueeze", put("Mul", put("Add", row, above), columns), ints(2, 4))
    place = put("Reshape", put("Add", down, put("Unsqueeze", column, ints(1, 3))), ints(0, 0, 0, of))
    return put("Gather", put("Reshape", crops.images, put("Concat", ints(-1), channels, axis=0)), place, axis=0)


def _range(scope: Scope, count: ir.Value) -> ir.Value:
    """0, 1, ... up to a count that is a vector of one."""
    zero, one = (scope.constant(np.array(number, np.int64)) for number in (0, 1))
    return scope.put("Range", zero, scope.put("Squeeze", count), one)


def _number(scope: Scope, number: float) -> ir.Value:
    return scope.constant(np.array(number, np.float32))


TABLE: Table = {"CropAndResize": _crop_and_resize}
