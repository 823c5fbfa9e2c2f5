"""Cast and CastLike: C++'s conversions, and for float8 ONNX's table of what happens to numbers that are too large."""

from collections.abc import Mapping

from enginewright_builder.device.expression import Computation, Expression
from enginewright_builder.device.operators import elementwise, terms
from enginewright_builder.device.operators.layer import Layer, Lowering
from enginewright_builder.device.operators.terms import call

LARGEST: Mapping[str, float] = {
    "float8_e4m3fn": 448.0,
    "float8_e4m3fnuz": 240.0,
    "float8_e5m2": 57344.0,
    "float8_e5m2fnuz": 57344.0,
}


def saturated(value: Expression, dtype: str) -> Expression:
    """`value` within what the float8 type can hold, infinities too; NaN stays. Other types' values as they are."""
    largest = LARGEST.get(dtype)
    if largest is None:
        return value
    wide = value if terms.is_float(terms.dtype_of(value)) else terms.cast(value, "float32")
    return call("min", call("max", wide, -largest), largest)


def _cast(layer: Layer) -> tuple[Computation, ...]:
    output = terms.result(layer)
    value = terms.load(layer, 0, terms.indices(output.shape))
    if elementwise.flag(layer, "saturate", 1) and terms.is_float(terms.operand(layer, 0).dtype):
        value = saturated(value, output.dtype)
    if terms.computed(output.dtype) != output.dtype and terms.dtype_of(value) == "float64":
        return (Computation(shape=output.shape, dtype=output.dtype, value=value),)  # rounded once, when stored
    return elementwise.only(layer, value)


LOWERINGS: Mapping[str, Lowering] = {"Cast": _cast, "CastLike": _cast}
