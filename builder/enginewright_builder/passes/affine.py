"""y * scale + shift for each channel: which layers say that, from opset 7 on."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from enginewright_builder.network.network import Array, Network

Vector = NDArray[np.float64]


OLDEST = 7  # before it BatchNormalization and Mul said other things, and ONNX Runtime has no kernels for them either


class DeclinedError(Exception):
    """A candidate does not fit, and why; never leaves the passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """Float64, one number for each channel; None where there is nothing to do."""

    scale: Vector | None = None
    shift: Vector | None = None


def carrier_of(network: Network, node: ir.Node, carriers: Collection[str]) -> tuple[ir.Node, ir.Value] | None:
    """The layer whose result `node` scales or shifts by a constant, and that result."""
    if node.domain or node.op_type not in ("BatchNormalization", "Mul", "Div", "Add", "Sub"):
        return None
    sides = 2 if node.op_type in ("Mul", "Add") else 1
    if node.op_type != "BatchNormalization" and all(network.constant(value) is None for value in node.inputs):
        return None  # a product or a sum of two computed tensors is none of these
    for value in node.inputs[:sides]:
        producer = value.producer() if value is not None else None
        if value is None or producer is None or producer.graph is not node.graph:
            continue
        if not producer.domain and producer.op_type in carriers:
            return producer, value
    return None


def of(network: Network, node: ir.Node, made: ir.Value, *, channels: int, rank: int | None, last: bool) -> Affine:
    """What `node` does to `made`, whose channels are its last axis (`last`) or its second. `rank` None: at least 1.

    Raises DeclinedError.
    """
    if network.opset < OLDEST:
        raise DeclinedError(f"opset {network.opset} is older than {OLDEST}, where constants began to broadcast")
    if node.op_type == "BatchNormalization":
        return _batch_norm(network, node, made, channels, rank)
    other = node.inputs[1] if node.inputs[0] is made else node.inputs[0]
    array = network.constant(other)
    if array is None:
        raise DeclinedError(f"the other side of {node.op_type} is not constant")
    vector = _for_each_channel(array, channels, rank, last)
    match node.op_type:
        case "Mul":
            return Affine(scale=vector)
        case "Div":
            if not vector.all():
                raise DeclinedError("it divides by zero")
            return Affine(scale=1.0 / vector)
        case "Sub":
            return Affine(shift=-vector)
        case _:
            return Affine(shift=vector)


def rounded(wide: Vector, dtype: np.dtype[np.generic]) -> Array:
    """Float64 to the network's own type, once. Raises DeclinedError where that is not finite."""
    with np.errstate(over="ignore"):
        narrow: Array = wide.astype(dtype)
    if not np.isfinite(narrow).all():
        raise DeclinedError(f"the new weights would not be finite in {dtype}")
    return narrow


def _batch_norm(network: Network, node: ir.Node, made: ir.Value, channels: int, rank: int | None) -> Affine:
    if network.opset < 9 and not node.attributes.get_int("spatial", 1):
        raise DeclinedError("it normalizes each place on its own (spatial is 0)")
    if node.attributes.get_int("training_mode", 0) or any(value.name for value in node.outputs[1:]):
        raise DeclinedError("it is in training mode")
    if rank is None and (made.shape is None or len(made.shape) != 2):
        raise DeclinedError("it normalizes the second dimension, which is not known to be that of the weights' columns")
    arrays = [network.constant(value) for value in node.inputs[1:5]]
    if any(array is None for array in arrays):
        raise DeclinedError("its statistics are not constant")
    scale, bias, mean, variance = (array.astype(np.float64) for array in arrays if array is not None)
    if any(array.shape != (channels,) for array in (scale, bias, mean, variance)):
        raise DeclinedError(f"its statistics are not of {channels} channels")
    epsilon = float(np.float32(node.attributes.get_float("epsilon", 1e-5) or 0.0))
    if (variance + epsilon <= 0).any():
        raise DeclinedError("its variance is not positive")
    factor = scale / np.sqrt(variance + epsilon)
    return Affine(scale=factor, shift=bias - mean * factor)


def _for_each_channel(array: Array, channels: int, rank: int | None, last: bool) -> Vector:
    """One number for each channel, where the constant says no more than that and makes the result no larger."""
    if array.ndim > (1 if rank is None else rank):
        raise DeclinedError("its constant has more dimensions than the result")
    if array.dtype.kind != "f":
        raise DeclinedError("its constant is not floating point")
    axis = array.ndim - 1 if last else array.ndim - (rank or 1) + 1
    at_channel = array.shape[axis] if 0 <= axis < array.ndim else 1
    if array.size != at_channel or at_channel not in (1, channels):
        raise DeclinedError(f"its constant of shape {list(array.shape)} is not one number for each channel")
    return np.broadcast_to(array.reshape(-1), (channels,)).astype(np.float64)
