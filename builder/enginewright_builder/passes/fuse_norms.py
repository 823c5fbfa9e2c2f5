"""(x - mean(x)) / sqrt(var(x) + e) * g + b => one normalization; x / sqrt(mean(x^2) + e) * g likewise.

Layer normalization (Ba et al. 2016) and root mean square normalization (Zhang and Sennrich 2019) over the last
dimension, as they are written out by exports older than the operators. What they need in between is the size of x.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from enginewright_builder.network import composites, fused, rewire
from enginewright_builder.network.network import FUSED_DOMAIN, Network, only_use, static_shape
from enginewright_builder.passes.affine import DeclinedError
from enginewright_builder.passes.base import PassReport


@dataclass(slots=True, kw_only=True)
class _Norm:
    """What is being gathered; `parts` have their readers first."""

    x: ir.Value
    epsilon: float
    last: ir.Node
    parts: list[ir.Node]
    centered: bool = False
    scale: ir.Value | None = None
    shift: ir.Value | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseNorms:
    """See the module."""

    name: str = "fuse-norms"
    reason: str = "one pass over the tensor instead of nine"

    def apply(self, network: Network) -> PassReport:
        """Declines divisions by a root of a mean that are not of the form."""
        details: list[str] = []
        declined: list[str] = []
        for node in list(network.layers()):
            if node.domain or node.op_type != "Sqrt" or node.graph is None:
                continue
            try:
                norm = _find(network, node)
            except DeclinedError as reason:
                declined.append(f"{node.name}: {reason}")
                continue
            if norm is not None:
                made = _put(network, norm)
                details.append(f"{made.name}: {made.op_type}")
        if details:
            rewire.drop_unread_constants(network)
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))


def _find(network: Network, root: ir.Node) -> _Norm | None:
    """The normalization around a Sqrt; None where nothing speaks for one."""
    shifted = _producer(root.inputs[0], "Add")
    if shifted is None:
        return None
    mean, epsilon = _sides(network, shifted)
    average = _producer(mean, "ReduceMean")
    if average is None or epsilon is None:
        return None
    square = _producer(average.inputs[0], "Pow", "Mul")
    base = None if square is None else _squared(network, square)
    if square is None or base is None or not _over_last(network, average):
        raise DeclinedError("what is under the root is no mean of squares over the last dimension")
    quotient = _quotient(network, root, base)
    if static_shape(base) is None or base.dtype is None:
        raise DeclinedError("the shape of what is normalized is not known")
    norm = _Norm(
        x=base, epsilon=epsilon, last=quotient[-1], parts=[*reversed(quotient), root, shifted, average, square]
    )
    _take_mean(network, norm)
    _require_closed(norm)
    _take_affine(network, norm)
    return norm


def _quotient(network: Network, root: ir.Node, base: ir.Value) -> list[ir.Node]:
    """base / root, or base * (1 / root): its layers in order."""
    node = only_use(root.outputs[0])
    between: list[ir.Node] = []
    inverse = node is not None and (
        node.op_type == "Reciprocal"
        or (node.op_type == "Div" and node.inputs[1] is root.outputs[0] and _scalar(network, node.inputs[0]) == 1.0)
    )
    if node is not None and inverse:
        between, node = [node], only_use(node.outputs[0])
        if node is not None and node.op_type == "Mul" and base in node.inputs:
            return [*between, node]
    elif node is not None and node.op_type == "Div" and node.inputs[0] is base:
        return [node]
    raise DeclinedError("what was squared is not what is divided by the root")


def _take_mean(network: Network, norm: _Norm) -> None:
    """x - mean(x), if that is what is normalized."""
    center = _producer(norm.x, "Sub")
    if center is None:
        return
    average = _producer(center.inputs[1], "ReduceMean")
    if average is not None and average.inputs[0] is center.inputs[0] and _over_last(network, average):
        assert center.inputs[0] is not None, f"{center.name} has two inputs"
        norm.x, norm.centered = center.inputs[0], True
        norm.parts += [center, average]


def _require_closed(norm: _Norm) -> None:
    inside = set(norm.parts)
    for node in norm.parts:
        value = node.outputs[0]
        if node is not norm.last and (value.is_graph_output() or not {u.node for u in value.uses()} <= inside):
            raise DeclinedError(f"{value.name} is read elsewhere")


def _take_affine(network: Network, norm: _Norm) -> None:
    """The scale and shift after it, of one number for each element of the last dimension."""
    norm.scale = _next_constant(network, norm, "Mul")
    if norm.scale is not None and norm.centered:
        norm.shift = _next_constant(network, norm, "Add")


def _next_constant(network: Network, norm: _Norm, operator: str) -> ir.Value | None:
    node = only_use(norm.last.outputs[0])
    shape = static_shape(norm.last.outputs[0])
    width = None if norm.x.shape is None else norm.x.shape[-1]
    if node is None or node.domain or node.op_type != operator:
        return None
    other = node.inputs[1] if node.inputs[0] is norm.last.outputs[0] else node.inputs[0]
    array = network.constant(other)
    if array is None or array.shape != (width,) or shape is None:
        return None
    norm.last = node
    norm.parts.insert(0, node)
    return other


def _put(network: Network, norm: _Norm) -> ir.Node:
    attributes: list[ir.Attr] = [ir.AttrInt64("axis", -1), ir.AttrFloat32("epsilon", norm.epsilon)]
    scale = norm.scale
    if scale is None:
        scale = _ones(network, norm)
    inputs = [norm.x, scale, *([norm.shift] if norm.shift is not None else [])]
    operator, since = ("LayerNormalization", 17) if norm.centered else ("RMSNormalization", 23)
    made = composites.make(operator, inputs, attributes, list(reversed(norm.parts)))
    if network.opset >= since:
        made.domain = ""
        made.metadata_props.clear()
    else:
        network.graph.opset_imports[FUSED_DOMAIN] = fused.VERSION
    rewire.put(network, made, norm.last, norm.parts)
    return made


def _ones(network: Network, norm: _Norm) -> ir.Value:
    shape, dtype = static_shape(norm.x), norm.x.dtype
    assert shape is not None, f"the shape of {norm.x.name} was checked"
    assert dtype is not None, f"the type of {norm.x.name} was checked"
    return network.add_constant(f"{norm.x.name}_ones", np.ones(shape[-1:], dtype.numpy()))


def _squared(network: Network, node: ir.Node) -> ir.Value | None:
    if node.op_type == "Mul":
        return node.inputs[0] if node.inputs[0] is node.inputs[1] else None
    return node.inputs[0] if _scalar(network, node.inputs[1]) == 2.0 else None


def _over_last(network: Network, node: ir.Node) -> bool:
    axes = node.attributes.get_ints("axes", []) or []
    if len(node.inputs) > 1:
        array = network.constant(node.inputs[1])
        axes = [] if array is None else [int(axis) for axis in array.reshape(-1)]
    rank = len(node.inputs[0].shape) if node.inputs[0] is not None and node.inputs[0].shape is not None else 0
    return rank > 0 and list(axes) in ([-1], [rank - 1]) and node.attributes.get_int("keepdims", 1) == 1


def _sides(network: Network, node: ir.Node) -> tuple[ir.Value | None, float | None]:
    for one, other in _both_ways(node):
        number = _scalar(network, other)
        if number is not None:
            return one, number
    return None, None


def _both_ways(node: ir.Node) -> Iterator[tuple[ir.Value | None, ir.Value | None]]:
    yield node.inputs[0], node.inputs[1]
    yield node.inputs[1], node.inputs[0]


def _scalar(network: Network, value: ir.Value | None) -> float | None:
    array = network.constant(value)
    return float(array.item()) if array is not None and array.size == 1 else None


def _producer(value: ir.Value | None, *operators: str) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and not node.domain and node.op_type in operators else None
