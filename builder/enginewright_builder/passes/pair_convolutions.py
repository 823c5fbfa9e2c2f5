"""relu(conv(y, w) + b + conv(x, v)) => one layer with both: the second 1x1 convolution is more terms of the same sums.

Residual networks change width so: the branch's convolution needs no launch and no tensor of its own.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from enginewright_builder.network import fused, rewire
from enginewright_builder.network.fused import Epilogue, Pair
from enginewright_builder.network.network import FUSED_DOMAIN, Network, is_constant, only_use, static_shape
from enginewright_builder.network.tail import reads_residual
from enginewright_builder.passes.base import PassReport


@dataclass(frozen=True, slots=True, kw_only=True)
class PairConvolutions:
    """See the module. Both kernels are 1x1, without padding, dilation or groups."""

    name: str = "pair-convolutions"
    reason: str = "the branch that changes the width of a residual block is done inside of the layer that adds it"

    def apply(self, network: Network) -> PassReport:
        """Counts pairs; declines residual convolutions of another form."""
        details: list[str] = []
        declined: list[str] = []
        for node in list(network.layers()):
            residual = fused.padded_inputs(node)[3] if node.op_type == "FusedConv" else None
            second = None if residual is None else residual.producer()
            if residual is None or second is None or second.op_type not in ("Conv", "FusedConv"):
                continue
            if reads_residual(fused.epilogue_of(node).tail):
                continue  # it is not added to the sum
            if fused.epilogue_of(second) != Epilogue() or fused.pair_of(second) is not None:
                continue  # an ordinary residual
            why = _refusal(node, second, residual)
            if why:
                declined.append(f"{second.name} into {node.name}: {why}")
                continue
            details.append(f"{second.name} + {node.name}")
            _pair(network, node, second)
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))


def _refusal(node: ir.Node, second: ir.Node, residual: ir.Value) -> str:
    if only_use(residual) is not node:
        return "the result between them is read elsewhere"
    _, _, _, more = fused.padded_inputs(second)
    if more is not None or fused.pool_of(second) is not None:
        return "it has an epilogue of its own"
    for each in (node, second):
        shape = static_shape(each.inputs[1])
        if shape is None or shape[2:] != (1, 1):
            return "both kernels have to be 1x1"
        if each.attributes.get_int("group", 1) != 1 or any(each.attributes.get_ints("pads", [0]) or ()):
            return "it is grouped or padded"
        if not all(is_constant(value) for value in each.inputs[1:3] if value is not None):
            return "its weights are not constant"
    if max(_strides(node)) > 1 and max(_strides(second)) > 1:
        return "both have strides"
    return ""


def _pair(network: Network, node: ir.Node, second: ir.Node) -> None:
    main, other = (node, second) if max(_strides(node)) == 1 else (second, node)
    given = [value for each in (main, other) if (value := fused.padded_inputs(each)[2]) is not None]
    biases = [value.const_value.numpy() for value in given if value.const_value is not None]
    bias = None
    if biases:
        wide = np.sum([array.astype(np.float64) for array in biases], axis=0).astype(biases[0].dtype)
        bias = network.add_constant(f"{node.outputs[0].name}_bias", wide)
    pair = Pair(strides=_strides(other), pads=(0, 0, 0, 0))
    made = fused.with_pair(main, other, bias, pair, epilogue=fused.epilogue_of(node), names=(second, node))
    result = node.outputs[0]
    made.outputs[0].name = network.fresh(f"{result.name}_paired")
    made.outputs[0].type, made.outputs[0].shape = result.type, result.shape
    network.graph.insert_before(node, made)
    name, is_output = result.name, result.is_graph_output()
    rewire.take_over(network, result, made.outputs[0])
    rewire.remove(network, node)
    rewire.remove(network, second)
    if not is_output:
        made.outputs[0].name = name
    rewire.drop_unread_constants(network)
    network.graph.opset_imports[FUSED_DOMAIN] = fused.VERSION


def _strides(node: ir.Node) -> tuple[int, ...]:
    return tuple(node.attributes.get_ints("strides", [1, 1]) or ())
