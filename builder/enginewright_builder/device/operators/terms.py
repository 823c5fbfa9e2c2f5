"""Short ways to write expressions, folding what is known: what a lowering says stays close to the operator's formula.

Folding is for integers and conditions alone, where it is exact; no floating-point term is ever reordered or dropped.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import reduce as fold

from enginewright_builder.device.expression import (
    Axis,
    Call,
    Cast,
    Constant,
    Expression,
    Index,
    Load,
    Reduction,
    Select,
)
from enginewright_builder.device.operators.layer import Declined, Layer, Operand

_WIDENED = frozenset({"float16", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"})
_COMPARISONS = frozenset({"<", "<=", "==", "!=", "and", "or", "not"})
_FOLDED: dict[str, Callable[[int, int], int | bool]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "//": lambda a, b: int(a / b),
    "%": lambda a, b: a - int(a / b) * b,
    "min": min,
    "max": max,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}
_NEUTRAL = {"+": 0, "-": 0, "*": 1, "floordiv": 1, "//": 1}

Number = int | float | bool
Term = Expression | int


def operand(layer: Layer, position: int) -> Operand:
    """An input that must be there. Raises Declined."""
    found = optional(layer, position)
    if found is None:
        raise Declined(f"its input {position} is missing")
    return found


def optional(layer: Layer, position: int) -> Operand | None:
    """An input, or None where it is absent."""
    return layer.inputs[position] if position < len(layer.inputs) else None


def result(layer: Layer, position: int = 0) -> Operand:
    """An output that must be there. Raises Declined."""
    found = layer.outputs[position] if position < len(layer.outputs) else None
    if found is None:
        raise Declined(f"its output {position} is missing")
    return found


def settled(layer: Layer, position: int, name: str) -> tuple[int, ...] | None:
    """The integers of a constant input; None where it is absent. Raises Declined where they are not constant."""
    given = optional(layer, position)
    if given is None:
        return None
    if given.constant is None:
        raise Declined(f"its {name} are not constant")
    return tuple(int(each) for each in given.constant.reshape(-1))


def integers(layer: Layer, name: str) -> tuple[int, ...] | None:
    """A list attribute, None where it is absent."""
    value = layer.attributes.get(name)
    return None if value is None else tuple(int(each) for each in value)


def axis_of(layer: Layer, rank: int, default: int = 0, name: str = "axis") -> int:
    """An attribute that names a dimension, counted from the back if negative."""
    axis = int(layer.attributes.get(name, default))
    return axis + rank if axis < 0 else axis


def computed(dtype: str) -> str:
    """What elements of a tensor are computed with: float32 for the narrower floating-point types."""
    return "float32" if dtype in _WIDENED else dtype


def is_float(dtype: str) -> bool:
    """Whether it is a floating-point type."""
    return "float" in dtype


def index(position: int) -> Index:
    """The output's index of that dimension."""
    return Index(f"i{position}")


def indices(shape: Sequence[int]) -> list[Expression]:
    """The output's indices; 0 in dimensions of one element."""
    return [number(0) if extent == 1 else index(position) for position, extent in enumerate(shape)]


def number(value: Number, dtype: str = "int32") -> Constant:
    """A constant."""
    return Constant(value, dtype)


def dtype_of(term: Expression) -> str:
    """The type of an expression."""
    match term:
        case Index():
            return "int32"
        case Select():
            return dtype_of(term.yes)
        case _:
            return term.dtype


def call(function: str, *terms: Term | float, dtype: str = "") -> Expression:
    """A function of terms; plain numbers take the type of the first term that has one."""
    typed = next((dtype_of(each) for each in terms if not isinstance(each, int | float)), "int32")
    arguments = tuple(number(each, typed) if isinstance(each, int | float) else each for each in terms)
    made = dtype or ("bool" if function in _COMPARISONS else typed)
    if len(arguments) == 2 and function in _FOLDED and not is_float(typed):
        return _fold(function, arguments[0], arguments[1], made)
    return Call(function, arguments, made)


def _fold(function: str, a: Expression, b: Expression, dtype: str) -> Expression:
    if isinstance(a, Constant) and isinstance(b, Constant):
        return Constant(_FOLDED[function](int(a.value), int(b.value)), dtype)
    if isinstance(b, Constant):
        if function in _NEUTRAL and b.value == _NEUTRAL[function]:
            return a
        if (function, b.value) in (("*", 0), ("mod", 1), ("%", 1)):
            return Constant(0, dtype)
    if isinstance(a, Constant) and function in "+*":
        return _fold(function, b, a, dtype)
    return Call(function, (a, b), dtype)


def add(*terms: Term) -> Expression:
    """Their sum."""
    return fold(lambda a, b: call("+", a, b), terms[1:], _term(terms[0]))


def subtract(a: Term, b: Term) -> Expression:
    """a - b."""
    return call("-", a, b)


