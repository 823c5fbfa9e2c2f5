"""GroupNormalization(x) => GroupScale(x, GroupMoments(x)) where groups are wide: each group's moments once.

As one expression, every channel's row would read its whole group again.
"""

import onnx_ir as ir

from enginewright_builder.network import rewire
from enginewright_builder.network.network import FUSED_DOMAIN, ONNX_DOMAIN, Network, static_shape

WIDE = 8  # channels of a group; below, reading the group again costs less than two more launches


def expand_group_norm(network: Network) -> int:
    """Replace such layers of the main graph, in place; how many."""
    found = [node for node in network.layers() if (node.domain, node.op_type) == (ONNX_DOMAIN, "GroupNormalization")]
    return sum(_expanded(network, node) for node in found)


def _expanded(network: Network, node: ir.Node) -> bool:
    shape, groups = static_shape(node.inputs[0]), node.attributes.get_int("num_groups", 1) or 1
    old = node.outputs[0]
    if shape is None or shape[1] < WIDE * groups:
        return False
    # Moments are kept wider than half numbers: they are taken off every element.
    wide = ir.DataType.DOUBLE if old.dtype is ir.DataType.DOUBLE else ir.DataType.FLOAT
    mean, inverse = (
        ir.Value(name=network.fresh(name), shape=ir.Shape((shape[0], groups)), type=ir.TensorType(wide))
        for name in ("mean", "inverse")
    )
    output = ir.Value(name=network.fresh(f"{node.name}_scaled"), shape=old.shape, type=old.type)
    epsilon = ir.AttrFloat32("epsilon", node.attributes.get_float("epsilon", 1e-5) or 0.0)
    x = node.inputs[0]
    made = [
        ir.Node(FUSED_DOMAIN, "GroupMoments", [x], [epsilon], name=f"{node.name}/moments", outputs=[mean, inverse]),
        ir.Node(FUSED_DOMAIN, "GroupScale", [*node.inputs, mean, inverse], name=f"{node.name}/scale",
                outputs=[output]),
    ]  # fmt: skip
    network.graph.opset_imports[FUSED_DOMAIN] = 1
    network.graph.insert_before(node, made)
    rewire.take_over(network, old, output)
    rewire.remove(network, node)
    return True
