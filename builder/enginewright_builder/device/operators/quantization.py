"""Numbers to integers or float8 with a scale, and back: per tensor, per axis, or per block of an axis."""

from collections.abc import Mapping, Sequence

import numpy as np

from enginewright_builder.device.expression import Computation, Expression
from enginewright_builder.device.operators import elementwise, reductions, terms
from enginewright_builder.device.operators.casting import saturated
from enginewright_builder.device.operators.layer import Layer, Lowering
from enginewright_builder.device.operators.terms import call


def _parameter(layer: Layer, position: int, at: Sequence[Expression]) -> Expression:
    """The scale's or zero point's element for the tensor's element at `at`."""
    shape, given = terms.operand(layer, 0).shape, terms.operand(layer, position).shape
    if len(given) == 0 or given == (1,):
        return terms.load(layer, position, [0] * len(given))
    axis = terms.axis_of(layer, len(shape), 1)
    if len(given) == 1:
        return terms.load(layer, position, [at[axis]])
    block = int(layer.attributes.get("block_size", 0)) or -(-shape[axis] // given[axis])
    return terms.load(layer, position, [terms.floordiv(p, block) if n == axis else p for n, p in enumerate(at)])


def quantized(value: Expression, zero: Expression | None, dtype: str) -> Expression:
    """Rounded to even, shifted and kept within what the integer type holds; a float8 type is saturated instead."""
    if terms.is_float(dtype):
        return saturated(value, dtype)
    bounds = np.iinfo(dtype)
    whole = call("round_even", value)
    if zero is not None:
        whole = call("+", whole, terms.cast(zero, terms.dtype_of(whole)))
    return terms.cast(call("min", call("max", whole, float(bounds.min)), float(bounds.max)), dtype)


def _quantize(layer: Layer) -> tuple[Computation, ...]:
    output = terms.result(layer)
    at = terms.indices(output.shape)
    x = terms.cast(terms.load(layer, 0, at), "float32")
    scaled = call("/", x, terms.cast(_parameter(layer, 1, at), "float32"))
    zero = None if terms.optional(layer, 2) is None else _parameter(layer, 2, at)
    if terms.is_float(output.dtype) and not elementwise.flag(layer, "saturate", 1):
        return elementwise.only(layer, scaled)
    return elementwise.only(layer, quantized(scaled, zero, output.dtype))


def _dequantize(layer: Layer) -> tuple[Computation, ...]:
    at = terms.indices(terms.result(layer).shape)
    x = terms.load(layer, 0, at)
    if not terms.is_float(terms.dtype_of(x)):
        x = terms.cast(x, "int32")
        if terms.optional(layer, 2) is not None:
            x = call("-", x, terms.cast(_parameter(layer, 2, at), "int32"))
    scale = terms.cast(_parameter(layer, 1, at), "float32")
    return elementwise.only(layer, call("*", terms.cast(x, "float32"), scale))


def _dynamic(layer: Layer) -> tuple[Computation, ...]:
    """To uint8 with 0 as one of the values: the scale and the zero point come from the extremes and are outputs."""
    shape = terms.operand(layer, 0).shape
    over = reductions.span(layer, range(len(shape)))
    low = call("min", over.fold("min", "a", over.element("a")), 0.0)
    high = call("max", over.fold("max", "b", over.element("b")), 0.0)
    extent = call("-", high, low)
    flat = call("==", extent, 0.0)
    scale = terms.select(flat, terms.number(1.0, "float32"), call("/", extent, 255.0))
    least = call("/", call("neg", low), scale)
    zero = quantized(call("min", call("max", least, 0.0), 255.0), None, "uint8")
    value = quantized(call("/", terms.load(layer, 0, terms.indices(shape)), scale), zero, "uint8")
    return elementwise.present(layer, lambda: value, lambda: scale, lambda: zero)


LOWERINGS: Mapping[str, Lowering] = {
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "QuantizeLinear": _quantize,
}
