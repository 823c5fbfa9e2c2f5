"""A stem's result in two halves, rounded and what that lost: conv(stem(x), w) => conv([high, low], [w, w]).

What rounding the first results loses goes through all other layers: on Inception V3 the stem's own, its picture's and
its weights' were more than half of the output's squared error (docs/gpu.md). Where a stem has at most 32 channels, its
kernel's tile of 64 is half empty, so the other half is next to free there; its reader sums twice the channels, of which
it has few.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from enginewright_builder.network import fused, rewire
from enginewright_builder.network.network import FUSED_DOMAIN, Network, static_shape
from enginewright_builder.passes import stems
from enginewright_builder.passes.base import PassReport

_MOST_CHANNELS = 32
_NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True, slots=True, kw_only=True)
class StemInHalves:
    """See the module. Only for stems that multiply in float32: others lose more before."""

    name: str = "stem-in-halves"
    reason: str = "half of the stem's tile is empty, and what rounding its result loses goes through all layers"

    def apply(self, network: Network) -> PassReport:
        """Counts stems; declines those whose readers take no second half."""
        details: list[str] = []
        declined: list[str] = []
        for node in list(network.layers()):
            result = node.outputs[0]
            shape = static_shape(result)
            if not stems.is_whole(node) or shape is None or shape[1] > _MOST_CHANNELS:
                continue
            if why := "and has a tail" if fused.epilogue_of(node).tail else _hindrance(network, result):
                declined.append(f"{node.name}: its result is rounded, {why}")
                continue
            fused.give_halves(node)
            for use in tuple(result.uses()):
                _read_twice(network, use.node)
            details.append(f"{node.name}: gives what rounding its {shape[1]} channels loses as {shape[1]} more")
        if details:
            rewire.drop_unread_constants(network)
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))


def _hindrance(network: Network, result: ir.Value) -> str:
    """Why nobody, or not everybody, who reads it would take halves."""
    if result.is_graph_output():
        return "the network gives it"
    other = next((use.node for use in result.uses() if not _takes_halves(network, use.node, result)), None)
    return "" if other is None else f"{other.name} is no plain convolution of it"


def _takes_halves(network: Network, node: ir.Node, result: ir.Value) -> bool:
    """Whether a layer is a convolution of `result` by constant weights."""
    if node.op_type not in ("Conv", "FusedConv") or node.domain not in ("", FUSED_DOMAIN):
        return False
    x, weights, *others = node.inputs
    narrow = weights is not None and weights.dtype in _NARROW and network.constant(weights) is not None
    return x is result and result not in others and narrow and node.attributes.get_int("group", 1) == 1


def _read_twice(network: Network, node: ir.Node) -> None:
    weights = node.inputs[1]
    once = network.constant(weights)
    assert weights is not None, "a convolution has weights"
    assert once is not None, "they are constant"
    node.replace_input_with(1, network.add_constant(f"{weights.name}_twice", np.concatenate([once, once], axis=1)))
