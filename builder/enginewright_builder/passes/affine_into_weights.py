"""conv(x, w) * s + t => conv(x, w * s) + t: batch norm and per-channel constants disappear into weights and bias.

The layer before may be Conv, ConvTranspose, Gemm or MatMul; the affine layer BatchNormalization in its inference form,
or Mul, Div, Add, Sub by a constant for each channel (Caffe's Scale). New weights are computed in float64 and rounded
once, whenever they are asked for: the network before the pass keeps the old ones, and both would be twice the model.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from enginewright_builder.network import rewire
from enginewright_builder.network.network import Array, Network, only_use
from enginewright_builder.passes import affine
from enginewright_builder.passes.affine import Affine, DeclinedError
from enginewright_builder.passes.base import PassReport

Vector = NDArray[np.float64]

_CARRIERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineIntoWeights:
    """See the module. A chain is taken up one layer after the other."""

    name: str = "affine-into-weights"
    reason: str = "a scale and a shift for each channel cost a pass over the tensor, and nothing inside of the weights"

    def apply(self, network: Network) -> PassReport:
        """Declines what is shared, what trains, and what would not be finite."""
        details: list[str] = []
        declined: list[str] = []
        for node in list(network.layers()):
            found = affine.carrier_of(network, node, _CARRIERS)
            if found is None:
                continue
            carrier, made = found
            try:
                _fold(network, node, carrier, made)
            except DeclinedError as reason:
                declined.append(f"{carrier.name} + {node.name}: {reason}")
            else:
                details.append(f"{carrier.name} + {node.name}: {node.op_type} into the weights of {carrier.op_type}")
        if details:
            rewire.drop_unread_constants(network)
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))


def _fold(network: Network, node: ir.Node, carrier: ir.Node, made: ir.Value) -> None:
    if only_use(made) is not node:
        raise DeclinedError("the result between them is read elsewhere")
    weights = _constant(network, carrier.inputs[1], "weights")
    channels = _channels(carrier, weights)
    rank = {"Gemm": 2, "MatMul": None}.get(carrier.op_type, weights.ndim)
    change = affine.of(network, node, made, channels=channels, rank=rank, last=rank in (2, None))
    if change.shift is not None and carrier.op_type == "MatMul":
        if node.op_type != "BatchNormalization":
            raise DeclinedError("MatMul has no bias; the fusion adds it")
        _into_matmul(network, node, carrier, weights, change)
        return
    if change.scale is not None and len(tuple(_value(carrier.inputs[1]).uses())) > 1:
        raise DeclinedError("its weights are shared with another layer")
    bias = _new_bias(network, carrier, channels, change, weights.dtype)
    if change.scale is not None:
        _scale(network, carrier, weights, change.scale)
    _shift(network, carrier, bias)
    _close_up(network, node, made)


def _into_matmul(network: Network, node: ir.Node, carrier: ir.Node, weights: Array, change: Affine) -> None:
    """matmul(x, w) then batch norm => matmul(x, w * s) + t, an Add that the fusion takes up."""
    assert change.shift is not None, "a batch norm has a shift"
    shift = affine.rounded(change.shift, weights.dtype)
    if change.scale is not None:
        _scale(network, carrier, weights, change.scale)
    result = node.outputs[0]
    between = carrier.outputs[0]
    add = ir.Node("", "Add", [between, network.add_constant(f"{between.name}_shift", shift)], name=node.name)
    add.outputs[0].type, add.outputs[0].shape = result.type, result.shape
    add.outputs[0].name = network.fresh(f"{between.name}_shifted")
    network.graph.insert_before(node, add)
    rewire.take_over(network, result, add.outputs[0])
    rewire.remove(network, node)


def _new_bias(
    network: Network, carrier: ir.Node, channels: int, change: Affine, dtype: np.dtype[np.generic]
) -> Array | None:
    """The bias after the change, in the weights' type; None where there is none before and none is needed."""
    given = carrier.inputs[2] if len(carrier.inputs) > 2 else None
    if given is None and change.shift is None:
        return None
    old: Vector = np.zeros(channels)
    if given is not None:
        array = _constant(network, given, "bias").astype(np.float64)
        if carrier.op_type == "Gemm":
            array = array * (carrier.attributes.get_float("beta", 1.0) or 0.0)
        if array.size not in (1, channels) or array.shape[-1:] not in ((), (1,), (channels,)):
            raise DeclinedError("its bias is not one number for each channel")
        old = np.broadcast_to(array.reshape(-1), (channels,)).astype(np.float64)
    new = old * (1.0 if change.scale is None else change.scale) + (0.0 if change.shift is None else change.shift)
    return affine.rounded(new, dtype)


