"""The scalar functions that a Call may name, and what each means: in NumPy here, in CUDA C++ in the emitter's table.

A test holds the two tables together. Floating-point functions take and give one type; comparisons and tests give bool.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from enginewright_runtime.engine.values import Array

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _divide_to_zero(a: Array, b: Array) -> Array:
    safe = np.where(b == 0, 1, b)  # lanes where a division by zero is not taken
    return np.asarray(a - np.fmod(a, safe)) // safe


def _divide_down(a: Array, b: Array) -> Array:
    return np.asarray(np.floor_divide(a, np.where(b == 0, 1, b).astype(b.dtype)))


def _rest_to_zero(a: Array, b: Array) -> Array:
    return np.asarray(np.fmod(a, np.where(b == 0, 1, b).astype(b.dtype)))


def _rest_down(a: Array, b: Array) -> Array:
    return np.asarray(np.mod(a, np.where(b == 0, 1, b).astype(b.dtype)))


def _shift(function: Any) -> Callable[[Array, Array], Array]:
    """As wide as the type or wider, a shift gives 0, as NumPy has it and C does not say."""
    return lambda a, b: np.asarray(function(a, b))


FUNCTIONS: Mapping[str, Callable[..., Array]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "//": _divide_to_zero,
    "%": _rest_to_zero,
    "floordiv": _divide_down,
    "mod": _rest_down,
    "fmod": np.fmod,
    "neg": np.negative,
    "abs": np.absolute,
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "&": np.bitwise_and,
    "|": np.bitwise_or,
    "^": np.bitwise_xor,
    "~": np.bitwise_not,
    "<<": _shift(np.left_shift),
    ">>": _shift(np.right_shift),
    "min": np.minimum,
    "max": np.maximum,
    "pow": np.power,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: np.asarray(1 / np.sqrt(x), x.dtype),
    "reciprocal": np.reciprocal,
    "sigmoid": lambda x: np.asarray(1 / (1 + np.exp(-x)), x.dtype),
    "exp": np.exp,
    "exp2": np.exp2,
    "log2": np.log2,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf": lambda x: np.asarray(_erf(x)) if np.size(x) else np.asarray(x),
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "round_even": np.rint,
    "isnan": np.isnan,
    "isinf": np.isinf,
}
