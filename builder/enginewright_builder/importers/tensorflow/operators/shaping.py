"""Operations that move elements: reshape, transpose, concat, split, tile, and shapes as tensors."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.tensorflow.call import Call, Table
from enginewright_builder.importers.tensorflow.scope import SMALL, Tensor, channels_first


def _reshape(call: Call) -> list[Tensor]:
    x, shape = call.inputs
    if x.array is not None and shape.array is not None:
        return [call.scope.known(x.array.reshape(shape.array))]
    empty = int(shape.array is not None and 0 in shape.array)  # a 0 is a 0, where ONNX would copy the dimension
    rank = call.rank_of(shape)
    return [
        Tensor(value=call.scope.put("Reshape", call.scope.plain(x), call.scope.long(shape), allowzero=empty), rank=rank)
    ]


def _transpose(call: Call) -> list[Tensor]:
    x, order = call.inputs[0], call.axes(1)
    if x.array is not None:
        return [call.scope.known(x.array.transpose(order))]
    rank = len(order)
    if x.first is not None and order == channels_first(rank):
        return [Tensor(value=x.first, rank=rank)]
    if x.first is not None:  # one transpose instead of two
        places = channels_first(rank)
        return [Tensor(value=call.scope.put("Transpose", x.first, perm=[places.index(a) for a in order]), rank=rank)]
    value = call.scope.plain(x)
    if order == (0, *range(2, rank), 1) and rank > 2:
        return [Tensor(first=value, value=call.scope.put("Transpose", value, perm=list(order)), rank=rank)]
    return [Tensor(value=call.scope.put("Transpose", value, perm=list(order)), rank=rank)]


def _squeeze(call: Call) -> list[Tensor]:
    x, axes = call.inputs[0], call.list("squeeze_dims")
    if x.array is not None:
        return [call.scope.known(x.array.squeeze(axes or None))]
    value = call.scope.put("Squeeze", call.scope.plain(x), call.scope.ints(*axes) if axes else None)
    return [Tensor(value=value, rank=x.rank - len(axes) if axes and x.rank is not None else None)]


def _expand_dims(call: Call) -> list[Tensor]:
    x, (axis,) = call.inputs[0], call.axes(1)
    if x.array is not None:
        return [call.scope.known(np.expand_dims(x.array, axis))]
    value = call.scope.put("Unsqueeze", call.scope.plain(x), call.scope.ints(axis))
    return [Tensor(value=value, rank=None if x.rank is None else x.rank + 1)]


def _pack(call: Call) -> list[Tensor]:
    axis, arrays = call.integer("axis"), [each.array for each in call.inputs]
    if all(array is not None and array.size <= SMALL for array in arrays):
        return [call.scope.known(np.stack([array for array in arrays if array is not None], axis))]
    rows = [_row(call, each, axis) for each in call.inputs]
    rank = next((each.rank + 1 for each in call.inputs if each.rank is not None), None)
    return [Tensor(value=call.scope.put("Concat", *rows, axis=axis), rank=rank)]


def _row(call: Call, tensor: Tensor, axis: int) -> ir.Value:
    if tensor.array is not None:
        return call.scope.constant(np.expand_dims(tensor.array, axis))
    return call.scope.put("Unsqueeze", call.scope.plain(tensor), call.scope.ints(axis))


def _unpack(call: Call) -> list[Tensor]:
    axis, count, x = call.integer("axis"), call.integer("num"), call.inputs[0]
    rows = call.scope.layer("Split", call.scope.plain(x), outputs=count, axis=axis, num_outputs=count)
    rank = None if x.rank is None else x.rank - 1
    return [Tensor(value=call.scope.put("Squeeze", each, call.scope.ints(axis)), rank=rank) for each in rows]


def _joined(call: Call, tensors: list[Tensor], axis: int) -> list[Tensor]:
    arrays = [each.array for each in tensors]
    if all(array is not None and array.size <= SMALL for array in arrays):
        return [call.scope.known(np.concatenate([array for array in arrays if array is not None], axis))]
    rank = next((each.rank for each in tensors if each.first is not None), None)
    if rank is not None and all(each.first is not None or each.rank in (rank, None) for each in tensors):
        values = [call.scope.turned(each, rank) for each in tensors]
        place = channels_first(rank).index(axis % rank)
        return [Tensor(first=call.scope.put("Concat", *values, axis=place), rank=rank)]
    rank = next((each.rank for each in tensors if each.rank is not None), None)
    return [Tensor(value=call.scope.put("Concat", *map(call.scope.plain, tensors), axis=axis), rank=rank)]


def _concat_last(call: Call) -> list[Tensor]:
    (axis,) = call.axes(len(call.inputs) - 1)
    return _joined(call, list(call.inputs[:-1]), axis)


def _concat_first(call: Call) -> list[Tensor]:
    (axis,) = call.axes(0)
    return _joined(call, list(call.inputs[1:]), axis)


def _split(call: Call) -> list[Tensor]:
    (axis,), x, count = call.axes(0), call.inputs[1], call.integer("num_split", 1)
    return _cut(call, x, axis, count, ())


def _split_by_sizes(call: Call) -> list[Tensor]:
    x, sizes, (axis,) = call.inputs[0], list(call.numbers(1, "sizes")), call.axes(2)
    if -1 in sizes:
        shape = call.scope.shape(x)
        whole = shape[axis] if shape is not None else None
        if whole is None:
            raise call.refuse("has a part that takes what is left of a dimension that is not known")
        sizes = [whole - (sum(sizes) + 1) if size == -1 else size for size in sizes]
    return _cut(call, x, axis, len(sizes), sizes)


def _cut(call: Call, x: Tensor, axis: int, count: int, sizes: Sequence[int]) -> list[Tensor]:
    """Parts of these sizes, or, of none, `count` equal ones; of a constant at once: loops cut their weights."""
    if x.array is not None:
        call.scope.budget.make(count, call.node.name)
        return [call.scope.known(part) for part in np.split(x.array, np.cumsum(sizes)[:-1] if sizes else count, axis)]
    places = call.scope.ints(*sizes) if sizes else None
    more = {} if sizes else {"num_outputs": count}
    if x.first is not None and x.rank is not None:
        place = channels_first(x.rank).index(axis % x.rank)
        parts = call.scope.layer("Split", x.first, places, outputs=count, axis=place, **more)
        return [Tensor(first=each, rank=x.rank) for each in parts]
    parts = call.scope.layer("Split", call.scope.plain(x), places, outputs=count, axis=axis, **more)
    return [Tensor(value=each, rank=x.rank) for each in parts]


def _tile(call: Call) -> list[Tensor]:
    x, times = call.inputs
    return [Tensor(value=call.scope.put("Tile", call.scope.plain(x), call.scope.long(times)), rank=x.rank)]


def _shape(call: Call) -> list[Tensor]:
    x, to = call.inputs[0], call.dtype("out_type") if "out_type" in call.node.attributes else ir.DataType.INT32
    known = call.scope.shape(x)
    if known is not None and None not in known:
        return [call.scope.known(np.array(known, dtype=to.numpy()))]
    value = call.scope.put("Cast", call.scope.put("Shape", call.scope.plain(x)), to=to)
    return [Tensor(value=value, rank=1)]


def _size(call: Call) -> list[Tensor]:
    value = call.scope.put("Size", call.scope.plain(call.inputs[0]))
    return [Tensor(value=call.scope.put("Cast", value, to=ir.DataType.INT32), rank=0)]


def _rank(call: Call) -> list[Tensor]:
    return [call.scope.known(np.array(call.scope.rank(call.inputs[0]), dtype=np.int32))]


def _range(call: Call) -> list[Tensor]:
    arrays = [each.array for each in call.inputs]
    if all(array is not None for array in arrays):
        start, limit, step = (array.item() for array in arrays if array is not None)
        if step and abs((limit - start) / step) <= SMALL:
            dtype = arrays[0].dtype if arrays[0] is not None else None
            return [call.scope.known(np.arange(start, limit, step, dtype=dtype))]
    values = [call.scope.plain(each) for each in call.inputs]
    return [Tensor(value=call.scope.put("Range", *values), rank=1)]


def _fill(call: Call) -> list[Tensor]:
    sizes, filling = call.inputs
    rank = None if sizes.array is None else call.rank_of(sizes)
    value = call.scope.put("Expand", call.scope.plain(filling), call.scope.long(sizes))
    return [Tensor(value=value, rank=rank)]


def _broadcast_to(call: Call) -> list[Tensor]:
    x, sizes = call.inputs
    rank = None if sizes.array is None else call.rank_of(sizes)
    return [Tensor(value=call.scope.put("Expand", call.scope.plain(x), call.scope.long(sizes)), rank=rank)]


def _reverse(call: Call) -> list[Tensor]:
    x, axes = call.inputs[0], call.axes(1)
    ends, steps = call.scope.ints(*[-(1 << 62)] * len(axes)), call.scope.ints(*[-1] * len(axes))
    starts = call.scope.ints(*[-1] * len(axes))
    value = call.scope.put("Slice", call.scope.plain(x), starts, ends, call.scope.ints(*axes), steps)
    return [Tensor(value=value, rank=x.rank)]


def _band_part(call: Call) -> list[Tensor]:
    """(input, how many diagonals below are kept, how many above); below 0: all."""
    x, scope = call.inputs[0], call.scope
    (below,), (above,) = call.numbers(1, "band"), call.numbers(2, "band")
    value, dtype = scope.plain(x), call.dtype()
    narrow = dtype is ir.DataType.INT32  # for which ONNX Runtime has no kernel
    value = scope.put("Cast", value, to=ir.DataType.INT64) if narrow else value
    if above >= 0:
        value = scope.put("Trilu", value, scope.constant(np.array(above, np.int64)), upper=0)
    if below >= 0:
        value = scope.put("Trilu", value, scope.constant(np.array(-below, np.int64)), upper=1)
    return [Tensor(value=scope.put("Cast", value, to=dtype) if narrow else value, rank=x.rank)]


TABLE: Table = {
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "ExpandDims": _expand_dims,
    "Pack": _pack,
    "Unpack": _unpack,
    "ConcatV2": _concat_last,
    "Concat": _concat_first,
    "Split": _split,
    "SplitV": _split_by_sizes,
    "Tile": _tile,
    "Shape": _shape,
    "Size": _size,
    "Rank": _rank,
    "Range": _range,
    "Fill": _fill,
    "BroadcastTo": _broadcast_to,
    "ReverseV2": _reverse,
    "MatrixBandPart": _band_part,
}
