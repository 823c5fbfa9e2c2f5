"""conv(x, w1), conv(x, w2) => split(conv(x, w1 | w2)): layers that read one input the same way become one wider layer.

So too matrix products of one input by constant matrices (queries, keys and values of attention). Splitting is a view.
Of what goes into a concatenation, only what comes first in it may join, as the last part of the wider result: then
the concatenation's buffer and the wider result overlap in it, and nothing is copied (device/layout.py).
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from enginewright_builder.network import fused, rewire
from enginewright_builder.network.network import FUSED_DOMAIN, Network, only_use, static_shape
from enginewright_builder.passes.base import PassReport

_CONVOLUTIONS = ("Conv", "FusedConv")
_PRODUCTS = ("MatMul", "FusedMatMul", "Gemm", "FusedGemm")


@dataclass(frozen=True, slots=True, kw_only=True)
class WidenSiblings:
    """See the module."""

    name: str = "widen-siblings"
    reason: str = "one launch that fills the device instead of several that don't, and the input is read once"

    def apply(self, network: Network) -> PassReport:
        """Counts the layers that became part of a wider one."""
        details: list[str] = []
        declined: list[str] = []
        groups: dict[Hashable, list[ir.Node]] = defaultdict(list)
        order: dict[ir.Node, int] = {}
        for node in network.layers():
            order[node] = len(order)
            key = _key(network, node)
            if key is not None:
                groups[key].append(node)
        for members in groups.values():
            if len(members) < 2:
                continue
            fits, refused = _order(members)
            declined += refused
            if len(fits) < 2:
                continue
            details.append(" | ".join(f"{each.name}" for each in fits) + f": one {fits[0].op_type}")
            _widen(network, fits, before=min(fits, key=order.__getitem__))
        if details:
            rewire.drop_unread_constants(network)
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))


def _key(network: Network, node: ir.Node) -> Hashable | None:
    """What siblings have in common; None where a layer cannot be part of a wider one."""
    if node.domain not in ("", FUSED_DOMAIN) or node.op_type not in (*_CONVOLUTIONS, *_PRODUCTS):
        return None
    x, weights, bias, residual = fused.padded_inputs(node)
    array = network.constant(weights)
    if array is None or residual is not None or fused.pair_of(node) is not None or fused.pool_of(node) is not None:
        return None
    if node.outputs[0].is_graph_output() or (bias is not None and network.constant(bias) is None):
        return None
    shape = static_shape(node.outputs[0])
    if shape is None or node.attributes.get_int("group", 1) != 1:
        return None
    if node.op_type in _PRODUCTS and (array.ndim != 2 or node.attributes.get_float("beta", 1.0) != 1.0):
        return None
    if node.op_type.endswith("Gemm") and bias is not None and static_shape(bias) != (shape[1],):
        return None
    columns = _channel_axis_of_weights(node)
    rest = tuple(size for axis, size in enumerate(array.shape) if axis != columns)
    attributes = tuple(sorted((name, str(attribute.value)) for name, attribute in node.attributes.items()))
    return (x, node.domain, node.op_type, rest, str(array.dtype), attributes)


def _order(members: Sequence[ir.Node]) -> tuple[list[ir.Node], list[str]]:
    """The members that can be joined, the one that begins a concatenation last; and why others cannot."""
    free: list[ir.Node] = []
    first: list[ir.Node] = []
    refused: list[str] = []
    for node in members:
        concat = next(
            (u.node for u in node.outputs[0].uses() if u.node.op_type == "Concat" and not u.node.domain), None
        )
        if concat is None:
            free.append(node)
        elif only_use(node.outputs[0]) is concat and concat.inputs[0] is node.outputs[0] and not first:
            first.append(node)
        else:
            refused.append(f"{node.name}: is written into the concatenation {concat.name} where it belongs")
    return [*free, *first], refused


def _widen(network: Network, members: Sequence[ir.Node], *, before: ir.Node) -> None:
    like = members[0]
    axis = 1 if like.op_type in _CONVOLUTIONS else len(like.outputs[0].shape or ()) - 1
    of_weights = _channel_axis_of_weights(like)
    arrays = [_array(network, node.inputs[1]) for node in members]
    weights = network.add_constant(
        f"{like.inputs[1].name if like.inputs[1] else ''}_wide", np.concatenate(arrays, of_weights)
    )
    widths = [array.shape[of_weights] for array in arrays]
    biases = [fused.padded_inputs(node)[2] for node in members]
    bias = None
    if any(each is not None for each in biases):
        parts = [
            np.zeros(width, arrays[0].dtype) if each is None else _array(network, each)
            for width, each in zip(widths, biases, strict=True)
        ]
        bias = network.add_constant(f"{like.outputs[0].name}_bias_wide", np.concatenate(parts))
    inputs = [like.inputs[0], weights, *([bias] if bias is not None else [])]
    names = [name for node in members for name in fused.layers_of(node)]
    operator, domain, attributes = like.op_type, like.domain, list(like.attributes.values())
    if operator == "MatMul" and bias is not None:
        operator, domain = "FusedMatMul", FUSED_DOMAIN
    wide = ir.Node(domain, operator, inputs, attributes, name=" | ".join(node.name or "" for node in members),
                   metadata_props={fused.LAYERS: "\n".join(names)} if domain else {})  # fmt: skip
    shape = list(static_shape(like.outputs[0]) or ())
    shape[axis] = sum(widths)
    made = wide.outputs[0]
    made.name, made.type, made.shape = (
        network.fresh(f"{like.outputs[0].name}_wide"),
        like.outputs[0].type,
        ir.Shape(shape),
    )
    split = _split(network, made, widths, axis, [node.outputs[0] for node in members])
    network.graph.insert_before(before, [wide, split])
    for node, part in zip(members, split.outputs, strict=True):
        name = node.outputs[0].name
        rewire.take_over(network, node.outputs[0], part)
        rewire.remove(network, node)
        part.name = name


def _split(network: Network, wide: ir.Value, widths: Sequence[int], axis: int, like: Sequence[ir.Value]) -> ir.Node:
    """The Split of `wide`, in the form of the network's opset."""
    inputs: list[ir.Value | None] = [wide]
    attributes: list[ir.Attr] = [ir.AttrInt64("axis", axis)]
    if network.opset >= 13:
        inputs.append(network.add_constant(f"{wide.name}_widths", np.array(widths, np.int64)))
    else:
        attributes.append(ir.AttrInt64s("split", list(widths)))
    outputs = [network.add_output(value, "part") for value in like]
    return ir.Node("", "Split", inputs, attributes, name=f"Split:{wide.name}", outputs=outputs)


def _channel_axis_of_weights(node: ir.Node) -> int:
    if node.op_type in _CONVOLUTIONS:
        return 0
    transposed = bool(node.attributes.get_int("transB", 0))
    return 0 if node.op_type.endswith("Gemm") and transposed else 1


def _array(network: Network, value: ir.Value | None) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
    array = network.constant(value)
    assert array is not None, "siblings have constant weights"
    return array
