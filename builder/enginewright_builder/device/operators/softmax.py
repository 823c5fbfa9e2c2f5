"""Softmax, LogSoftmax, Hardmax: over one dimension since opset 13, over it and all behind it before."""

from collections.abc import Mapping
from functools import partial

from enginewright_builder.device.expression import Computation, Expression, Index
from enginewright_builder.device.operators import elementwise, reductions, terms
from enginewright_builder.device.operators.layer import Layer, Lowering
from enginewright_builder.device.operators.reductions import Span
from enginewright_builder.device.operators.terms import call


def _span(layer: Layer) -> Span:
    rank = len(terms.operand(layer, 0).shape)
    old = layer.opset < 13
    axis = terms.axis_of(layer, rank, 1 if old else -1)
    return reductions.span(layer, tuple(range(axis, rank)) if old else (axis,))


def _softmax(layer: Layer, *, logarithm: bool) -> tuple[Computation, ...]:
    """exp(x - m) / sum(exp(x - m)) with the greatest element m, or its logarithm."""
    over = _span(layer)
    greatest = over.fold("max", "m", over.element("m"))
    total = over.fold("sum", "s", call("exp", call("-", over.element("s"), greatest)))
    shifted = call("-", terms.load(layer, 0, terms.indices(over.shape)), greatest)
    if logarithm:
        return elementwise.only(layer, call("-", shifted, call("log", total)))
    return elementwise.only(layer, call("/", call("exp", shifted), total))


def _hardmax(layer: Layer) -> tuple[Computation, ...]:
    """1 at the first greatest element: the one with nothing as great before it and nothing greater."""
    over = _span(layer)
    own = terms.indices(over.shape)
    here = terms.ravel([own[axis] for axis in over.axes], [over.shape[axis] for axis in over.axes])
    there = terms.ravel([Index(f"b{axis}") for axis in over.axes], [over.shape[axis] for axis in over.axes])
    x, other = terms.load(layer, 0, own), over.element("b")
    better: Expression = terms.either(call("<", x, other), terms.both(call("==", x, other), call("<", there, here)))
    beaten = over.fold("or", "b", better)
    dtype = terms.dtype_of(x)
    return elementwise.only(layer, terms.select(beaten, terms.number(0.0, dtype), terms.number(1.0, dtype)))


LOWERINGS: Mapping[str, Lowering] = {
    "Softmax": partial(_softmax, logarithm=False),
    "LogSoftmax": partial(_softmax, logarithm=True),
    "Hardmax": _hardmax,
}
