"""TopK(x) => OfRank(x, Ranks(x)) along long dimensions: each element's rank once, then who has which.

As one expression, every output would count the ranks of all elements again: n squared steps each instead of n.
"""

import onnx_ir as ir

from enginewright_builder.network import rewire
from enginewright_builder.network.network import FUSED_DOMAIN, ONNX_DOMAIN, Network, static_shape

LONG = 64  # elements; below, one kernel is faster than two


def expand_top_k(network: Network) -> int:
    """Replace the TopK layers of the main graph that are long, in place; how many."""
    found = [node for node in network.layers() if (node.domain, node.op_type) == (ONNX_DOMAIN, "TopK")]
    return sum(_expanded(network, node) for node in found)


def _expanded(network: Network, node: ir.Node) -> bool:
    x = node.inputs[0]
    shape = static_shape(x)
    axis = node.attributes.get_int("axis", -1)
    kept = [output.shape is not None for output in node.outputs]
    if x is None or shape is None or not all(kept) or shape[axis or 0] < LONG:
        return False
    attributes = [ir.AttrInt64("axis", -1 if axis is None else axis)]
    largest = ir.AttrInt64("largest", node.attributes.get_int("largest", 1) or 0)
    ranks = ir.Value(name=network.fresh("ranks"), shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.INT32))
    outputs = [
        ir.Value(name=network.fresh(f"{node.name}_of_rank"), shape=output.shape, type=output.type)
        for output in node.outputs
    ]
    made = [
        ir.Node(FUSED_DOMAIN, "Ranks", [x], [*attributes, largest], name=f"{node.name}/ranks", outputs=[ranks]),
        ir.Node(FUSED_DOMAIN, "OfRank", [x, ranks], attributes, name=f"{node.name}/of rank", outputs=outputs),
    ]
    network.graph.opset_imports[FUSED_DOMAIN] = 1
    network.graph.insert_before(node, made)
    for old, new in zip(node.outputs, outputs, strict=True):
        if old.name:
            rewire.take_over(network, old, new)
        else:
            new.name = ""
    rewire.remove(network, node)
    return True
