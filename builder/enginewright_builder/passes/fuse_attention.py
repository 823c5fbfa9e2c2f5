"""softmax(q k^T * scale + mask) v => one Attention layer, so that the scores never leave the multiprocessor.

The scale may stand on the scores, on q or on k; the mask is anything that is added to the scores, or a choice by a
constant. k comes transposed in written-out form: the transpose that makes it so turns into one that does not, and the
layout makes that a view.
"""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from enginewright_builder.network import composites, fused, rewire
from enginewright_builder.network.network import FUSED_DOMAIN, Network, only_use, static_shape
from enginewright_builder.passes.affine import DeclinedError
from enginewright_builder.passes.base import PassReport

_LOW = -1e4  # what is added to a score to hide it: exp of it is 0 in every type


@dataclass(slots=True, kw_only=True)
class _Found:
    """What is being gathered, from the softmax outwards. `parts` go when the layer takes their place."""

    parts: list[ir.Node]
    scale: float = 1.0
    mask: ir.Value | None = None
    unread: list[ir.Node] = field(default_factory=list)  # read by others too, perhaps: removed if nobody is left


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseAttention:
    """See the module."""

    name: str = "fuse-attention"
    reason: str = "scores and probabilities are the largest tensors of a transformer, and need not be in memory"

    def apply(self, network: Network) -> PassReport:
        """Declines every softmax between two products that is not of the form."""
        details: list[str] = []
        declined: list[str] = []
        for node in list(network.layers()):
            if node.domain or node.op_type != "Softmax":
                continue
            try:
                made = _fuse(network, node)
            except DeclinedError as reason:
                declined.append(f"{node.name}: {reason}")
            else:
                details += [] if made is None else [f"{made.name}: Attention"]
        if details:
            network.graph.opset_imports[FUSED_DOMAIN] = fused.VERSION
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))


def _fuse(network: Network, softmax: ir.Node) -> ir.Node | None:
    """The layer in its place; None where no product follows, which is no attention at all."""
    last = only_use(softmax.outputs[0])
    if last is None or last.domain or last.op_type != "MatMul" or last.inputs[0] is not softmax.outputs[0]:
        return None
    shape = static_shape(softmax.outputs[0])
    axis = softmax.attributes.get_int("axis", -1 if network.opset >= 13 else 1)
    if shape is None or len(shape) != 4 or axis not in (-1, 3):
        raise DeclinedError("its scores are not of four known dimensions, or it is not over the last")
    found = _Found(parts=[softmax, last])
    first = _scores(network, softmax.inputs[0], found)
    q = _unscaled(network, first.inputs[0], found)
    k = _untransposed(network, _unscaled(network, first.inputs[1], found), found)
    v = last.inputs[1]
    if v is None or any(static_shape(each) is None or len(static_shape(each) or ()) != 4 for each in (q, k, v)):
        raise DeclinedError("queries, keys or values are not of four known dimensions")
    inputs = [q, k, v, *([_of_four(network, found.mask, last)] if found.mask is not None else [])]
    parts = [first, *reversed(found.parts[2:]), softmax, last]
    made = composites.make("Attention", inputs, [ir.AttrFloat32("scale", found.scale)], parts)
    rewire.put(network, made, last, list(reversed(parts)))
    for node in found.unread:
        if node.graph is not None and not any(value.uses() or value.is_graph_output() for value in node.outputs):
            rewire.remove(network, node)
    return made


def _scores(network: Network, value: ir.Value | None, found: _Found) -> ir.Node:
    """Back from the softmax to the first product, over a mask and a scale."""
    node = _alone(value)
    if node.op_type == "Where" and not node.domain:
        found.mask = _chosen(network, node)
        found.parts.append(node)
        node = _alone(node.inputs[1])
    elif node.op_type == "Add":
        sides = [each for each in node.inputs if each is not None]
        scores = next((each for each in sides if _leads_to_product(network, each)), None)
        if scores is None:
            raise DeclinedError("what is added to its scores hides the product")
        mask = sides[1] if sides[0] is scores else sides[0]
        if mask.shape is None or len(mask.shape) > 4:
            raise DeclinedError("its mask is not known to broadcast to the scores")
        array = network.constant(mask)
        found.mask = mask if array is None or array.any() else None
        found.parts.append(node)
        node = _alone(scores)
    factor = _factor(network, node)
    if factor is not None:
        found.scale *= factor[1]
        found.parts.append(node)
        node = _alone(factor[0])
    if node.op_type != "MatMul" or node.domain:
        raise DeclinedError(f"{node.op_type} stands between its scores and their product")
    return node


