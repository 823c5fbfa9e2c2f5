"""An ONNX activation as the text of calls of kernels/activations.cuh, for the macros of the latency kernels. Pure."""

import math
from collections.abc import Mapping

# function, then (attribute, ONNX's default) of its two parameters
FUNCTIONS: Mapping[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "": ("none", ()),
    "Relu": ("relu", ()),
    "Clip": ("clip", (("min", -math.inf), ("max", math.inf))),
    "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)),
    "Elu": ("elu", (("alpha", 1.0),)),
    "Sigmoid": ("sigmoid", ()),
    "HardSigmoid": ("hard_sigmoid", (("alpha", 0.2), ("beta", 0.5))),
    "HardSwish": ("hard_swish", ()),
    "Tanh": ("tanh", ()),
}


def activation_text(activation: str, parameters: Mapping[str, float], gated: bool, variable: str = "v") -> str | None:
    """C++ of activation(v), or v * activation(v) if gated; None where there is no such function."""
    if activation not in FUNCTIONS:
        return None
    function, named = FUNCTIONS[activation]
    values = [_literal(parameters.get(name, default)) for name, default in named]
    call = f"{function}({', '.join([variable, *values, '0.f', '0.f'][:3])})"
    return f"({variable} * {call})" if gated else call


def finish_text(activation: str, parameters: Mapping[str, float], gated: bool) -> str | None:
    """C++ of two sums a and b, activated, rounded and packed into a word (latency.cuh's functions)."""
    if activation == "Relu" and not gated:
        return "pack_positive(a, b)"
    first = activation_text(activation, parameters, gated, "(a)")
    second = activation_text(activation, parameters, gated, "(b)")
    return None if first is None or second is None else f"pack({first}, {second})"


def _literal(value: float) -> str:
    if math.isinf(value):
        return "__int_as_float(0x7f800000)" if value > 0 else "__int_as_float(0xff800000)"
    return f"{float(value)!r}f"
