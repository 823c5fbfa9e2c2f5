"""Moves that need no kernel: a value that is another one seen through other strides. Pure.

Each function answers with the strides (and offsets, in elements) of the result, or None where no strides say it.
"""

from collections.abc import Sequence

import onnx_ir as ir

from enginewright_builder.device.tensors import TensorType
from enginewright_builder.network.network import Network, static_shape

RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
MOVES = RESHAPES | {"Transpose", "Split", "Slice", "Gather"}


def of_layer(network: Network, node: ir.Node, seen: TensorType) -> list[tuple[TensorType, int]] | None:
    """The outputs of a layer as views of its first input, which lies as `seen`; None where they need a copy."""
    shapes = [static_shape(value) for value in node.outputs if value.name]
    if any(shape is None for shape in shapes):
        return None
    known = [shape for shape in shapes if shape is not None]
    if node.op_type in RESHAPES:
        strides = reshaped(seen.shape, seen.strides, known[0])
        return None if strides is None else [(_with(seen, known[0], strides), 0)]
    match node.op_type:
        case "Transpose":
            order = _permutation(node, len(seen.shape))
            return [(_with(seen, known[0], tuple(seen.strides[axis] for axis in order)), 0)]
        case "Split":
            return _split(node, seen, known) if len(known) == len(node.outputs) else None
        case "Slice":
            return _slice(network, node, seen, known[0])
        case "Gather":
            return _one_of(network, node, seen, known[0])
        case _:
            return None


def reshaped(old: Sequence[int], strides: Sequence[int], new: Sequence[int]) -> tuple[int, ...] | None:
    """Strides of a tensor of shape `old` seen in C order of its indices as `new`; None where there are none."""
    runs: list[tuple[int, int]] = []  # (extent, stride), innermost first; neighbours that follow each other are one
    for extent, stride in zip(reversed(old), reversed(strides), strict=True):
        if extent == 1:
            continue
        if runs and stride == runs[-1][0] * runs[-1][1]:
            runs[-1] = (runs[-1][0] * extent, runs[-1][1])
        else:
            runs.append((extent, stride))
    result: list[int] = []
    left, step = runs.pop(0) if runs else (1, 1)
    for extent in reversed(new):
        if extent == 1:
            result.append(step)
            continue
        if left == 1 and runs:
            left, step = runs.pop(0)
        if left % extent:
            return None
        result.append(step)
        left, step = left // extent, step * extent
    return tuple(reversed(result))


def order_before(node: ir.Node, wanted: TensorType, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a Transpose's input of `shape` for which its output lies as `wanted`."""
    strides = [0] * len(shape)
    for axis, source in enumerate(_permutation(node, len(shape))):
        strides[source] = wanted.strides[axis]
    return tuple(strides)


def _with(seen: TensorType, shape: tuple[int, ...], strides: tuple[int, ...]) -> TensorType:
    return TensorType(dtype=seen.dtype, shape=shape, strides=strides)


def _permutation(node: ir.Node, rank: int) -> tuple[int, ...]:
    order = node.attributes.get_ints("perm", None)
    return tuple(order) if order else tuple(reversed(range(rank)))


def _split(node: ir.Node, seen: TensorType, shapes: list[tuple[int, ...]]) -> list[tuple[TensorType, int]]:
    axis = (node.attributes.get_int("axis", 0) or 0) % len(seen.shape)
    made, start = [], 0
    for shape in shapes:
        made.append((_with(seen, shape, seen.strides), start * seen.strides[axis]))
        start += shape[axis]
    return made


def _slice(
    network: Network, node: ir.Node, seen: TensorType, shape: tuple[int, ...]
) -> list[tuple[TensorType, int]] | None:
    starts = _argument(network, node, "starts", 1)
    axes = _argument(network, node, "axes", 3)
    steps = _argument(network, node, "steps", 4)
    if starts is None or any(step != 1 for step in steps or ()) or (axes is None and len(node.inputs) > 3
                                                                     and node.inputs[3] is not None):  # fmt: skip
        return None
    if steps is None and len(node.inputs) > 4 and node.inputs[4] is not None:
        return None
    offset = 0
    for axis, start in zip(axes if axes is not None else range(len(starts)), starts, strict=True):
        extent = seen.shape[axis]
        first = min(max(start + extent if start < 0 else start, 0), extent)
        offset += first * seen.strides[axis]
    return [(_with(seen, shape, seen.strides), offset)]


def _one_of(
    network: Network, node: ir.Node, seen: TensorType, shape: tuple[int, ...]
) -> list[tuple[TensorType, int]] | None:
    """A Gather of one constant index, which drops the axis."""
    array = network.constant(node.inputs[1])
    if array is None or array.ndim:
        return None
    axis = (node.attributes.get_int("axis", 0) or 0) % len(seen.shape)
    place = int(array.item()) % max(seen.shape[axis], 1)
    strides = (*seen.strides[:axis], *seen.strides[axis + 1 :])
    return [(_with(seen, shape, strides), place * seen.strides[axis])]


def _argument(network: Network, node: ir.Node, name: str, place: int) -> list[int] | None:
    """What opsets before 10 keep in an attribute and later ones in an input, if it is constant."""
    if network.opset < 10:
        given = node.attributes.get_ints(name, None)
        return None if given is None else list(given)
    array = network.constant(node.inputs[place]) if len(node.inputs) > place else None
    return None if array is None else [int(item) for item in array.reshape(-1)]
