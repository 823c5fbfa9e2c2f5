"""Comparisons, logic and tests of numbers: every output is bool."""

from collections.abc import Mapping

from enginewright_builder.device.expression import Expression
from enginewright_builder.device.operators import elementwise, terms
from enginewright_builder.device.operators.layer import Layer, Lowering
from enginewright_builder.device.operators.terms import call


def _is_infinite(layer: Layer, x: Expression) -> Expression:
    sides = [
        call("<", x, 0.0) if sign < 0 else call("<", terms.number(0.0, terms.dtype_of(x)), x)
        for sign, name in ((-1, "detect_negative"), (1, "detect_positive"))
        if elementwise.flag(layer, name, 1)
    ]
    if not sides:
        return terms.number(False, "bool")
    infinite = call("isinf", x, dtype="bool")
    return infinite if len(sides) == 2 else terms.both(infinite, sides[0])


LOWERINGS: Mapping[str, Lowering] = {
    "And": elementwise.plain(lambda a, b: call("and", a, b)),
    "Equal": elementwise.plain(lambda a, b: call("==", a, b)),
    "Greater": elementwise.plain(lambda a, b: call("<", b, a)),
    "GreaterOrEqual": elementwise.plain(lambda a, b: call("<=", b, a)),
    "IsInf": elementwise.shaped(_is_infinite),
    "IsNaN": elementwise.plain(lambda x: call("isnan", x, dtype="bool")),
    "Less": elementwise.plain(lambda a, b: call("<", a, b)),
    "LessOrEqual": elementwise.plain(lambda a, b: call("<=", a, b)),
    "Not": elementwise.plain(lambda x: call("not", x)),
    "Or": elementwise.plain(lambda a, b: call("or", a, b)),
    "Xor": elementwise.plain(lambda a, b: call("!=", a, b)),
}