def _chosen(network: Network, node: ir.Node) -> ir.Value:
    """The mask to add that says the same as where(constant, scores, a very low number)."""
    shown, low = network.constant(node.inputs[0]), network.constant(node.inputs[2])
    if shown is None or low is None or low.size != 1 or float(low.item()) > _LOW or node.inputs[2] is None:
        raise DeclinedError("Where masks its scores with something else than a constant and a very low number")
    if shown.ndim == 0 or not shown.any(axis=-1).all():
        raise DeclinedError("its mask hides whole rows, where adding is not the same as choosing")
    zero = np.zeros((), low.dtype)
    return network.add_constant(f"{node.name}_added", np.where(shown, zero, low.reshape(())).astype(low.dtype))


def _of_four(network: Network, mask: ir.Value, before: ir.Node) -> ir.Value:
    """The mask with as many dimensions as the scores; of fewer, it has ones in front."""
    shape = static_shape(mask)
    if shape is None or len(shape) == 4:
        return mask
    wanted = (1,) * (4 - len(shape)) + shape
    array = network.constant(mask)
    if array is not None:
        return network.add_constant(f"{mask.name}_of_four", array.reshape(wanted))
    sizes = network.add_constant(f"{mask.name}_sizes", np.array(wanted, np.int64))
    name = network.fresh(f"{mask.name}_of_four")
    node = ir.Node("", "Reshape", [mask, sizes], name=f"Reshape:{name}")
    made = node.outputs[0]
    made.name, made.type, made.shape = name, mask.type, ir.Shape(wanted)
    network.graph.insert_before(before, node)
    return made


def _leads_to_product(network: Network, value: ir.Value) -> bool:
    node = value.producer()
    if node is not None and (factor := _factor(network, node)) is not None:
        node = factor[0].producer()
    return node is not None and node.op_type == "MatMul" and only_use(value) is not None


def _alone(value: ir.Value | None) -> ir.Node:
    node = value.producer() if value is not None else None
    if value is None or node is None or node.domain or only_use(value) is None:
        raise DeclinedError("its scores are read elsewhere too, or given from outside")
    return node


def _factor(network: Network, node: ir.Node) -> tuple[ir.Value, float] | None:
    """x and c of x * c or x / c."""
    if node.domain or node.op_type not in ("Mul", "Div"):
        return None
    for x, other in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
        array = network.constant(other)
        if x is not None and array is not None and array.size == 1 and array.ndim <= 4:
            number = float(array.item())
            if node.op_type == "Mul":
                return x, number
            return (x, 1.0 / number) if other is node.inputs[1] and number else None
    return None


def _unscaled(network: Network, value: ir.Value | None, found: _Found) -> ir.Value:
    """The operand of the first product before a scale of its own."""
    if value is None:
        raise DeclinedError("its product has no operand")
    node = value.producer()
    factor = None if node is None else _factor(network, node)
    if factor is None or node is None:
        return value
    found.scale *= factor[1]
    found.unread.append(node)
    return factor[0]


def _untransposed(network: Network, value: ir.Value, found: _Found) -> ir.Value:
    """k (b, h, t, d) from what the product reads, (b, h, d, t)."""
    node = value.producer()
    order = [0, 1, 3, 2]
    if node is not None and node.op_type == "Transpose" and not node.domain and node.inputs[0] is not None:
        perm = list(node.attributes.get_ints("perm", []) or ())
        if len(perm) == 4:
            order, value = [perm[axis] for axis in order], node.inputs[0]
            found.unread.append(node)
            inner = value.producer()
            factor = None if inner is None else _factor(network, inner)
            if factor is not None and inner is not None:  # a scale before the transpose
                found.scale *= factor[1]
                found.unread.append(inner)
                value = factor[0]
    if order == [0, 1, 2, 3]:
        return value
    name = network.fresh(f"{value.name}_heads")
    turned = ir.Node("", "Transpose", [value], [ir.AttrInt64s("perm", order)], name=f"Transpose:{name}")
    shape = static_shape(value)
    made = turned.outputs[0]
    made.name, made.type = name, value.type
    made.shape = None if shape is None else ir.Shape([shape[axis] for axis in order])
    if (producer := value.producer()) is not None:
        network.graph.insert_after(producer, turned)
    else:
        network.graph.insert_before(next(iter(network.graph)), turned)
    return made
