"""f(x) => x, where f is a layer that does nothing here: one rule an operator.

A rule reads what it needs wherever the model's opset keeps it (attribute or input) and answers with the value that its
layer hands through, or None. A rule that cannot be sure answers None: shapes must be known to be the same, not assumed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from enginewright_builder.network import rewire
from enginewright_builder.network.network import Network, static_shape
from enginewright_builder.passes.base import PassReport

Rule = Callable[[Network, ir.Node], ir.Value | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOps:
    """See the module."""

    name: str = "no-ops"
    reason: str = "a layer that hands its input through costs a copy and hides its neighbours from each other"

    def apply(self, network: Network) -> PassReport:
        """A layer between an input and an output of the network, or between two outputs, has to stay for the name."""
        details: list[str] = []
        declined: list[str] = []
        for node in list(network.layers()):
            rule = None if node.domain else RULES.get(node.op_type)
            same = rule(network, node) if rule else None
            if same is None or _others_are_read(node):
                continue
            if not rewire.can_take_over(network, node.outputs[0], same):
                declined.append(f"{node.name}: {node.op_type} stays, it names the output {node.outputs[0].name!r}")
                continue
            rewire.take_over(network, node.outputs[0], same)
            rewire.remove(network, node)
            details.append(f"{node.name}: {node.op_type}")
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))


def _others_are_read(node: ir.Node) -> bool:
    return any(value.uses() or value.is_graph_output() for value in node.outputs[1:])


def _identity(network: Network, node: ir.Node) -> ir.Value | None:
    return node.inputs[0]


def _dropout(network: Network, node: ir.Node) -> ir.Value | None:
    if network.opset < 7:  # it trained unless told otherwise; ONNX Runtime has no kernel for it
        return None
    if network.opset >= 12 and len(node.inputs) > 2 and node.inputs[2] is not None:
        training = network.constant(node.inputs[2])
        return node.inputs[0] if training is not None and not training.any() else None
    return node.inputs[0]


def _cast(network: Network, node: ir.Node) -> ir.Value | None:
    value = node.inputs[0]
    to = node.attributes.get("to")  # a name, not a number, before opset 6: that one is left alone
    same = value is not None and value.dtype is not None and to is not None and to.type is ir.AttributeType.INT
    return value if same and value is not None and value.dtype == to.as_int() else None  # type: ignore[union-attr]


def _cast_like(network: Network, node: ir.Node) -> ir.Value | None:
    value, like = node.inputs
    same = value is not None and like is not None and value.dtype is not None and value.dtype is like.dtype
    return value if same else None


def _transpose(network: Network, node: ir.Node) -> ir.Value | None:
    value = node.inputs[0]
    attribute = node.attributes.get("perm")
    if attribute is None:  # reversed
        return value if value is not None and value.shape is not None and len(value.shape) < 2 else None
    order = attribute.as_ints()
    return value if order == tuple(range(len(order))) else None


def _same_shape(network: Network, node: ir.Node) -> ir.Value | None:
    """For operators that keep the elements and their order, so that an equal shape means an equal tensor."""
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    return node.inputs[0] if before is not None and before == after else None


def _slice(network: Network, node: ir.Node) -> ir.Value | None:
    if network.opset >= 10 and len(node.inputs) > 4 and node.inputs[4] is not None:
        steps = network.constant(node.inputs[4])
        if steps is None or (steps <= 0).any():  # type: ignore[operator]
            return None
    return _same_shape(network, node)


def _pad(network: Network, node: ir.Node) -> ir.Value | None:
    if network.opset >= 11:
        pads = network.constant(node.inputs[1])
        return node.inputs[0] if pads is not None and not pads.any() else None
    widths = node.attributes.get("pads")  # "paddings" in opset 1, which is left alone
    return node.inputs[0] if widths is not None and not any(widths.as_ints()) else None


def _only_one(network: Network, node: ir.Node) -> ir.Value | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


def _split(network: Network, node: ir.Node) -> ir.Value | None:
    return _same_shape(network, node) if len(node.outputs) == 1 else None


def _neutral(neutral: float, *, either_side: bool) -> Rule:
    """x + 0, x * 1, x - 0, x / 1, where the constant does not make the result larger than x."""

    def rule(network: Network, node: ir.Node) -> ir.Value | None:
        sides = ((0, 1), (1, 0)) if either_side else ((0, 1),)
        for kept, other in sides:
            array = network.constant(node.inputs[other])
            value = node.inputs[kept]
            if array is None or value is None or array.size > 65536 or not bool(np.all(array == neutral)):
                continue
            rank = len(value.shape) if value.shape is not None else 0
            if (array.size == 1 and array.ndim <= rank) or _shapes_agree(value, node.outputs[0]):
                return value
        return None

    return rule


def _pool_of_one(network: Network, node: ir.Node) -> ir.Value | None:
    """A window of one element; exporters write it for an adaptive pool that has nothing to do."""
    numbers = [*(node.attributes.get_ints("kernel_shape", []) or [0]), *(node.attributes.get_ints("strides", []) or ())]
    plain = all(number == 1 for number in numbers) and not any(node.attributes.get_ints("pads", []) or ())
    value = node.inputs[0]
    return value if plain and value is not None and _shapes_agree(value, node.outputs[0]) else None


def _shapes_agree(before: ir.Value, after: ir.Value) -> bool:
    shape = static_shape(before)
    return shape is not None and shape == static_shape(after)


RULES: Mapping[str, Rule] = {
    "Identity": _identity,  # by definition
    "Dropout": _dropout,  # unless it is training
    "Cast": _cast,  # to the type that it has
    "CastLike": _cast_like,
    "Transpose": _transpose,  # into the order that it has
    "Reshape": _same_shape,
    "Flatten": _same_shape,
    "Squeeze": _same_shape,
    "Unsqueeze": _same_shape,
    "Expand": _same_shape,
    "Tile": _same_shape,
    "AveragePool": _pool_of_one,
    "MaxPool": _pool_of_one,
    "Slice": _slice,  # of everything, forwards
    "Pad": _pad,  # by nothing
    "Concat": _only_one,
    "Sum": _only_one,
    "Mean": _only_one,
    "Max": _only_one,
    "Min": _only_one,
    "Split": _split,  # into one
    "Add": _neutral(0, either_side=True),
    "Sub": _neutral(0, either_side=False),
    "Mul": _neutral(1, either_side=True),
    "Div": _neutral(1, either_side=False),
}
