"""One formula an element: arithmetic, activations, bits. Numbers are those of ONNX's specification (Operators.md)."""

import math
from collections.abc import Mapping
from functools import partial, reduce

from enginewright_builder.device.expression import Computation, Expression
from enginewright_builder.device.operators import elementwise, terms
from enginewright_builder.device.operators.elementwise import real
from enginewright_builder.device.operators.layer import Declined, Layer, Lowering
from enginewright_builder.device.operators.terms import call


def _float(value: float, like: Expression) -> Expression:
    return terms.number(value, terms.dtype_of(like))


def _fold(function: str, *inputs: Expression) -> Expression:
    return reduce(lambda a, b: call(function, a, b), inputs)


def _mean(*inputs: Expression) -> Expression:
    return call("/", _fold("+", *inputs), float(len(inputs)))


def _divide(a: Expression, b: Expression) -> Expression:
    return call("/" if terms.is_float(terms.dtype_of(a)) else "//", a, b)


def _mod(layer: Layer, a: Expression, b: Expression) -> Expression:
    if elementwise.flag(layer, "fmod"):
        return call("fmod" if terms.is_float(terms.dtype_of(a)) else "%", a, b)
    if not terms.is_float(terms.dtype_of(a)):
        return call("mod", a, b)
    rest = call("fmod", a, b)
    other_side = call("!=", call("<", rest, 0.0), call("<", b, 0.0))
    return terms.select(terms.both(call("!=", rest, 0.0), other_side), call("+", rest, b), rest)


def _pow(layer: Layer) -> tuple[Computation, ...]:
    base, exponent = elementwise.operands(layer)
    dtype = terms.dtype_of(base) if terms.is_float(terms.dtype_of(base)) else "float64"
    if terms.dtype_of(exponent) == "float64":
        dtype = "float64"
    base = terms.cast(base, dtype)
    known = terms.operand(layer, 1).constant
    if known is not None and known.size == 1 and float(known.reshape(-1)[0]) in (1.0, 2.0, 3.0):
        return elementwise.only(layer, _fold("*", *[base] * int(known.reshape(-1)[0])))
    return elementwise.only(layer, call("pow", base, terms.cast(exponent, dtype)))


def _sign(x: Expression) -> Expression:
    zero, one = _float(0, x), _float(1, x)
    if terms.dtype_of(x).startswith("u"):
        return terms.select(call("==", x, zero), zero, one)
    negative = terms.select(call("<", x, zero), _float(-1, x), x)  # x itself keeps a NaN and a zero's sign
    return terms.select(call("<", zero, x), one, negative)


def _absolute(x: Expression) -> Expression:
    return x if terms.dtype_of(x).startswith("u") else call("abs", x)


def sigmoid(x: Expression) -> Expression:
    """1 / (1 + exp(-x))."""
    return call("/", _float(1, x), call("+", call("exp", call("neg", x)), _float(1, x)))


def softplus(x: Expression) -> Expression:
    """log(1 + exp(x)), written so that exp never overflows."""
    return call("+", call("max", x, 0.0), call("log1p", call("exp", call("neg", call("abs", x)))))


def _hard_sigmoid(x: Expression, alpha: float, beta: float) -> Expression:
    return terms.call("min", call("max", call("+", call("*", x, alpha), beta), 0.0), 1.0)


def _gelu(layer: Layer, x: Expression) -> Expression:
    if elementwise.word(layer, "approximate", "none") == "tanh":
        cubed = call("*", call("*", call("*", x, x), x), 0.044715)
        inner = call("tanh", call("*", call("+", x, cubed), math.sqrt(2 / math.pi)))
    else:
        inner = call("erf", call("*", x, math.sqrt(0.5)))
    return call("*", call("*", x, 0.5), call("+", inner, 1.0))


def _elu(layer: Layer, x: Expression) -> Expression:
    return terms.select(call("<", x, 0.0), call("*", call("expm1", x), real(layer, "alpha", 1.0)), x)


def _celu(layer: Layer, x: Expression) -> Expression:
    alpha = real(layer, "alpha", 1.0)
    below = call("*", call("expm1", call("/", x, alpha)), alpha)
    return call("+", call("max", x, 0.0), call("min", below, 0.0))


def _selu(layer: Layer, x: Expression) -> Expression:
    alpha, gamma = real(layer, "alpha", 1.67326319217681884765625), real(layer, "gamma", 1.05070102214813232421875)
    below = call("*", call("expm1", x), alpha)
    return call("*", terms.select(call("<", x, 0.0), below, x), gamma)


def _leaky(x: Expression, slope: Expression) -> Expression:
    return terms.select(call("<", x, _float(0, x)), call("*", x, slope), x)


def _shrink(layer: Layer, x: Expression) -> Expression:
    lambd, bias = real(layer, "lambd", 0.5), real(layer, "bias", 0.0)
    wide = terms.cast(x, "float64" if terms.dtype_of(x) == "float64" else "float32")
    above = terms.select(call("<", _float(lambd, wide), wide), call("-", wide, bias), _float(0, wide))
    return terms.select(call("<", wide, -lambd), call("+", wide, bias), above)


