"""How each scalar function and constant reads in CUDA C++. scalar_functions.py says what they mean; a test compares.

A template's {0}, {1} are the arguments, {T} the type that they are computed in. Integers wrap, as NumPy's do, so signed
sums go through unsigned ones.
"""

import math
from collections.abc import Mapping

NARROW = frozenset({"float16", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"})
REGISTER_TYPES: Mapping[str, str] = {
    **{name: name for name in ("int8", "uint8", "int16", "uint16", "uint32", "int64", "uint64", "bool")},
    **dict.fromkeys(NARROW, "float"),
    "float32": "float", "float64": "double", "int32": "int",
}  # fmt: skip
STORAGE_TYPES: Mapping[str, str] = {**REGISTER_TYPES, **{name: name for name in NARROW}, "bool": "boolean"}
FOLDS: Mapping[str, str] = {
    "sum": "Sum", "product": "Product", "min": "Min", "max": "Max", "and": "And", "or": "Or",
    "argmin": "ArgMin", "argmax": "ArgMax",
}  # fmt: skip

_ANY: Mapping[str, str] = {
    "<": "({0} < {1})",
    "<=": "({0} <= {1})",
    "==": "({0} == {1})",
    "!=": "({0} != {1})",
    "min": "minimum<{T}>({0}, {1})",
    "max": "maximum<{T}>({0}, {1})",
    "and": "({0} && {1})",
    "or": "({0} || {1})",
    "not": "(!{0})",
}
_INTEGER: Mapping[str, str] = {
    **_ANY,
    "+": "({T})(({U})({0}) + ({U})({1}))",
    "-": "({T})(({U})({0}) - ({U})({1}))",
    "*": "({T})(({U})({0}) * ({U})({1}))",
    "/": "quotient<{T}>({0}, {1})",
    "//": "quotient<{T}>({0}, {1})",
    "%": "remainder_of<{T}>({0}, {1})",
    "fmod": "remainder_of<{T}>({0}, {1})",
    "floordiv": "quotient_down<{T}>({0}, {1})",
    "mod": "remainder_down<{T}>({0}, {1})",
    "neg": "({T})(({U})(0) - ({U})({0}))",
    "abs": "({T})({0} < ({T})(0) ? ({U})(0) - ({U})({0}) : ({U})({0}))",
    "&": "({T})({0} & {1})",
    "|": "({T})({0} | {1})",
    "^": "({T})({0} ^ {1})",
    "~": "({T})(~{0})",
    "<<": "shifted_left<{T}>({0}, {1})",
    ">>": "shifted_right<{T}>({0}, {1})",
    "pow": "power<{T}>({0}, {1})",
    "isnan": "false",
    "isinf": "false",
    "floor": "{0}", "ceil": "{0}", "trunc": "{0}", "round_even": "{0}",
}  # fmt: skip
_BOOL: Mapping[str, str] = {
    **_ANY,
    "+": "({0} || {1})",
    "*": "({0} && {1})",
    "min": "({0} && {1})",
    "max": "({0} || {1})",
    "&": "({0} && {1})",
    "|": "({0} || {1})",
    "^": "({0} != {1})",
    "~": "(!{0})",
    "isnan": "false",
    "isinf": "false",
}
# `f` ends the name of the float functions of CUDA's math library; IEEE sums and products are never contracted here,
# for the compiler does it where it may.
_FLOAT: Mapping[str, str] = {
    **_ANY,
    "+": "({0} + {1})",
    "-": "({0} - {1})",
    "*": "({0} * {1})",
    "/": "({0} / {1})",
    "//": "trunc{f}({0} / {1})",
    "%": "fmod{f}({0}, {1})",
    "fmod": "fmod{f}({0}, {1})",
    "floordiv": "floor{f}({0} / {1})",
    "mod": "remainder_down({0}, {1})",
    "neg": "(-{0})",
    "abs": "fabs{f}({0})",
    "pow": "pow{f}({0}, {1})",
    "rsqrt": "({T}(1) / sqrt{f}({0}))",
    "reciprocal": "({T}(1) / {0})",
    "sigmoid": "({T}(1) / ({T}(1) + exp{f}(-{0})))",
    "round_even": "rint{f}({0})",
    "isnan": "({0} != {0})",
    "isinf": "(fabs{f}({0}) == Ends<{T}>::high())",
    **{
        name: name + "{f}({0})"
        for name in (
            "sqrt", "exp", "exp2", "expm1", "log", "log2", "log1p", "sin", "cos", "tan", "sinh", "cosh", "tanh",
            "asinh", "acosh", "atanh", "erf", "floor", "ceil", "trunc",
        )
    },
    **{name: f"{c_name}{{f}}({{0}})" for name, c_name in (("asin", "asin"), ("acos", "acos"), ("atan", "atan"))},
    "atan2": "atan2{f}({0}, {1})",
}  # fmt: skip
# Worth keeping in a register rather than computing twice.
EXPENSIVE = frozenset(
    {"exp", "exp2", "expm1", "log", "log2", "log1p", "sin", "cos", "tan", "sinh", "cosh", "tanh", "asinh", "acosh",
     "atanh", "erf", "asin", "acos", "atan", "atan2", "pow", "sqrt", "rsqrt", "sigmoid", "/", "fmod", "mod"}
)  # fmt: skip
_UNSIGNED = {"int8": "uint32", "int16": "uint32", "int": "uint32", "int64": "uint64"}


def called(function: str, dtype: str, arguments: list[str]) -> str:
    """A call as C++. `dtype` is the arguments' type. Raises KeyError for what the table does not have."""
    kind = REGISTER_TYPES[dtype]
    table = _BOOL if kind == "bool" else _FLOAT if kind in ("float", "double") else _INTEGER
    template = table[function]
    unsigned = _UNSIGNED.get(kind, kind)
    return template.format(*arguments, T=kind, U=unsigned, f="f" if kind == "float" else "")


def functions() -> frozenset[str]:
    """Every name that some type has a template for."""
    return frozenset(_FLOAT) | frozenset(_INTEGER) | frozenset(_BOOL)


def converted(text: str, source: str, target: str) -> str:
    """A cast as C++."""
    have, want = REGISTER_TYPES[source], REGISTER_TYPES[target]
    if target == "bool":
        return f"({text} != {have}(0))"
    if target in NARROW:  # held as float
        return f"rounded<{target}>({text})"
    if have in ("float", "double") and want not in ("float", "double"):
        return f"saturated<{want}>({text})"
    return text if have == want else f"{want}({text})"


def literal(value: str, dtype: str) -> str:
    """A constant as C++; `value` is its text in a node."""
    kind = REGISTER_TYPES[dtype]
    if kind == "bool":
        return "true" if value != "0" else "false"
    if kind in ("float", "double"):
        number = float(value)
        if math.isnan(number):
            return "of_bits(0x7fc00000u)" if kind == "float" else "double(of_bits(0x7fc00000u))"
        if math.isinf(number) or (kind == "float" and abs(number) >= 3.4028235677973366e38):
            return f"{'-' if number < 0 else ''}Ends<{kind}>::high()"
        return f"{'(' if number < 0 else ''}{number!r}{'f' if kind == 'float' else ''}{')' if number < 0 else ''}"
    whole = int(value)
    suffix = {"uint32": "u", "int64": "ll", "uint64": "ull"}.get(kind, "")
    if whole in (-(2**31), -(2**63)) and suffix in ("", "ll"):
        return f"({whole + 1}{suffix} - 1)"
    return f"({whole}{suffix})" if whole < 0 else f"{whole}{suffix}"
