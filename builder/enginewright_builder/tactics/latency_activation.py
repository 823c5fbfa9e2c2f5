"""An ONNX activation as the text of calls of kernels/activations.cuh, two parameters each. Pure."""

import math
from collections.abc import Mapping

# function, then (attribute, ONNX's default) of its two parameters
Functions = Mapping[str, tuple[str, tuple[tuple[str, float], ...]]]
FUNCTIONS: Functions = {
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


def activation_text(
    activation: str, parameters: Mapping[str, float], gated: bool, variable: str = "v", among: Functions = FUNCTIONS
) -> str | None:
    """C++ of activation(v), or v * activation(v) if gated; None where there is no such function."""
    if activation not in among:
        return None
    function, named = among[activation]
    values = [_literal(parameters.get(name, default)) for name, default in named]
    call = f"{function}({', '.join([variable, *values, '0.f', '0.f'][:3])})"
    return f"({variable} * {call})" if gated else call


def _literal(value: float) -> str:
    if math.isinf(value):
        return "__int_as_float(0x7f800000)" if value > 0 else "__int_as_float(0xff800000)"
    return f"{float(value)!r}f"