def _clip(layer: Layer) -> tuple[Computation, ...]:
    """Bounds are attributes before opset 11 and inputs of one element since."""
    at = terms.indices(terms.result(layer).shape)
    clipped = terms.load(layer, 0, at)
    for position, (name, function) in enumerate((("min", "max"), ("max", "min")), 1):
        if name in layer.attributes:
            clipped = call(function, clipped, float(layer.attributes[name]))
        bound = terms.optional(layer, position)
        if bound is not None:
            clipped = call(function, clipped, terms.load(layer, position, [0] * len(bound.shape)))
    return elementwise.only(layer, clipped)


def _shift(layer: Layer, x: Expression, by: Expression) -> Expression:
    return call("<<" if elementwise.word(layer, "direction", "") == "LEFT" else ">>", x, by)


def _swish(layer: Layer, x: Expression) -> Expression:
    return call("*", x, sigmoid(call("*", x, real(layer, "alpha", 1.0))))


def _prelu(layer: Layer) -> tuple[Computation, ...]:
    """Before opset 7 a slope of one dimension is one a channel; since, it broadcasts as all do."""
    at = terms.indices(terms.result(layer).shape)
    channels = layer.opset < 7 and len(at) > 1 and len(terms.operand(layer, 1).shape) == 1
    slope = terms.load(layer, 1, [at[1]]) if channels else terms.broadcast(layer, 1, at)
    return elementwise.only(layer, _leaky(terms.load(layer, 0, at), slope))


def _dropout(layer: Layer) -> tuple[Computation, ...]:
    """Nothing is dropped when a network serves, nor where the ratio is 0; the mask says so."""
    ratio, training = terms.optional(layer, 1), terms.optional(layer, 2)
    nothing = ratio is not None and ratio.constant is not None and not ratio.constant.any()
    if training is not None and not nothing and (training.constant is None or training.constant.any()):
        raise Declined("Dropout may be told to train")
    x = terms.load(layer, 0, terms.indices(terms.result(layer).shape))
    return elementwise.present(layer, lambda: x, lambda: terms.number(True, "bool"))


def _where(condition: Expression, yes: Expression, no: Expression) -> Expression:
    return terms.select(condition, yes, no)


_FUNCTIONS: Mapping[str, str] = {
    "Acos": "acos", "Acosh": "acosh", "Asin": "asin", "Asinh": "asinh", "Atan": "atan", "Atanh": "atanh", "Cos": "cos",
    "Cosh": "cosh", "Sin": "sin", "Sinh": "sinh", "Tan": "tan", "Tanh": "tanh", "Exp": "exp", "Log": "log",
    "Sqrt": "sqrt", "Erf": "erf", "Floor": "floor", "Ceil": "ceil", "Round": "round_even", "Neg": "neg", "Add": "+",
    "Sub": "-", "Mul": "*", "BitwiseAnd": "&", "BitwiseOr": "|", "BitwiseXor": "^", "BitwiseNot": "~",
}  # fmt: skip

LOWERINGS: Mapping[str, Lowering] = {
    **{name: elementwise.function(function) for name, function in _FUNCTIONS.items()},
    "Abs": elementwise.plain(_absolute),
    "BitShift": elementwise.shaped(_shift),
    "Celu": elementwise.shaped(_celu),
    "Clip": _clip,
    "Div": elementwise.plain(_divide),
    "Dropout": _dropout,
    "Elu": elementwise.shaped(_elu),
    "Gelu": elementwise.shaped(_gelu),
    "HardSigmoid": elementwise.shaped(
        lambda layer, x: _hard_sigmoid(x, real(layer, "alpha", 0.2), real(layer, "beta", 0.5))
    ),
    "HardSwish": elementwise.plain(lambda x: call("*", x, _hard_sigmoid(x, 1 / 6, 0.5))),
    "LeakyRelu": elementwise.shaped(lambda layer, x: _leaky(x, _float(real(layer, "alpha", 0.01), x))),
    "Max": elementwise.plain(partial(_fold, "max")),
    "Mean": elementwise.plain(_mean),
    "Min": elementwise.plain(partial(_fold, "min")),
    "Mish": elementwise.plain(lambda x: call("*", x, call("tanh", softplus(x)))),
    "Mod": elementwise.shaped(_mod),
    "PRelu": _prelu,
    "Pow": _pow,
    "Reciprocal": elementwise.plain(lambda x: call("/", _float(1, x), x)),
    "Relu": elementwise.plain(lambda x: call("max", x, 0)),
    "Selu": elementwise.shaped(_selu),
    "Shrink": elementwise.shaped(_shrink),
    "Sigmoid": elementwise.plain(sigmoid),
    "Sign": elementwise.plain(_sign),
    "Softplus": elementwise.plain(softplus),
    "Softsign": elementwise.plain(lambda x: call("/", x, call("+", call("abs", x), 1.0))),
    "Sum": elementwise.plain(partial(_fold, "+")),
    "Swish": elementwise.shaped(_swish),
    "ThresholdedRelu": elementwise.shaped(
        lambda layer, x: terms.select(call("<", _float(real(layer, "alpha", 1.0), x), x), x, _float(0, x))
    ),
    "Where": elementwise.plain(_where),
}
