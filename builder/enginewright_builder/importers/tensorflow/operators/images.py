"""Operations on images: resizing with its corner conventions, depth and space, space and batch."""

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.tensorflow.call import Call, Convert, Table
from enginewright_builder.importers.tensorflow.operators import windows
from enginewright_builder.importers.tensorflow.scope import Tensor


def _resize(mode: str) -> Convert:
    """(images NHWC, [height, width]). Corners: aligned, half a pixel in, or the old scale from the origin."""

    def convert(call: Call) -> list[Tensor]:
        scope, image = call.scope, call.scope.turned(call.inputs[0], 4)
        aligned, half = call.flag("align_corners"), call.flag("half_pixel_centers")
        corners = "align_corners" if aligned else "half_pixel" if half else "asymmetric"
        sizes = scope.put("Concat", _batch_and_channels(call, image), scope.long(call.inputs[1]), axis=0)
        # Nearest: the place is rounded where corners are aligned, (x + 0.5) scale is cut off with half pixels, x scale
        # without: with ONNX's half pixels, which subtract 0.5 again, the second is rounding too.
        rounding = "round_prefer_ceil" if aligned or half else "floor"
        extra = {"nearest_mode": rounding} if mode == "nearest" else {}
        if mode == "linear" and "T" in call.node.attributes and not call.dtype().is_floating_point():
            image = scope.put("Cast", image, to=ir.DataType.FLOAT)  # its result is float32 whatever it is given
        value = scope.put(
            "Resize", image, None, None, sizes, mode=mode, coordinate_transformation_mode=corners, **extra
        )
        return [Tensor(first=value, rank=4)]

    return convert


def _batch_and_channels(call: Call, image: ir.Value) -> ir.Value:
    return call.scope.put("Shape", image, start=0, end=2)


def _depth_to_space(call: Call) -> list[Tensor]:
    image = windows.given(call, 0, 4)
    value = call.scope.put("DepthToSpace", image, blocksize=call.integer("block_size"), mode="DCR")
    return [windows.made(call, value, 4)]


def _space_to_depth(call: Call) -> list[Tensor]:
    """ONNX's operator orders depth as TensorFlow does: the block's place before the channel."""
    image = windows.given(call, 0, 4)
    value = call.scope.put("SpaceToDepth", image, blocksize=call.integer("block_size"))
    return [windows.made(call, value, 4)]


def _space_to_batch(call: Call) -> list[Tensor]:
    """(input [batch, spatial…, rest…], block [m], paddings [m, 2]): the definition, as reshapes."""
    scope, x = call.scope, call.inputs[0]
    block = call.numbers(1, "block shape")
    widths = call.constant(2, "paddings")
    rank, many = scope.rank(x), len(block)
    pads = np.zeros((2, rank), dtype=np.int64)
    pads[:, 1 : 1 + many] = widths.T
    padded = scope.put("Pad", scope.plain(x), scope.ints(*(int(each) for each in pads.reshape(-1))))
    sizes = scope.put("Shape", padded)
    parts = [_part(call, sizes, 0)]
    for axis, step in enumerate(block, start=1):
        parts += [scope.put("Div", _part(call, sizes, axis), scope.ints(step)), scope.ints(step)]
    rest = scope.put("Slice", sizes, scope.ints(1 + many), scope.ints(1 << 31), scope.ints(0))
    split = scope.put("Reshape", padded, scope.put("Concat", *parts, rest, axis=0))
    blocks, spatial = [2 + 2 * axis for axis in range(many)], [1 + 2 * axis for axis in range(many)]
    order = [*blocks, 0, *spatial, *range(1 + 2 * many, rank + many)]
    turned = scope.put("Transpose", split, perm=order)
    batch = scope.put("Mul", parts[0], scope.ints(int(np.prod(block))))
    shape = scope.put("Concat", batch, *parts[1::2], rest, axis=0)
    return [Tensor(value=scope.put("Reshape", turned, shape), rank=rank)]


def _batch_to_space(call: Call) -> list[Tensor]:
    """(input, block [m], crops [m, 2]): the inverse."""
    scope, x = call.scope, call.inputs[0]
    block = call.numbers(1, "block shape")
    crops = call.constant(2, "crops").astype(np.int64)
    rank, many = scope.rank(x), len(block)
    value = scope.plain(x)
    sizes = scope.put("Shape", value)
    batch = scope.put("Div", _part(call, sizes, 0), scope.ints(int(np.prod(block))))
    spatial = [_part(call, sizes, axis) for axis in range(1, 1 + many)]
    rest = scope.put("Slice", sizes, scope.ints(1 + many), scope.ints(1 << 31), scope.ints(0))
    split = scope.put("Reshape", value, scope.put("Concat", scope.ints(*block), batch, *spatial, rest, axis=0))
    order = [many]
    for axis in range(many):
        order += [many + 1 + axis, axis]
    turned = scope.put("Transpose", split, perm=[*order, *range(2 * many + 1, rank + many)])
    wide = [scope.put("Mul", each, scope.ints(step)) for each, step in zip(spatial, block, strict=True)]
    joined = scope.put("Reshape", turned, scope.put("Concat", batch, *wide, rest, axis=0))
    if not crops.any():
        return [Tensor(value=joined, rank=rank)]
    starts = scope.ints(*(int(each) for each in crops[:, 0]))
    stops = scope.put("Sub", scope.put("Concat", *wide, axis=0), scope.constant(crops[:, 1]))
    cut = scope.put("Slice", joined, starts, stops, scope.ints(*range(1, 1 + many)))
    return [Tensor(value=cut, rank=rank)]


def _part(call: Call, sizes: ir.Value, axis: int) -> ir.Value:
    scope = call.scope
    return scope.put("Slice", sizes, scope.ints(axis), scope.ints(axis + 1), scope.ints(0))


TABLE: Table = {
    "ResizeBilinear": _resize("linear"),
    "ResizeNearestNeighbor": _resize("nearest"),
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "SpaceToBatchND": _space_to_batch,
    "BatchToSpaceND": _batch_to_space,
}
