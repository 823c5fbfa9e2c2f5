"""Our layers that stand for a whole pattern of operators: what they mean, and how they expand back.

`enginewright.Attention(q, k, v, mask?)`, attribute scale: softmax(scale * q k^T + mask) v over q (b, h, s, d),
k (b, h, t, d), v (b, h, t, e) and an additive mask that broadcasts to (b, h, s, t); the result is (b, h, s, e).
Vaswani et al. 2017. The transposes of heads and of k are not in it: they are views beside it.

`enginewright.Gelu(x)`, attribute approximate ("none" or "tanh"): ONNX's Gelu of opset 20 in any opset.

`enginewright.LayerNormalization(x, scale, bias?)` and `enginewright.RMSNormalization(x, scale)`, attributes axis (-1)
and epsilon: ONNX's of opset 17 and 23 in any opset.

`enginewright.Cluster(inputs...)`, attribute body: a graph of pointwise layers, moves and at most one reduction, that
one generated kernel computes. Its inputs are the body's, in their order.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from enginewright_builder.network import fused
from enginewright_builder.network.gelu import gelu
from enginewright_builder.network.network import FUSED_DOMAIN, Network


def is_composite(node: ir.Node) -> bool:
    """Whether a layer is one of these."""
    return node.domain == FUSED_DOMAIN and node.op_type in _EXPAND


def make(
    operator: str, inputs: Sequence[ir.Value | None], attributes: Sequence[ir.Attr], parts: Sequence[ir.Node]
) -> ir.Node:
    """A layer of this module in the place of `parts`, whose names it keeps; not yet in a graph."""
    names = [name for part in parts for name in fused.layers_of(part)]
    metadata = {fused.LAYERS: "\n".join(names)}
    return ir.Node(FUSED_DOMAIN, operator, inputs, attributes, name="+".join(names), metadata_props=metadata)


def expand(network: Network, node: ir.Node) -> list[ir.Node]:
    """The layers that a composite stands for; the last one's output stands for the composite's."""
    return _EXPAND[node.op_type](network, node)


def _attention(network: Network, node: ir.Node) -> list[ir.Node]:
    q, k, v, mask = [*node.inputs, None][:4]
    assert q is not None, f"{node.name} has queries"
    assert q.dtype is not None, f"the type of {q.name} is known"
    scale = np.array(node.attributes.get_float("scale", 1.0)).astype(q.dtype.numpy())
    nodes: list[ir.Node] = []

    def add(operator: str, inputs: list[ir.Value | None], *attributes: ir.Attr) -> ir.Value:
        output = network.add_output(node.outputs[0], operator)
        output.shape = None
        nodes.append(ir.Node("", operator, inputs, attributes, name=f"{node.name}/{operator}{len(nodes)}",
                             outputs=[output]))  # fmt: skip
        return output

    turned = add("Transpose", [k], ir.AttrInt64s("perm", [0, 1, 3, 2]))
    scores = add("Mul", [add("MatMul", [q, turned]), network.add_constant(f"{node.outputs[0].name}_scale", scale)])
    if mask is not None:
        scores = add("Add", [scores, mask])
    add("MatMul", [add("Softmax", [scores], ir.AttrInt64("axis", 3 if network.opset < 13 else -1)), v])
    return nodes


def _gelu(network: Network, node: ir.Node) -> list[ir.Node]:
    (x,) = node.inputs
    assert x is not None, f"{node.name} has an input"
    tanh = node.attributes.get_string("approximate", "none") == "tanh"
    return gelu(network, node, x, node.name or "Gelu", tanh=tanh)


def _norm(network: Network, node: ir.Node) -> list[ir.Node]:
    x, scale, bias = [*node.inputs, None][:3]
    assert x is not None, f"{node.name} has an input"
    assert x.dtype is not None, f"the type of {x.name} is known"
    epsilon = np.array(node.attributes.get_float("epsilon", 1e-5)).astype(x.dtype.numpy())
    nodes: list[ir.Node] = []

    def add(operator: str, *inputs: ir.Value | None) -> ir.Value:
        output = network.add_output(node.outputs[0], operator)
        attributes: list[ir.Attr] = []
        if operator == "ReduceMean":
            output.shape = None
            if network.opset >= 18:
                inputs = (*inputs, network.add_constant(f"{node.outputs[0].name}_axes", np.array([-1], np.int64)))
            else:
                attributes.append(ir.AttrInt64s("axes", [-1]))
        name = f"{node.name}/{operator}{len(nodes)}"
        nodes.append(ir.Node("", operator, inputs, attributes, name=name, outputs=[output]))
        return output

    centered = add("Sub", x, add("ReduceMean", x)) if node.op_type == "LayerNormalization" else x
    mean = add("ReduceMean", add("Mul", centered, centered))
    root = add("Sqrt", add("Add", mean, network.add_constant(f"{node.outputs[0].name}_epsilon", epsilon)))
    nodes[-1].outputs[0].shape = nodes[-2].outputs[0].shape = None
    result = add("Mul", add("Div", centered, root), scale)
    if bias is not None:
        add("Add", result, bias)
    return nodes


def _cluster(network: Network, node: ir.Node) -> list[ir.Node]:
    body = node.attributes["body"].as_graph()
    values: dict[ir.Value, ir.Value | None] = dict(zip(body.inputs, node.inputs, strict=True))
    names = iter(fused.layers_of(node))
    nodes: list[ir.Node] = []
    for inner in body:
        output = network.add_output(node.outputs[0], inner.op_type)
        output.type, output.shape = inner.outputs[0].type, inner.outputs[0].shape
        values[inner.outputs[0]] = output
        inputs = [None if value is None else values[value] for value in inner.inputs]
        name = next(names, f"{node.name}/{inner.name}")
        made = ir.Node(inner.domain, inner.op_type, inputs, list(inner.attributes.values()), name=name,
                       outputs=[output])  # fmt: skip
        nodes += expand(network, made) if is_composite(made) else [made]
        if nodes[-1] is not made:
            values[inner.outputs[0]] = nodes[-1].outputs[0]
    return nodes


_EXPAND: Mapping[str, Callable[[Network, ir.Node], list[ir.Node]]] = {
    "Attention": _attention,
    "Gelu": _gelu,
    "LayerNormalization": _norm,
    "RMSNormalization": _norm,
    "Cluster": _cluster,
}
