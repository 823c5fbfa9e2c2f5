"""Operations on each element: of one tensor in the layout that it has, of two in one that both can have."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.tensorflow.call import Call, Convert, Table
from enginewright_builder.importers.tensorflow.scope import SMALL, Array, Tensor, channels_first

Values = tuple[ir.Value, ...]
Write = Callable[[Call, Values], ir.Value]


def each(write: Write) -> Convert:
    """A conversion of the first input, element by element, in its own layout."""

    def convert(call: Call) -> list[Tensor]:
        given = call.inputs[0]
        if given.first is not None:
            return [Tensor(first=write(call, (given.first,)), rank=given.rank)]
        return [Tensor(value=write(call, (call.scope.plain(given),)), rank=given.rank)]

    return convert


def together(write: Write) -> Convert:
    """A conversion of all inputs with broadcasting, channels first where one of them is and the others can be."""

    def convert(call: Call) -> list[Tensor]:
        rank = next((given.rank for given in call.inputs if given.first is not None), None)
        if rank is not None:
            turned = [_turned(call, given, rank) for given in call.inputs]
            values = tuple(value for value in turned if value is not None)
            if len(values) == len(turned):
                return [Tensor(first=write(call, values), rank=rank)]
        ranks = [given.rank for given in call.inputs]
        rank = max(each for each in ranks if each is not None) if None not in ranks else None
        return [Tensor(value=write(call, tuple(call.scope.plain(given) for given in call.inputs)), rank=rank)]

    return convert


def _turned(call: Call, given: Tensor, rank: int) -> ir.Value | None:
    """The input as it broadcasts against a channels-first tensor; None where it cannot be told how."""
    if given.first is not None:
        return given.first if given.rank == rank else None
    if given.array is not None and given.array.ndim <= rank:
        if given.array.size == 1:
            return call.scope.constant(given.array.reshape(()))
        wide = given.array.reshape((1,) * (rank - given.array.ndim) + given.array.shape)
        return call.scope.constant(wide.transpose(channels_first(rank)))
    if given.rank == 0:
        return call.scope.plain(given)
    return call.scope.turned(given, rank) if given.rank == rank else None


def named(op: str, **attributes: Any) -> Write:
    """One ONNX layer."""
    return lambda call, values: call.scope.put(op, *values, **attributes)


def chain(*ops: str) -> Write:
    """ONNX layers of one input after each other."""

    def write(call: Call, values: Values) -> ir.Value:
        (value,) = values
        for op in ops:
            value = call.scope.put(op, value)
        return value

    return write


def scalar(call: Call, number: float, attribute: str = "T") -> ir.Value:
    """A constant of the operation's own type."""
    return call.scope.constant(np.array(number, dtype=call.dtype(attribute).numpy()))


def arithmetic(op: str, compute: Callable[[Array, Array], Array]) -> Convert:
    """Two inputs; of small constants here and now, since axes and shapes are made so."""
    convert = together(named(op))

    def maybe(call: Call) -> list[Tensor]:
        arrays = [given.array for given in call.inputs]
        if all(array is not None and array.size <= SMALL and array.dtype.kind == "i" for array in arrays):
            left, right = (array for array in arrays if array is not None)
            return [call.scope.known(compute(left, right).astype(left.dtype))]
        return list(convert(call))

    return maybe


def _relu6(call: Call, values: Values) -> ir.Value:
    return call.scope.put("Clip", *values, scalar(call, 0), scalar(call, 6))


def _leaky_relu(call: Call, values: Values) -> ir.Value:
    return call.scope.put("LeakyRelu", *values, alpha=call.number("alpha", 0.2))


def _square(call: Call, values: Values) -> ir.Value:
    return call.scope.put("Mul", values[0], values[0])


def _squared_difference(call: Call, values: Values) -> ir.Value:
    difference = call.scope.put("Sub", *values)
    return call.scope.put("Mul", difference, difference)


def _plus_one_then(op: str) -> Write:
    return lambda call, values: call.scope.put(op, call.scope.put("Add", values[0], scalar(call, 1)))


def _expm1(call: Call, values: Values) -> ir.Value:
    return call.scope.put("Sub", call.scope.put("Exp", *values), scalar(call, 1))


def _is_finite(call: Call, values: Values) -> ir.Value:
    put = call.scope.put
    return put("Not", put("Or", put("IsNaN", *values), put("IsInf", *values)))


def _erfc(call: Call, values: Values) -> ir.Value:
    return call.scope.put("Sub", scalar(call, 1), call.scope.put("Erf", *values))


def _zeros_like(call: Call, values: Values) -> ir.Value:
    return call.scope.put("Expand", scalar(call, 0), call.scope.put("Shape", values[0]))


def _ones_like(call: Call, values: Values) -> ir.Value:
    return call.scope.put("Add", _zeros_like(call, values), scalar(call, 1))


def _floor_div(call: Call, values: Values) -> ir.Value:
    scope = call.scope
    if call.dtype().is_floating_point():
        return scope.put("Floor", scope.put("Div", *values))
    rest = scope.put("Mod", *values)  # of the divisor's sign: what is left of it is divisible
    return scope.put("Div", scope.put("Sub", values[0], rest), values[1])


