"""Layers that move numbers without changing them."""

import math
from collections.abc import Sequence

from enginewright_builder.importers.caffe.layer import Layer
from enginewright_builder.importers.caffe.writing import Blob


def concat(layer: Layer) -> Sequence[Blob]:
    """Blobs behind each other along one axis; all others are the same."""
    given, bottoms = layer.message.concat_param, layer.bottoms
    axis = layer.axis(given.concat_dim if given.HasField("concat_dim") else given.axis)
    shapes = [bottom.shape for bottom in bottoms]
    if len({(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}) != 1 or len({len(s) for s in shapes}) != 1:
        layer.wrong(f"its blobs differ beside the axis {axis}: {[list(shape) for shape in shapes]}")
    if len(bottoms) == 1:
        return [layer.x]
    made = list(layer.x.shape)
    made[axis] = sum(shape[axis] for shape in shapes)
    return [layer.write.blob("Concat", [bottom.value for bottom in bottoms], made, axis=axis)]


def slice_blob(layer: Layer) -> Sequence[Blob]:
    """Pieces of one axis: equal ones, or cut at the points that are given."""
    given, x = layer.message.slice_param, layer.x
    axis = layer.axis(given.slice_dim if given.HasField("slice_dim") else given.axis)
    size = x.shape[axis]
    points = list(given.slice_point)
    if not points and size % layer.tops == 0:
        points = [size // layer.tops * number for number in range(1, layer.tops)]
    sizes = [end - start for start, end in zip([0, *points], [*points, size], strict=True)]
    if len(sizes) != layer.tops or min(sizes) < 1:
        layer.wrong(f"it cuts the axis {axis} of {size} at {points} into {layer.tops}")
    if layer.tops == 1:
        return [x]
    pieces = layer.write.values("Split", [x.value, layer.write.constant(sizes, "sizes")], outputs=layer.tops, axis=axis)
    shapes = [(*x.shape[:axis], piece, *x.shape[axis + 1 :]) for piece in sizes]
    return [Blob(value, shape) for value, shape in zip(pieces, shapes, strict=True)]


def flatten(layer: Layer) -> Sequence[Blob]:
    """Some neighbouring axes as one."""
    given, shape = layer.message.flatten_param, layer.x.shape
    first, last = layer.axis(given.axis), layer.axis(given.end_axis)
    if last < first:
        layer.wrong(f"it flattens the axes {first} to {last}")
    return [layer.write.reshape(layer.x, (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))]


def reshape(layer: Layer) -> Sequence[Blob]:
    """Some axes in another shape: 0 keeps what was there, -1 is what is left."""
    given, shape = layer.message.reshape_param, layer.x.shape
    rank = len(shape)
    axis = given.axis + rank + 1 if given.axis < 0 else given.axis
    end = rank if given.num_axes == -1 else axis + given.num_axes
    if not 0 <= axis <= end <= rank:
        layer.wrong(f"it reshapes {given.num_axes} axes from {given.axis} on of the shape {list(shape)}")
    wanted = list(given.shape.dim)
    for index, size in enumerate(wanted):
        if size == 0:
            if axis + index >= rank:
                layer.wrong(f"it keeps the axis {axis + index} of the shape {list(shape)}")
            wanted[index] = shape[axis + index]
    made = [*shape[:axis], *wanted, *shape[end:]]
    if made.count(-1) == 1:
        known = math.prod(size for size in made if size != -1)
        made[made.index(-1)] = math.prod(shape) // known if known else 0
    if min(made, default=1) < 1 or math.prod(made) != math.prod(shape):
        layer.wrong(f"it makes {list(given.shape.dim)} of the shape {list(shape)}")
    return [layer.write.reshape(layer.x, made)]


def permute(layer: Layer) -> Sequence[Blob]:
    """The axes in another order; those that are not named follow."""
    shape, order = layer.x.shape, list(layer.message.permute_param.order)
    if len(set(order)) != len(order) or max(order, default=0) >= len(shape):
        layer.wrong(f"it orders the axes of the shape {list(shape)} as {order}")
    order += [axis for axis in range(len(shape)) if axis not in order]
    if order == sorted(order):
        return [layer.x]
    return [layer.write.blob("Transpose", [layer.x.value], [shape[axis] for axis in order], perm=order)]


def crop(layer: Layer) -> Sequence[Blob]:
    """The first bottom, from an axis on as large as the second."""
    given, write, x = layer.message.crop_param, layer.write, layer.x
    axis = layer.axis(given.axis)
    like, offsets = layer.bottoms[1].shape, list(given.offset) or [0]
    axes = range(axis, len(x.shape))
    if len(offsets) == 1:
        offsets *= len(axes)
    if len(like) != len(x.shape) or len(offsets) != len(axes):
        layer.wrong(f"it crops {list(x.shape)} to {list(like)} from axis {axis} on at {offsets}")
    ends = [offset + like[a] for offset, a in zip(offsets, axes, strict=True)]
    if any(end > x.shape[a] for end, a in zip(ends, axes, strict=True)):
        layer.wrong(f"it crops {list(x.shape)} to {list(like)} from axis {axis} on at {offsets}, which lies outside")
    bounds = [write.constant(numbers, what) for numbers, what in ((offsets, "from"), (ends, "to"), (axes, "axes"))]
    return [write.blob("Slice", [x.value, *bounds], (*x.shape[:axis], *like[axis:]))]


def tile(layer: Layer) -> Sequence[Blob]:
    """The blob some times behind itself along one axis."""
    given, x = layer.message.tile_param, layer.x
    axis = layer.axis(given.axis)
    if given.tiles < 1:
        layer.wrong(f"it repeats its blob {given.tiles} times")
    repeats = [given.tiles if index == axis else 1 for index in range(len(x.shape))]
    made = [size * times for size, times in zip(x.shape, repeats, strict=True)]
    return [layer.write.blob("Tile", [x.value, layer.write.constant(repeats, "repeats")], made)]


def silence(layer: Layer) -> Sequence[Blob]:
    """Nothing: it only takes a blob away from the network's outputs."""
    return []
