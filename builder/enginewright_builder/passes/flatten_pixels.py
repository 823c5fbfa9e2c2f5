"""gemm(flatten(x), w) => gemm(flatten(transpose(x)), w'): a picture that lies channels-last is flattened as it lies.

The columns of w move to where their elements are, at build time; the transpose and the flattening are then views.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from enginewright_builder.network import rewire
from enginewright_builder.network.network import FUSED_DOMAIN, Network, only_use, static_shape
from enginewright_builder.passes.base import PassReport

_WINDOWED = ("Conv", "FusedConv", "MaxPool", "AveragePool", "ConvTranspose", "FusedConvTranspose")
_THROUGH = ("Relu", "Clip", "LeakyRelu", "Cast")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlattenPixels:
    """See the module. For pictures that a convolution or pooling makes, and constant weights."""

    name: str = "flatten-pixels"
    reason: str = "the copy into C order that a flattening of NHWC would cost moves into the weights"

    def apply(self, network: Network) -> PassReport:
        """Counts flattenings; declines those of which the rest does not allow it."""
        details: list[str] = []
        declined: list[str] = []
        for node in list(network.layers()):
            if node.domain or node.op_type not in ("Flatten", "Reshape") or not _is_picture(node):
                continue
            shape, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
            product = only_use(node.outputs[0])
            if shape is None or after is None or after != (shape[0], int(np.prod(shape[1:]))):
                continue
            if int(np.prod(shape[2:])) == 1:
                continue  # one pixel lies the same in either order
            why = _refusal(network, product)
            if why or product is None:
                declined.append(f"{node.name}: {why}")
                continue
            _turn(network, node, product, shape)
            details.append(f"{node.name} + {product.name}: the weights' columns in the order of the pixels")
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))


def _is_picture(node: ir.Node) -> bool:
    value = node.inputs[0]
    shape = static_shape(value)
    if value is None or shape is None or len(shape) < 3:
        return False
    producer = value.producer()
    while producer is not None and producer.op_type in _THROUGH and producer.inputs[0] is not None:
        producer = producer.inputs[0].producer()
    return producer is not None and producer.op_type in _WINDOWED


def _refusal(network: Network, product: ir.Node | None) -> str:
    if product is None:
        return "not one layer alone reads it"
    known = product.op_type in ("Gemm", "MatMul", "FusedGemm", "FusedMatMul") and product.domain in ("", FUSED_DOMAIN)
    if not known or bool(product.attributes.get_int("transA", 0)):
        return f"{product.op_type} reads it, which has no weights to reorder"
    weights = network.constant(product.inputs[1])
    return "" if weights is not None and weights.ndim == 2 else "the weights after it are no constant matrix"


def _turn(network: Network, node: ir.Node, product: ir.Node, shape: tuple[int, ...]) -> None:
    old = product.inputs[1]
    array = network.constant(old)
    assert array is not None, "checked before"
    assert old is not None, "a product has weights"
    order = (0, *range(2, len(shape)), 1)
    transposed = bool(product.attributes.get_int("transB", 0))
    if product.op_type.endswith("Gemm") and transposed:
        spread = array.reshape(array.shape[0], *shape[1:])
        turned = spread.transpose(order).reshape(array.shape)
    else:
        spread = array.reshape(*shape[1:], array.shape[1])
        turned = spread.transpose(*range(1, len(shape) - 1), 0, len(shape) - 1).reshape(array.shape)
    product.replace_input_with(1, network.add_constant(f"{old.name}_pixels", turned))
    move = ir.Node("", "Transpose", [node.inputs[0]], [ir.AttrInt64s("perm", order)], name=f"{node.name}/pixels")
    made = move.outputs[0]
    made.name = network.fresh(f"{node.outputs[0].name}_pixels")
    made.shape, made.type = ir.Shape([shape[axis] for axis in order]), node.outputs[0].type
    network.graph.insert_before(node, move)
    node.replace_input_with(0, made)
    rewire.drop_unread_constants(network)