def _factors(carrier: ir.Node, weights: Array, scale: Vector) -> Vector:
    """The scale of each output channel, in a shape that multiplies the weights."""
    rest = [1] * (weights.ndim - 1)
    match carrier.op_type:
        case "Conv":
            return scale.reshape(-1, *rest)
        case "ConvTranspose":  # (in, out / groups, …), where the input channels of one group lie together
            groups = carrier.attributes.get_int("group", 1) or 1
            each = np.repeat(scale.reshape(groups, -1), weights.shape[0] // groups, axis=0)
            return each.reshape(*weights.shape[:2], *rest[1:])
        case "Gemm" if carrier.attributes.get_int("transB", 0):
            return scale.reshape(-1, 1)
        case _:
            return scale


def _scaled(weights: Array, factors: Vector) -> Array:
    return affine.rounded(weights.astype(np.float64) * factors, weights.dtype)


def _scale(network: Network, carrier: ir.Node, weights: Array, scale: Vector) -> None:
    """What would not be finite is declined now, so the new weights are computed here too."""
    factors = _factors(carrier, weights, scale)
    _scaled(weights, factors)
    old = _value(carrier.inputs[1])
    assert old.const_value is not None, "weights are constant"
    new = network.add_later_constant(f"{old.name}_folded", old.const_value, lambda old: _scaled(old, factors))
    carrier.replace_input_with(1, new)


def _shift(network: Network, carrier: ir.Node, bias: Array | None) -> None:
    if bias is not None:
        if len(carrier.inputs) < 3:
            carrier.resize_inputs(3)
        like = f"{carrier.outputs[0].name}_bias" if carrier.inputs[2] is None else f"{carrier.inputs[2].name}_folded"
        carrier.replace_input_with(2, network.add_constant(like, bias))
        if carrier.op_type == "Gemm":
            carrier.attributes["beta"] = ir.AttrFloat32("beta", 1.0)


def _close_up(network: Network, node: ir.Node, made: ir.Value) -> None:
    made.shape = made.shape or node.outputs[0].shape
    rewire.take_over(network, node.outputs[0], made)
    rewire.remove(network, node)


def _channels(carrier: ir.Node, weights: Array) -> int:
    match carrier.op_type:
        case "Conv":
            return weights.shape[0]
        case "ConvTranspose":
            return weights.shape[1] * (carrier.attributes.get_int("group", 1) or 1)
        case "Gemm" if carrier.attributes.get_int("transB", 0):
            return weights.shape[0]
        case _:
            if weights.ndim != 2:
                raise DeclinedError("its weights are no matrix")
            return weights.shape[1]


def _constant(network: Network, value: ir.Value | None, what: str) -> Array:
    array = network.constant(value)
    if array is None:
        raise DeclinedError(f"its {what} are not constant" if what == "weights" else f"its {what} is not constant")
    if _value(value).dtype not in _FLOATS:
        raise DeclinedError(f"its {what} are not floating point")
    return array


def _value(value: ir.Value | None) -> ir.Value:
    assert value is not None, "a carrier has weights"
    return value
