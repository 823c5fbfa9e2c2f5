"""A small language for what a layer computes: one scalar expression of the output's indices.

    out[i0, ..., in] = value(i0, ..., in)

Loads read an operand at computed indices, `Reduction` folds a body over further index variables. Pointwise layers,
broadcasting, reductions, norms, softmax, pooling, padding, gathers and all kinds of moves are a few lines each in it,
and substituting a producer's expression for a load of it is fusion. Pure: emit_cuda.py turns it into CUDA C++,
reference.py into NumPy. After the idea of Halide (Ragan-Kelley et al., PLDI 2013) and TVM's tensor expressions
(Chen et al., OSDI 2018).

Types: an expression has a dtype. Index expressions are "int32" (or "int64" where an operand has more than 2**31
elements); conditions are "bool"; float16 and bfloat16 are loaded, computed with as float32, and rounded when stored.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Index:
    """An index variable; the output's are named "i0", "i1", ..., those of reductions as they like, all unique."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, boolean, infinity or NaN of `dtype`."""

    value: float | int | bool
    dtype: str


@dataclass(frozen=True, slots=True)
class Load:
    """Operand `operand` (a number in Problem.operands) at `indices`, one for each of its dimensions, always in bounds:
    guard with `Select`, whose branches are evaluated only where they are taken. Strides and widening are the emitter's
    business. `dtype` is the operand's, float32 for the half types."""

    operand: int
    indices: "tuple[Expression, ...]"
    dtype: str


@dataclass(frozen=True, slots=True)
class Call:
    """A scalar function: an operator ("+", "-", "*", "/", "//" and "%" rounding as C does, "floordiv", "mod" rounding
    down, "<", "<=", "==", "!=", "and", "or", "not", "neg", "&", "|", "^", "~", "<<", ">>", "min", "max" propagating
    NaN) or a function of scalar_functions.py's table ("exp", "log", "sqrt", "tanh", "erf", "pow", "round_even", ...).
    """

    function: str
    arguments: "tuple[Expression, ...]"
    dtype: str


@dataclass(frozen=True, slots=True)
class Cast:
    """The argument as `dtype`, by C++'s rules; float to integer saturates, to bool compares with zero."""

    argument: "Expression"
    dtype: str


@dataclass(frozen=True, slots=True)
class Select:
    """`yes` where `condition` holds, else `no`; only the branch that is taken is evaluated."""

    condition: "Expression"
    yes: "Expression"
    no: "Expression"


@dataclass(frozen=True, slots=True)
class Axis:
    """An index variable of a reduction and its extent: 0 <= name < extent."""

    name: str
    extent: int


@dataclass(frozen=True, slots=True)
class Reduction:
    """`body` folded over `axes` with "sum", "product", "min", "max", "and", "or", "argmin", "argmax" (the position in
    the last axis; the first one wins) from the function's neutral element, in float32 (float64 for float64) at least. A
    reduction that does not read all of the output's indices is computed once for those that share its value."""

    function: str
    axes: tuple[Axis, ...]
    body: "Expression"
    dtype: str


Expression: TypeAlias = Index | Constant | Load | Call | Cast | Select | Reduction


@dataclass(frozen=True, slots=True, kw_only=True)
class Computation:
    """One output: `out[indices] = value` for all indices below `shape`, stored as `dtype`."""

    shape: tuple[int, ...]
    dtype: str
    value: Expression


def parts(expression: Expression) -> tuple[Expression, ...]:
    """What an expression is made of directly."""
    match expression:
        case Load(_, indices, _):
            return indices
        case Call(_, arguments, _):
            return arguments
        case Cast(argument, _):
            return (argument,)
        case Select(condition, yes, no):
            return (condition, yes, no)
        case Reduction(_, _, body, _):
            return (body,)
        case Index() | Constant():
            return ()


def rebuilt(expression: Expression, of: Callable[[Expression], Expression]) -> Expression:
    """The expression over `of` of its parts."""
    match expression:
        case Load(_, indices, _):
            return replace(expression, indices=tuple(of(each) for each in indices))
        case Call(_, arguments, _):
            return replace(expression, arguments=tuple(of(each) for each in arguments))
        case Cast(argument, _):
            return replace(expression, argument=of(argument))
        case Select(condition, yes, no):
            return Select(of(condition), of(yes), of(no))
        case Reduction(_, _, body, _):
            return replace(expression, body=of(body))
        case Index() | Constant():
            return expression
