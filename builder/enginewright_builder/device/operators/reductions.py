"""Reduce*, ArgMax and ArgMin: a fold over some of the input's dimensions.

Which dimensions is an attribute or an input. Where the input is not constant, the shape of the output tells as much.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from functools import reduce as fold
from itertools import combinations

from enginewright_builder.device.expression import Computation, Expression, Index
from enginewright_builder.device.operators import elementwise, terms
from enginewright_builder.device.operators.layer import Layer, Lowering
from enginewright_builder.device.operators.terms import call

_CHOICES = 6  # reductions in one expression, of which one is taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The dimensions `axes` of input `position`, folded over; `at` are the places of the others."""

    layer: Layer
    position: int
    axes: tuple[int, ...]
    at: tuple[Expression, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The input's shape."""
        return terms.operand(self.layer, self.position).shape

    @property
    def count(self) -> int:
        """The elements of a fold."""
        return math.prod(self.shape[axis] for axis in self.axes)

    def element(self, tag: str) -> Expression:
        """An element; the variables' names begin with `tag`, so that folds within folds do not meet."""
        at = [Index(f"{tag}{axis}") if axis in self.axes else place for axis, place in enumerate(self.at)]
        return terms.load(self.layer, self.position, at)

    def fold(self, function: str, tag: str, body: Expression) -> Expression:
        """`body`, made of elements of `tag`, folded; itself where there is no dimension to fold over."""
        if not self.axes:
            return body
        return terms.reduction(function, [(f"{tag}{axis}", self.shape[axis]) for axis in self.axes], body)

    def mean(self, tag: str, body: Expression) -> Expression:
        """The mean of `body` in floating point."""
        return call("/", self.fold("sum", tag, body), float(self.count))


def span(layer: Layer, axes: Sequence[int], position: int = 0) -> Span:
    """Over dimensions of an input that has the output's shape, at the output's place."""
    return Span(
        layer=layer,
        position=position,
        axes=tuple(sorted(axes)),
        at=tuple(terms.indices(terms.operand(layer, position).shape)),
    )


def _axes(layer: Layer) -> list[tuple[int, ...]]:
    """The dimensions to fold over: one choice where they are known, else all that the shapes allow."""
    shape, output = terms.operand(layer, 0).shape, terms.result(layer).shape
    given = terms.optional(layer, 1)
    if given is not None and given.constant is None:
        return _told_by_shapes(layer, shape, output)
    axes = terms.integers(layer, "axes") if given is None else terms.settled(layer, 1, "axes")
    if not axes:
        return [() if elementwise.flag(layer, "noop_with_empty_axes") else tuple(range(len(shape)))]
    return [tuple(sorted({axis % len(shape) for axis in axes}))]


def _told_by_shapes(layer: Layer, shape: tuple[int, ...], output: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The dimensions that are gone (or 1) in the output. Whether one of extent 1 is folded over is no difference."""
    if elementwise.flag(layer, "keepdims", 1):
        return [tuple(axis for axis, (have, left) in enumerate(zip(shape, output, strict=True)) if have != left)]
    return [
        tuple(axis for axis in range(len(shape)) if axis not in kept)
        for kept in combinations(range(len(shape)), len(output))
        if tuple(shape[axis] for axis in kept) == output
    ]


def _are(layer: Layer, axes: tuple[int, ...]) -> Expression:
    """Whether the axes that are given at run time are these (as many are given as these)."""
    rank = len(terms.operand(layer, 0).shape)
    (count,) = terms.operand(layer, 1).shape
    given = [terms.modulo(terms.cast(terms.load(layer, 1, [n]), "int32"), rank) for n in range(count)]
    found = [fold(terms.either, [call("==", one, axis) for one in given]) for axis in axes]
    return terms.both(*found)


def _reduced(layer: Layer, axes: tuple[int, ...]) -> Span:
    """Over `axes` of the first input, at the places that the output's indices name, kept dimensions or not."""
    rank = len(terms.operand(layer, 0).shape)
    output = terms.indices(terms.result(layer).shape)
    if len(output) == rank:
        return Span(layer=layer, position=0, axes=axes, at=tuple(output))
    rest = iter(output)
    at = tuple(terms.number(0) if axis in axes else next(rest) for axis in range(rank))
    return Span(layer=layer, position=0, axes=axes, at=at)


def _lowered(formula: Callable[[Span], Expression], layer: Layer) -> tuple[Computation, ...]:
    """Where the axes come at run time, every choice is written out, and a reduction runs where it is chosen."""
    choices = _axes(layer)
    values = [formula(_reduced(layer, axes)) for axes in choices]
    elementwise.refused(layer, not values or len(values) > _CHOICES, "has axes that the shapes do not tell")
    value = values[-1]
    for axes, other in zip(choices[:-1], values[:-1], strict=True):
        value = terms.select(_are(layer, axes), other, value)
    return elementwise.only(layer, value)


def _extreme(function: str, over: Span) -> Expression:
    element = over.element("r")
    if terms.dtype_of(element) == "bool":
        function = {"max": "or", "min": "and"}[function]
    return over.fold(function, "r", element)


def _sum(over: Span, *, squared: bool = False, absolute: bool = False) -> Expression:
    element = over.element("r")
    if absolute and not terms.dtype_of(element).startswith("u"):
        element = call("abs", element)
    return over.fold("sum", "r", call("*", element, element) if squared else element)


def _real(term: Expression, function: str) -> Expression:
    """A function of real numbers, of whole ones too."""
    return call(function, term if terms.is_float(terms.dtype_of(term)) else terms.cast(term, "float64"))


def _mean(over: Span) -> Expression:
    total = _sum(over)
    dtype = terms.dtype_of(total)
    return call("/" if terms.is_float(dtype) else "//", total, terms.number(over.count, dtype))


def _log_sum_exp(over: Span) -> Expression:
    """log(sum(exp(x - m))) + m with the greatest element m, where that is finite."""
    element, other = over.element("r"), over.element("m")
    if not terms.is_float(terms.dtype_of(element)):
        element, other = terms.cast(element, "float64"), terms.cast(other, "float64")
    greatest = over.fold("max", "m", other)
    zero = terms.number(0.0, terms.dtype_of(greatest))
    shift = terms.select(call("isinf", greatest, dtype="bool"), zero, greatest)
    return call("+", call("log", over.fold("sum", "r", call("exp", call("-", element, shift)))), shift)


def _position(function: str, layer: Layer) -> tuple[Computation, ...]:
    """The last of equal ones is the first from the back."""
    shape = terms.operand(layer, 0).shape
    axis = terms.axis_of(layer, len(shape))
    over = _reduced(layer, (axis,))
    if not elementwise.flag(layer, "select_last_index"):
        at: Expression = terms.reduction(function, [(f"r{axis}", shape[axis])], over.element("r"), "int32")
        return elementwise.only(layer, at)
    places = list(over.at)
    places[axis] = terms.subtract(shape[axis] - 1, Index(f"r{axis}"))
    body = terms.load(layer, 0, places)
    back = terms.reduction(function, [(f"r{axis}", shape[axis])], body, "int32")
    return elementwise.only(layer, terms.subtract(shape[axis] - 1, back))


_FORMULAS: Mapping[str, Callable[[Span], Expression]] = {
    "ReduceL1": partial(_sum, absolute=True),
    "ReduceL2": lambda over: _real(_sum(over, squared=True), "sqrt"),
    "ReduceLogSum": lambda over: _real(_sum(over), "log"),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": partial(_extreme, "max"),
    "ReduceMean": _mean,
    "ReduceMin": partial(_extreme, "min"),
    "ReduceProd": lambda over: over.fold("product", "r", over.element("r")),
    "ReduceSum": _sum,
    "ReduceSumSquare": partial(_sum, squared=True),
}

LOWERINGS: Mapping[str, Lowering] = {
    **{name: partial(_lowered, formula) for name, formula in _FORMULAS.items()},
    "ArgMax": partial(_position, "argmax"),
    "ArgMin": partial(_position, "argmin"),
}
