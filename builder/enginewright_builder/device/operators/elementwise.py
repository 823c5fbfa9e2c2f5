"""Operators that compute each output element from the input elements at its place: the loads, the store, old opsets."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from enginewright_builder.device.expression import Computation, Expression
from enginewright_builder.device.operators import terms
from enginewright_builder.device.operators.layer import Declined, Layer, Lowering

# The formula gets the layer, for its attributes, and one term for each input.
Formula: TypeAlias = Callable[..., Expression]


def stored(layer: Layer, value: Expression, position: int = 0) -> Computation:
    """`value` as the layer's output of that position."""
    output = terms.result(layer, position)
    return Computation(shape=output.shape, dtype=output.dtype, value=terms.cast(value, terms.computed(output.dtype)))


def only(layer: Layer, value: Expression) -> tuple[Computation, ...]:
    """`value` as the one output."""
    return (stored(layer, value),)


def present(layer: Layer, *values: Callable[[], Expression]) -> tuple[Computation, ...]:
    """The outputs that are there, each from its own value."""
    return tuple(
        stored(layer, value(), position)
        for position, value in enumerate(values)
        if position < len(layer.outputs) and layer.outputs[position] is not None
    )


def aligned(layer: Layer, position: int, at: Sequence[Expression]) -> Expression:
    """An input's element for the output's indices: broadcast from the back, before opset 7 from `axis`."""
    rank = len(terms.operand(layer, position).shape)
    axis = layer.attributes.get("axis")
    if layer.opset < 7 and position > 0 and axis is not None and layer.attributes.get("broadcast"):
        first = int(axis) % len(at)
        return terms.load(layer, position, at[first : first + rank])
    return terms.broadcast(layer, position, at)


def operands(layer: Layer) -> list[Expression]:
    """One term for each input, all of which must be there."""
    at = terms.indices(terms.result(layer).shape)
    return [aligned(layer, position, at) for position in range(len(layer.inputs))]


def plain(formula: Callable[..., Expression]) -> Lowering:
    """formula(x, ...) of the inputs alone."""
    return partial(_plain, formula)


def shaped(formula: Formula) -> Lowering:
    """formula(layer, x, ...) where attributes matter too."""
    return partial(_shaped, formula)


def _plain(formula: Formula, layer: Layer) -> tuple[Computation, ...]:
    return only(layer, formula(*operands(layer)))


def _shaped(formula: Formula, layer: Layer) -> tuple[Computation, ...]:
    return only(layer, formula(layer, *operands(layer)))


def function(name: str) -> Lowering:
    """One function of the emitter's table, of any number of arguments."""
    return plain(partial(terms.call, name))


def real(layer: Layer, name: str, default: float) -> float:
    """A number attribute."""
    return float(layer.attributes.get(name, default))


def flag(layer: Layer, name: str, default: int = 0) -> bool:
    """An integer attribute that is a switch."""
    return bool(layer.attributes.get(name, default))


def word(layer: Layer, name: str, default: str) -> str:
    """A string attribute."""
    value = layer.attributes.get(name, default)
    return value.decode() if isinstance(value, bytes) else str(value)


def refused(layer: Layer, condition: bool, reason: str) -> None:
    """Raises Declined with the reason where the condition holds."""
    if condition:
        raise Declined(f"{layer.operator} {reason}")
