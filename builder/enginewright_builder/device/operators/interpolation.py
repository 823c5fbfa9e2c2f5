"""Weights and neighbours that resizing and sampling share: interpolation as a weighted sum over taps."""

from dataclasses import dataclass

from enginewright_builder.device.expression import Expression
from enginewright_builder.device.operators import terms
from enginewright_builder.device.operators.terms import add, call, multiply, subtract


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """One dimension of a sample: the reduction's axis over its taps, the place that a tap reads, surely inside, and
    its weight; `inside` is false where the tap counts as zero."""

    axis: tuple[str, int]
    place: Expression
    weight: Expression
    inside: Expression


def linear(distance: Expression) -> Expression:
    """max(0, 1 - |d|)."""
    return call("max", subtract(terms.number(1.0, terms.dtype_of(distance)), call("abs", distance)), 0.0)


def cubic(distance: Expression, a: float) -> Expression:
    """Keys' kernel, of support 2 (IEEE Trans. ASSP 29, 1981, equation 4 with a free parameter)."""
    x = call("abs", distance)
    near = add(multiply(call("-", multiply(x, _like(a + 2, x)), a + 3), x, x), _like(1.0, x))
    far = subtract(
        multiply(call("+", multiply(call("-", multiply(x, _like(a, x)), 5 * a), x), 8 * a), x), _like(4 * a, x)
    )
    beyond = terms.select(call("<", x, 2.0), far, _like(0.0, x))
    return terms.select(call("<=", x, 1.0), near, beyond)


def whole(value: Expression) -> Expression:
    """A coordinate without fraction as an index."""
    return terms.cast(value, "int32")


def between(coordinate: Expression, name: str, extent: int) -> Sampled:
    """The two neighbours of a coordinate; those outside count as zero."""
    low = call("floor", coordinate)
    axis = (name, 2)
    tap = terms.axis(*axis)
    place = add(whole(low), tap)
    fraction = subtract(coordinate, low)
    weight = terms.select(call("==", tap, 0), subtract(_like(1.0, fraction), fraction), fraction)
    return Sampled(
        axis=axis, place=terms.clamp(place, 0, extent - 1), weight=weight, inside=terms.within(place, extent)
    )


def _like(value: float, term: Expression) -> Expression:
    return terms.number(float(value), terms.dtype_of(term))