def multiply(*terms: Term) -> Expression:
    """Their product."""
    return fold(lambda a, b: call("*", a, b), terms[1:], _term(terms[0]))


def floordiv(a: Term, b: Term) -> Expression:
    """a / b rounded down."""
    return call("floordiv", a, b)


def modulo(a: Term, b: Term) -> Expression:
    """The rest of a / b, of b's sign."""
    return call("mod", a, b)


def clamp(term: Term, low: Term, high: Term) -> Expression:
    """The nearest value from low to high."""
    return call("min", call("max", term, low), high)


def both(*conditions: Expression) -> Expression:
    """Whether all hold; nothing is left of those that always do."""
    rest = [each for each in conditions if not (isinstance(each, Constant) and each.value)]
    refused = next((each for each in rest if isinstance(each, Constant)), None)
    if refused is not None:
        return refused
    return fold(lambda a, b: Call("and", (a, b), "bool"), rest[1:], rest[0]) if rest else number(True, "bool")


def either(a: Expression, b: Expression) -> Expression:
    """Whether one of them holds."""
    return Call("or", (a, b), "bool")


def negate(condition: Expression) -> Expression:
    """Whether it does not hold."""
    return Call("not", (condition,), "bool")


def within(term: Term, extent: int) -> Expression:
    """0 <= term < extent."""
    return both(call("<=", 0, term), call("<", term, extent))


def select(condition: Expression, yes: Expression, no: Expression) -> Expression:
    """`yes` where the condition holds, else `no`."""
    if isinstance(condition, Constant):
        return yes if condition.value else no
    return Select(condition, yes, no)


def cast(term: Expression, dtype: str) -> Expression:
    """The term as another type; nothing where it has it."""
    if dtype_of(term) == dtype:
        return term
    if isinstance(term, Constant) and is_float(dtype) and not is_float(term.dtype):
        return number(float(term.value), dtype)
    return Cast(term, dtype)


def load(layer: Layer, position: int, at: Iterable[Term]) -> Expression:
    """An element of an input. Dimensions of one element are read at 0."""
    given = operand(layer, position)
    places = tuple(number(0) if extent == 1 else _term(each) for each, extent in zip(at, given.shape, strict=True))
    return Load(position, places, computed(given.dtype))


def broadcast(layer: Layer, position: int, at: Sequence[Expression]) -> Expression:
    """An element of an input whose dimensions are the last of `at`'s, those of one element repeated."""
    rank = len(operand(layer, position).shape)
    return load(layer, position, at[len(at) - rank :])


def reduction(function: str, axes: Iterable[tuple[str, int]], body: Expression, dtype: str = "") -> Expression:
    """`body` folded over axes given as (name, extent)."""
    return Reduction(function, tuple(Axis(*each) for each in axes), body, dtype or dtype_of(body))


def axis(name: str, extent: int) -> Expression:
    """The index variable of a reduction's axis; 0 where it has one element."""
    return number(0) if extent == 1 else Index(name)


def summed(axes: Iterable[tuple[str, int]], body: Expression, function: str = "sum") -> Expression:
    """`body` folded over axes, whose variables are those of `axis`: the ones of one element go."""
    real = [each for each in axes if each[1] != 1]
    return reduction(function, real, body) if real else body


def lowest(dtype: str) -> Constant:
    """The neutral element of max."""
    if is_float(dtype):
        return number(-math.inf, dtype)
    if dtype == "bool":
        return number(False, dtype)
    bits = int(dtype.lstrip("uint"))
    return number(0 if dtype.startswith("u") else -(2 ** (bits - 1)), dtype)


def highest(dtype: str) -> Constant:
    """The neutral element of min."""
    if is_float(dtype):
        return number(math.inf, dtype)
    if dtype == "bool":
        return number(True, dtype)
    bits = int(dtype.lstrip("uint"))
    return number(2**bits - 1 if dtype.startswith("u") else 2 ** (bits - 1) - 1, dtype)


def ravel(at: Sequence[Expression], shape: Sequence[int]) -> Expression:
    """The position in C order of an element at indices."""
    place: Expression = number(0)
    for each, extent in zip(at, shape, strict=True):
        place = add(multiply(place, extent), each)
    return place


def unravel(place: Expression, shape: Sequence[int]) -> list[Expression]:
    """The indices of the element at a position in C order."""
    at: list[Expression] = []
    step, size = 1, math.prod(shape)
    for extent in reversed(shape):
        outer = call("//", place, step)  # never negative: the cheaper division will do
        at.append(number(0) if extent == 1 else outer if step * extent >= size else call("%", outer, extent))
        step *= max(extent, 1)
    return at[::-1]


def chosen(terms: Sequence[Expression], which: Expression) -> Expression:
    """terms[which], as nested choices; the last where `which` is beyond."""
    made = terms[-1]
    for position in range(len(terms) - 2, -1, -1):
        made = select(call("==", which, position), terms[position], made)
    return made


def _term(term: Term) -> Expression:
    return number(term) if isinstance(term, int) else term
