"""PRelu(x, slope) => LeakyRelu(x, alpha), where there is one slope for all.

A learned slope is an input, which the library spreads over the tensor with one thread and fuses with nothing; as an
attribute it is an activation as any other, and part of the convolution before it.
"""

from dataclasses import dataclass

import onnx_ir as ir

from enginewright_builder.network import rewire
from enginewright_builder.network.network import Network
from enginewright_builder.passes.base import PassReport

_OPSET = 6  # before it LeakyRelu may write over its input


@dataclass(frozen=True, slots=True, kw_only=True)
class OneSlope:
    """See the module. In float32, of which alpha is an exact copy."""

    name: str = "one-slope"
    reason: str = "an activation with one learned slope is one that layers before it can take along"

    def apply(self, network: Network) -> PassReport:
        """Declines slopes of their own for each channel."""
        details: list[str] = []
        declined: list[str] = []
        for node in list(network.layers()) if network.opset >= _OPSET else []:
            slope = network.constant(node.inputs[1]) if node.op_type == "PRelu" and not node.domain else None
            if slope is None or node.outputs[0].dtype is not ir.DataType.FLOAT:
                continue
            if slope.size != 1:
                declined.append(f"{node.name}: it has {slope.size} slopes")
                continue
            alpha = ir.AttrFloat32("alpha", float(slope.reshape(())))
            rewire.put(network, ir.Node("", "LeakyRelu", [node.inputs[0]], [alpha], name=node.name), node, [node])
            details.append(f"{node.name}: slope {alpha.as_float():g}")
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))