def _floor_mod(call: Call, values: Values) -> ir.Value:
    scope = call.scope
    if not call.dtype().is_floating_point():
        return scope.put("Mod", *values)
    whole = scope.put("Floor", scope.put("Div", *values))
    return scope.put("Sub", values[0], scope.put("Mul", whole, values[1]))


def _div_no_nan(call: Call, values: Values) -> ir.Value:
    scope, zero = call.scope, scalar(call, 0)
    return scope.put("Where", scope.put("Equal", values[1], zero), zero, scope.put("Div", *values))


def _not_equal(call: Call, values: Values) -> ir.Value:
    return call.scope.put("Not", call.scope.put("Equal", *values))


def _cast(call: Call) -> list[Tensor]:
    to, given = call.dtype("DstT"), call.inputs[0]
    if to is ir.DataType.STRING:
        raise call.refuse("casts to texts, which TensorFlow does not")
    if given.array is not None and given.array.size <= SMALL and given.array.dtype != object:
        return [call.scope.known(given.array.astype(to.numpy()))]
    return list(each(named("Cast", to=to))(call))


def _select(call: Call) -> list[Tensor]:
    """Select (not SelectV2) takes a condition for each row: a vector beside tensors of more dimensions."""
    condition, chosen, other = call.inputs
    rank = chosen.rank if chosen.rank is not None else call.scope.rank(other)
    if call.scope.rank(condition) == 1 and rank > 1:  # guessed, it would broadcast to something else
        axes = call.scope.ints(*range(1, rank))
        rows = Tensor(value=call.scope.put("Unsqueeze", call.scope.plain(condition), axes), rank=rank)
        call = Call(scope=call.scope, node=call.node, inputs=(rows, chosen, other))
    return list(together(named("Where"))(call))


def _clip(call: Call, values: Values) -> ir.Value:
    return call.scope.put("Min", call.scope.put("Max", values[0], values[1]), values[2])


def _identity(call: Call) -> list[Tensor]:
    return [call.inputs[0]]


def _bits(call: Call) -> list[Tensor]:
    """The same bits as another type: of a quantized type and the integer that it is stored as."""
    if call.dtype() is not call.dtype("type"):
        raise call.refuse(f"takes the bits of {call.dtype()} for {call.dtype('type')}, for which ONNX has no layer")
    return [call.inputs[0]]


def _identities(call: Call) -> list[Tensor]:
    return list(call.inputs)


def _add_n(call: Call, values: Values) -> ir.Value:
    return call.scope.put("Sum", *values)


_SAME = (
    *("Relu", "Elu", "Selu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Erf", "Neg", "Abs", "Exp", "Log", "Sqrt"),
    *("Floor", "Ceil", "Round", "Sign", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh"),
    "Atanh",
)
TABLE: Table = {
    **{op: each(named(op)) for op in _SAME},
    "Rint": each(named("Round")),
    "IsNan": each(named("IsNaN")),
    "IsInf": each(named("IsInf")),
    "IsFinite": each(_is_finite),
    "LogicalNot": each(named("Not")),
    "Reciprocal": each(named("Reciprocal")),
    "Inv": each(named("Reciprocal")),
    "Rsqrt": each(chain("Sqrt", "Reciprocal")),
    "Square": each(_square),
    "Erfc": each(_erfc),
    "Log1p": each(_plus_one_then("Log")),
    "Expm1": each(_expm1),
    "Relu6": each(_relu6),
    "LeakyRelu": each(_leaky_relu),
    "ZerosLike": each(_zeros_like),
    "OnesLike": each(_ones_like),
    "Cast": _cast,
    "Add": arithmetic("Add", np.add),
    "AddV2": arithmetic("Add", np.add),
    "Sub": arithmetic("Sub", np.subtract),
    "Mul": arithmetic("Mul", np.multiply),
    "RealDiv": together(named("Div")),
    "Div": together(named("Div")),
    "TruncateDiv": together(named("Div")),
    "DivNoNan": together(_div_no_nan),
    "FloorDiv": together(_floor_div),
    "FloorMod": together(_floor_mod),
    "Maximum": arithmetic("Max", np.maximum),
    "Minimum": arithmetic("Min", np.minimum),
    "Pow": together(named("Pow")),
    "SquaredDifference": together(_squared_difference),
    "AddN": together(_add_n),
    "ClipByValue": together(_clip),
    "Equal": together(named("Equal")),
    "NotEqual": together(_not_equal),
    "Less": together(named("Less")),
    "LessEqual": together(named("LessOrEqual")),
    "Greater": together(named("Greater")),
    "GreaterEqual": together(named("GreaterOrEqual")),
    "LogicalAnd": together(named("And")),
    "LogicalOr": together(named("Or")),
    "Select": _select,
    "SelectV2": together(named("Where")),
    # What hands its input through; a gradient or a check is no part of an inference.
    "Identity": _identity,
    "StopGradient": _identity,
    "PreventGradient": _identity,
    "CheckNumerics": _identity,
    "Snapshot": _identity,
    "Bitcast": _bits,
    "PlaceholderWithDefault": _identity,
    "IdentityN": _identities,
}
