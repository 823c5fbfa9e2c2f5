"""Operations that pick elements by place: slices, gathers, one-hot."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.tensorflow.call import Call, Table
from enginewright_builder.importers.tensorflow.scope import SMALL, Tensor

_END, _BEGINNING = np.iinfo(np.int64).max, np.iinfo(np.int64).min


@dataclass(slots=True)
class _Cut:
    """A strided slice as ONNX has it: what to slice on which axes, then which axes to drop, then which to insert."""

    axes: list[int] = field(default_factory=list)
    starts: list[ir.Value] = field(default_factory=list)
    ends: list[ir.Value] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    inserted: list[int] = field(default_factory=list)


def _strided_slice(call: Call) -> list[Tensor]:
    """StridedSlice with all its masks (tensorflow/core/util/strided_slice_op.h)."""
    x, begins, ends = call.inputs[:3]
    steps = call.numbers(3, "strides")
    if x.array is not None and x.array.size <= SMALL and begins.array is not None and ends.array is not None:
        return [call.scope.known(x.array[_index(call, begins.array, ends.array, steps)])]
    cut, scope = _cut(call, steps), call.scope
    value = scope.plain(x)
    if cut.axes:
        starts, stops = (scope.put("Concat", *each, axis=0) for each in (cut.starts, cut.ends))
        value = scope.put("Slice", value, starts, stops, scope.ints(*cut.axes), scope.ints(*cut.steps))
    if cut.dropped:
        value = scope.put("Squeeze", value, scope.ints(*cut.dropped))
    if cut.inserted:
        value = scope.put("Unsqueeze", value, scope.ints(*cut.inserted))
    rank = None if x.rank is None else x.rank - len(cut.dropped) + len(cut.inserted)
    return [Tensor(value=value, rank=rank)]


def _index(call: Call, begins: np.ndarray, ends: np.ndarray, steps: Sequence[int]) -> Any:
    """The same as NumPy's index, of constants."""
    masks = {name: call.integer(f"{name}_mask") for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    index: list[Any] = []
    for place, step in enumerate(steps):
        bit = 1 << place
        if masks["ellipsis"] & bit:
            index.append(Ellipsis)
        elif masks["new_axis"] & bit:
            index.append(None)
        elif masks["shrink_axis"] & bit:
            index.append(int(begins[place]))
        else:
            start = None if masks["begin"] & bit else int(begins[place])
            index.append(slice(start, None if masks["end"] & bit else int(ends[place]), step))
    return tuple(index)


def _cut(call: Call, steps: Sequence[int]) -> _Cut:
    """Axes in front of an ellipsis count from the front, those behind it from the end."""
    masks = {name: call.integer(f"{name}_mask") for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    ellipsis = next((place for place in range(len(steps)) if masks["ellipsis"] & (1 << place)), len(steps))
    if ellipsis < len(steps) - 1:
        pairs = [(range(ellipsis), 1), (range(len(steps) - 1, ellipsis, -1), -1)]
    else:
        pairs = [(range(ellipsis), 1)]
    made = _Cut()
    for places, direction in pairs:
        axis = out = 0 if direction == 1 else -1
        for place in places:
            bit = 1 << place
            if masks["new_axis"] & bit:
                made.inserted.append(out)
                out += direction
                continue
            shrinks = bool(masks["shrink_axis"] & bit)
            whole = masks["begin"] & bit and masks["end"] & bit and steps[place] == 1 and not shrinks
            if not whole:
                _add(call, made, place, axis, steps[place], masks, shrinks=shrinks)
            if shrinks:
                made.dropped.append(axis)
            else:
                out += direction
            axis += direction
    return made


def _add(call: Call, cut: _Cut, place: int, axis: int, step: int, masks: dict[str, int], *, shrinks: bool) -> None:
    bit, scope = 1 << place, call.scope
    cut.axes.append(axis)
    cut.steps.append(1 if shrinks else step)
    if masks["begin"] & bit and not shrinks:
        cut.starts.append(scope.ints(0 if step > 0 else _END))
    else:
        cut.starts.append(_element(call, 1, place))
    if shrinks:
        cut.ends.append(_behind(call, place))
    elif masks["end"] & bit:
        cut.ends.append(scope.ints(_END if step > 0 else _BEGINNING))
    else:
        cut.ends.append(_element(call, 2, place))


def _element(call: Call, index: int, place: int) -> ir.Value:
    """One element of an input as a vector of one."""
    array, scope = call.inputs[index].array, call.scope
    if array is not None:
        return scope.ints(int(array[place]))
    return scope.put("Slice", scope.long(call.inputs[index]), scope.ints(place), scope.ints(place + 1), scope.ints(0))


def _behind(call: Call, place: int) -> ir.Value:
    """The place behind the one that is kept: behind -1 it is the end."""
    array, scope = call.inputs[1].array, call.scope
    if array is not None:
        return scope.ints(int(array[place]) + 1 if array[place] != -1 else _END)
    start = _element(call, 1, place)
    last = scope.put("Equal", start, scope.ints(-1))
    return scope.put("Where", last, scope.ints(_END), scope.put("Add", start, scope.ints(1)))


def _slice(call: Call) -> list[Tensor]:
    """(input, begin, size); a size of -1 takes what is left."""
    x, begins, sizes = call.inputs
    scope = call.scope
    starts = scope.long(begins)
    if begins.array is not None and sizes.array is not None:
        begin, size = begins.array.astype(np.int64), sizes.array.astype(np.int64)
        stops = scope.constant(np.where(size == -1, _END, begin + size))
    else:
        size_ = scope.long(sizes)
        rest = scope.put("Equal", size_, scope.ints(-1))
        stops = scope.put("Where", rest, scope.ints(_END), scope.put("Add", starts, size_))
    return [Tensor(value=scope.put("Slice", scope.plain(x), starts, stops), rank=x.rank)]


def _gather(call: Call) -> list[Tensor]:
    table, places = call.inputs[:2]
    axis = call.axes(2)[0] if len(call.inputs) > 2 else 0
    if batch := call.integer("batch_dims"):
        return _gather_in_batch(call, table, places, axis, batch)
    arrays = [each.array for each in (table, places) if each.array is not None and each.array.size <= SMALL]
    if len(arrays) == 2:
        return [call.scope.known(np.take(arrays[0], arrays[1], axis))]
    value = call.scope.put("Gather", call.scope.plain(table), call.scope.plain(places), axis=axis)
    ranks = (table.rank, places.rank)
    return [Tensor(value=value, rank=None if None in ranks else sum(each or 0 for each in ranks) - 1)]


def _gather_in_batch(call: Call, table: Tensor, places: Tensor, axis: int, batch: int) -> list[Tensor]:
    rank = call.scope.rank(places)
    if batch % rank != rank - 1 or axis % call.scope.rank(table) != rank - 1:
        raise call.refuse(f"gathers with batch_dims {batch} on axis {axis}, which ONNX has no layer for")
    deep = call.scope.put("Unsqueeze", call.scope.long(places), call.scope.ints(-1))
    value = call.scope.put("GatherND", call.scope.plain(table), deep, batch_dims=rank - 1)
    return [Tensor(value=value, rank=table.rank)]


def _gather_nd(call: Call) -> list[Tensor]:
    table, places = call.inputs
    return [Tensor(value=call.scope.put("GatherND", call.scope.plain(table), call.scope.long(places)))]


def _scatter_nd(call: Call) -> list[Tensor]:
    places, updates, sizes = call.inputs
    zero = call.scope.constant(np.zeros((), dtype=call.dtype().numpy()))
    blank = call.scope.put("Expand", zero, call.scope.long(sizes))
    value = call.scope.put("ScatterND", blank, call.scope.long(places), call.scope.plain(updates), reduction="add")
    return [Tensor(value=value)]


def _tensor_scatter(call: Call) -> list[Tensor]:
    x, places, updates = call.inputs
    value = call.scope.put("ScatterND", call.scope.plain(x), call.scope.long(places), call.scope.plain(updates))
    return [Tensor(value=value, rank=x.rank)]


def _one_hot(call: Call) -> list[Tensor]:
    places, depth, on, off = call.inputs
    scope, axis = call.scope, call.integer("axis", -1)
    values = scope.put(
        "Concat", *(scope.put("Reshape", scope.plain(each), scope.ints(1)) for each in (off, on)), axis=0
    )
    # ONNX counts negative places from the end, TensorFlow has no hot element there.
    depth_, long = scope.vector(depth), scope.long(places)
    outside = scope.put("Less", long, scope.ints(0))
    value = scope.put("OneHot", scope.put("Where", outside, depth_, long), depth_, values, axis=axis)
    return [Tensor(value=value, rank=None if places.rank is None else places.rank + 1)]


def _where(call: Call) -> list[Tensor]:
    """The places of what is true, a row each."""
    found = call.scope.put("NonZero", call.scope.plain(call.inputs[0]))
    return [Tensor(value=call.scope.put("Transpose", found, perm=[1, 0]), rank=2)]


def _reverse_sequence(call: Call) -> list[Tensor]:
    x, lengths = call.inputs
    value = call.scope.put(
        "ReverseSequence",
        call.scope.plain(x),
        call.scope.long(lengths),
        batch_axis=call.integer("batch_dim"),
        time_axis=call.integer("seq_dim"),
    )
    return [Tensor(value=value, rank=x.rank)]


TABLE: Table = {
    "StridedSlice": _strided_slice,
    "Slice": _slice,
    "Gather": _gather,
    "GatherV2": _gather,
    "ResourceGather": _gather,
    "GatherNd": _gather_nd,
    "ScatterNd": _scatter_nd,
    "TensorScatterUpdate": _tensor_scatter,
    "OneHot": _one_hot,
    "Where": _where,
    "ReverseSequence": _reverse_sequence,
}
