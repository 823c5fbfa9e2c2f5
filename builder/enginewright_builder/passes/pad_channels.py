"""conv(x, w) => conv(pad(x), pad(w)): channels filled up with zeros to what the kernels read and write at once.

Input channels that are no multiple of 8 get a Pad before the convolution; output channels a Slice after it, which is a
view. Where a padded convolution reads a sliced one, both go: the zeros are already there. A stem of at most four
channels is left alone, or padded to four, since its kernels read it as it is.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from enginewright_builder.network import fused, rewire
from enginewright_builder.network.network import FUSED_DOMAIN, Array, Network, static_shape
from enginewright_builder.passes.base import PassReport

_STEM = 4
# What is 0 for 0, so that filled up channels stay 0 behind it.
_KEEPS_ZERO = frozenset(
    {"", "Relu", "LeakyRelu", "Tanh", "Elu", "Selu", "Softsign", "HardSwish", "Celu", "Mish", "Gelu", "Sigmoid"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PadChannels:
    """See the module. `stem` is to what convolutions of at most four channels are padded; 0 leaves them."""

    multiple: int = 8
    stem: int = 0
    name: str = "pad-channels"
    reason: str = "tensor cores and 16-byte reads want channels in eights"

    def apply(self, network: Network) -> PassReport:
        """Counts convolutions; declines those whose weights are not constant, and grouped ones."""
        details: list[str] = []
        declined: list[str] = []
        for node in list(network.layers()):
            if node.op_type not in ("Conv", "FusedConv") or node.domain not in ("", FUSED_DOMAIN):
                continue
            shape = static_shape(node.inputs[1])
            if shape is None:
                continue
            wanted, outputs = self._wanted(shape[1]), -(-shape[0] // self.multiple) * self.multiple
            if (shape[1], shape[0]) == (wanted, outputs):
                continue
            why = _refusal(network, node)
            if why:
                declined.append(f"{node.name}: {why}")
                continue
            said = []
            if wanted != shape[1]:
                said.append(f"{shape[1]} to {wanted} input channels" + _pad_inputs(network, node, wanted))
            if outputs != shape[0] and not _reads_whole(node):
                _pad_outputs(network, node, outputs)
                said.append(f"{shape[0]} to {outputs} output channels")
            elif outputs != shape[0]:
                declined.append(
                    f"{node.name}: its {shape[0]} output channels stay, a residual or the border has as many"
                )
            details += [f"{node.name}: {', '.join(said)}"] if said else []
        if details:
            rewire.drop_unread_constants(network)
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))

    def _wanted(self, channels: int) -> int:
        if channels <= _STEM:
            return max(channels, self.stem)
        return -(-channels // self.multiple) * self.multiple


def _refusal(network: Network, node: ir.Node) -> str:
    if node.attributes.get_int("group", 1) != 1:
        return "it is grouped, and each group's channels lie together"
    _, weights, bias, _ = fused.padded_inputs(node)
    if any(network.constant(value) is None for value in (weights, bias) if value is not None):
        return "its weights are not constant"
    if fused.pair_of(node) is not None or fused.pool_of(node) is not None:
        return "it has a pair or a pool"
    return "" if static_shape(node.inputs[0]) and static_shape(node.outputs[0]) else "its shapes are not known"


def _reads_whole(node: ir.Node) -> bool:
    return fused.padded_inputs(node)[3] is not None or node.outputs[0].is_graph_output()


def _pad_inputs(network: Network, node: ir.Node, wanted: int) -> str:
    """Returns a remark for the report."""
    x, weights = node.inputs[:2]
    shape = static_shape(x)
    array = network.constant(weights)
    assert x is not None, f"{node.name} has an input"
    assert weights is not None, f"{node.name} has weights"
    assert shape is not None, f"the shape of {x.name} was checked"
    assert array is not None, f"{weights.name} was checked"
    more = wanted - array.shape[1]
    node.replace_input_with(1, network.add_constant(f"{weights.name}_padded", _filled(array, 1, more)))
    wide = _before_slice(x, wanted)
    if wide is not None:
        node.replace_input_with(0, wide)
        return ", which are there already"
    pads = [0, 0] + [0] * (len(shape) - 2) + [0, more] + [0] * (len(shape) - 2)
    pad = _pad(network, x, pads, f"Pad:{node.name}_channels")
    made = pad.outputs[0]
    made.name, made.type = network.fresh(f"{x.name}_padded"), x.type
    made.shape = ir.Shape([shape[0], wanted, *shape[2:]])
    network.graph.insert_before(node, pad)
    node.replace_input_with(0, made)
    return ""


def _pad(network: Network, x: ir.Value, pads: list[int], name: str) -> ir.Node:
    if network.opset < 11:
        return ir.Node("", "Pad", [x], [ir.AttrInt64s("pads", pads)], name=name)
    return ir.Node("", "Pad", [x, network.add_constant(f"{x.name}_pads", np.array(pads, np.int64))], name=name)


def _before_slice(x: ir.Value, wanted: int) -> ir.Value | None:
    """The wider tensor of which x is the beginning, if its further channels are zeros of this pass."""
    node = x.producer()
    if node is None or node.op_type != "Slice" or node.metadata_props.get(_OURS) != "zeros":
        return None
    shape = static_shape(node.inputs[0])
    return node.inputs[0] if shape is not None and shape[1] == wanted else None


_OURS = "enginewright.filled"  # on a Slice: what it cuts off is "zeros", or "numbers" that do not matter


def _pad_outputs(network: Network, node: ir.Node, outputs: int) -> None:
    _, weights, bias, _ = fused.padded_inputs(node)
    array, result = network.constant(weights), node.outputs[0]
    shape = static_shape(result)
    assert weights is not None, f"{node.name} has weights"
    assert array is not None, f"{weights.name} was checked"
    assert shape is not None, f"the shape of {result.name} was checked"
    more = outputs - array.shape[0]
    node.replace_input_with(1, network.add_constant(f"{weights.name}_padded", _filled(array, 0, more)))
    numbers = network.constant(bias)
    if bias is not None and numbers is not None:
        node.replace_input_with(2, network.add_constant(f"{bias.name}_padded", _filled(numbers, 0, more)))
    name = result.name
    epilogue = fused.epilogue_of(node)
    zero = epilogue.activation in _KEEPS_ZERO and (epilogue.activation != "Sigmoid" or epilogue.gated)
    zero = zero and not epilogue.tail
    cut = _slice(network, result, shape[1], "zeros" if zero else "numbers")
    made = cut.outputs[0]
    made.type, made.shape = result.type, ir.Shape(shape)
    network.graph.insert_after(node, cut)
    for use in list(result.uses()):
        if use.node is not cut:
            use.node.replace_input_with(use.idx, made)
    result.shape = ir.Shape([shape[0], outputs, *shape[2:]])
    result.name, made.name = network.fresh(f"{name}_filled"), name


def _slice(network: Network, x: ir.Value, channels: int, what: str) -> ir.Node:
    metadata = {_OURS: what}
    name = f"Slice:{x.name}_channels"
    if network.opset < 10:
        attributes = [ir.AttrInt64s("axes", [1]), ir.AttrInt64s("starts", [0]), ir.AttrInt64s("ends", [channels])]
        return ir.Node("", "Slice", [x], attributes, name=name, metadata_props=metadata)
    numbers = [network.add_constant(f"{x.name}_{key}", np.array([value], np.int64))
               for key, value in (("starts", 0), ("ends", channels), ("axes", 1))]  # fmt: skip
    return ir.Node("", "Slice", [x, *numbers], name=name, metadata_props=metadata)


def _filled(array: Array, axis: int, more: int) -> Array:
    return np.pad(array, [(0, more if each == axis else 0) for each in range(array.ndim)])
