"""Along one dimension: running sums and products, and the greatest elements in order."""

from collections.abc import Callable, Mapping
from functools import partial

from enginewright_builder.device.expression import Computation, Expression, Index
from enginewright_builder.device.operators import elementwise, terms
from enginewright_builder.device.operators.elementwise import flag
from enginewright_builder.device.operators.layer import Layer, Lowering
from enginewright_builder.device.operators.terms import call


def _cumulative(function: str, neutral: int, layer: Layer) -> tuple[Computation, ...]:
    """The fold of all elements up to each (or from it on), without its own if exclusive."""
    shape = terms.operand(layer, 0).shape
    known = terms.operand(layer, 1).constant
    axes = [int(known.reshape(-1)[0]) % len(shape)] if known is not None else list(range(len(shape)))
    values = [_along(layer, function, neutral, axis) for axis in axes]
    if len(values) == 1:
        return elementwise.only(layer, values[0])
    given = terms.cast(terms.load(layer, 1, [0] * len(terms.operand(layer, 1).shape)), "int32")
    return elementwise.only(layer, terms.chosen(values, terms.modulo(given, len(shape))))


def _along(layer: Layer, function: str, neutral: int, axis: int) -> Expression:
    shape = terms.operand(layer, 0).shape
    at = terms.indices(shape)
    here, there = at[axis], Index(f"c{axis}")
    first, second = (here, there) if flag(layer, "reverse") else (there, here)
    inside = call("<" if flag(layer, "exclusive") else "<=", first, second)
    element = terms.load(layer, 0, [there if n == axis else place for n, place in enumerate(at)])
    nothing = terms.number(neutral, terms.dtype_of(element))
    return terms.reduction(function, [(f"c{axis}", shape[axis])], terms.select(inside, element, nothing))


def _top(layer: Layer) -> tuple[Computation, ...]:
    """The element of rank i: the one that has exactly i others before it, where equal ones keep their order.

    How many there are is the output's shape. It takes the square of the dimension's extent in comparisons for each.
    """
    shape = terms.operand(layer, 0).shape
    axis = terms.axis_of(layer, len(shape), -1)

    def rank(at: list[Expression]) -> Expression:
        return _rank(layer, at, axis)

    return _of_rank(layer, axis, rank)


def _ranks(layer: Layer) -> tuple[Computation, ...]:
    """How many others come before each element. Ours, the first half of TopK."""
    shape = terms.operand(layer, 0).shape
    return elementwise.only(layer, _rank(layer, terms.indices(shape), terms.axis_of(layer, len(shape), -1)))


def _with_ranks(layer: Layer) -> tuple[Computation, ...]:
    """The second half: the elements by their ranks, which are the second input."""
    axis = terms.axis_of(layer, len(terms.operand(layer, 0).shape), -1)
    return _of_rank(layer, axis, lambda at: terms.load(layer, 1, at))


def _of_rank(layer: Layer, axis: int, rank: Callable[[list[Expression]], Expression]) -> tuple[Computation, ...]:
    extent = terms.operand(layer, 0).shape[axis]
    output = next(each for each in layer.outputs if each is not None)
    at = terms.indices(output.shape)
    position: Expression = terms.number(0)
    if extent > 1:
        one = [Index("p") if n == axis else place for n, place in enumerate(at)]
        matches = terms.cast(call("==", rank(one), at[axis]), "int32")
        position = terms.reduction("argmax", [("p", extent)], matches, "int32")
    found = [position if n == axis else place for n, place in enumerate(at)]
    return elementwise.present(layer, lambda: terms.load(layer, 0, found), lambda: position)


def _rank(layer: Layer, at: list[Expression], axis: int) -> Expression:
    other = Index("q")
    x = terms.load(layer, 0, at)
    y = terms.load(layer, 0, [other if n == axis else place for n, place in enumerate(at)])
    first = call("<", x, y) if flag(layer, "largest", 1) else call("<", y, x)
    before = terms.either(first, terms.both(call("==", x, y), call("<", other, at[axis])))
    return terms.reduction("sum", [("q", terms.operand(layer, 0).shape[axis])], terms.cast(before, "int32"))


LOWERINGS: Mapping[str, Lowering] = {
    "CumProd": partial(_cumulative, "product", 1),
    "CumSum": partial(_cumulative, "sum", 0),
    "TopK": _top,
}
OWN_LOWERINGS: Mapping[str, Lowering] = {
    "OfRank": _with_ranks,
    "Ranks": _ranks,
}
