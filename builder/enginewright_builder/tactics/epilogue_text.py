"""What a problem does to its sums, as C++: a call of kernels/activations.cuh where that is all, else of `tail(v, r)`.

The text of `tail` stands behind those activations. An operator that has a fast form there is a call of it; any other is
its expression, by CUDA's own functions. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from enginewright_builder.device import cuda_functions, tails
from enginewright_builder.device.expression import Call, Cast, Constant, Expression, Load, Select
from enginewright_builder.device.operators import terms
from enginewright_builder.network import tail as network_tail
from enginewright_builder.network.tail import Step, Tail
from enginewright_builder.tactics.kernel_text import header
from enginewright_builder.tactics.latency_activation import FUNCTIONS, Functions, activation_text

_DTYPE = "float32"
_FAST: Functions = {  # of kernels/activations.cuh and tail.cuh
    **FUNCTIONS,
    "Softplus": ("softplus", ()),
    "Mish": ("mish", ()),
    "Selu": ("selu", (("alpha", 1.67326319217681884765625), ("gamma", 1.05070102214813232421875))),
    "Celu": ("celu", (("alpha", 1.0),)),
    "Sqrt": ("root", ()),
}


def tail(attributes: Mapping[str, Any], known: Iterable[str] = FUNCTIONS) -> Tail:
    """What kernels do in `tail`: nothing where the activation, one of those that they know, is all; else everything."""
    plain = "tail" not in attributes and attributes.get("activation", "") in known
    return () if plain else tails.whole(attributes)


def activated(attributes: Mapping[str, Any], variable: str) -> str:
    """C++ of an activated sum, which has no residual."""
    if tail(attributes):
        return f"tail({variable}, 0.f)"
    activation, gated = attributes.get("activation", ""), bool(attributes.get("gated", False))
    made = activation_text(activation, attributes.get("activation_parameters", {}), gated, variable)
    assert made is not None, "what is no such activation is a tail"
    return made


def packed(attributes: Mapping[str, Any], *, residual: bool = False) -> str:
    """C++ of two sums a and b, activated, rounded and packed into a word (latency.cuh's functions); r.x and r.y are
    their residuals, where they have any."""
    if takes_residual(tail(attributes)):
        return "pack(tail(a, r.x), tail(b, r.y))"
    first, second = ("a + r.x", "b + r.y") if residual else ("a", "b")
    if attributes.get("activation", "") == "Relu" and not attributes.get("gated", False) and not tail(attributes):
        return f"pack_positive({first}, {second})"
    return f"pack({activated(attributes, f'({first})')}, {activated(attributes, f'({second})')})"


def takes_residual(steps: Sequence[Step]) -> bool:
    """Whether the residual is the tail's, and not a term of the sum."""
    return network_tail.reads_residual(steps)


def function(attributes: Mapping[str, Any]) -> str:
    """The text of `tail` where kernels know FUNCTIONS; "" where that is enough."""
    return text(tail(attributes))


def text(steps: Sequence[Step]) -> str:
    """The function and what it stands on; "" of no steps."""
    if not steps:
        return ""
    lines = [f"    const float {network_tail.result(number)} = {_step(step)};\n" for number, step in enumerate(steps)]
    body = "".join(lines) + f"    return {network_tail.result(len(steps) - 1)};\n"
    return f"{header('tail.cuh')}__device__ __forceinline__ float tail(float v, float r) {{\n{body}}}\n"


def _step(step: Step) -> str:
    names = [each if isinstance(each, str) else _literal(each) for each in step.operands]
    if step.operator == "Gelu":
        return f"gelu{'_tanh' if step.parameters.get('approximate') == 'tanh' else ''}({names[0]}, 0.f, 0.f)"
    numbers = {name: float(value) for name, value in step.parameters.items()}
    fast = activation_text(step.operator, numbers, gated=False, variable=names[0], among=_FAST)
    letters = [Load(number, (), _DTYPE) for number in range(len(names))]
    return fast or _text(tails.value(step, letters), names)


def _literal(value: float) -> str:
    return cuda_functions.literal(repr(value), _DTYPE)


def _text(term: Expression, names: Sequence[str]) -> str:
    match term:
        case Load(operand=operand):
            return names[operand]
        case Constant(value=value, dtype=dtype):
            return cuda_functions.literal(repr(value), dtype)
        case Call(function=function, arguments=arguments):
            return cuda_functions.called(
                function, terms.dtype_of(arguments[0]), [_text(each, names) for each in arguments]
            )
        case Select(condition=condition, yes=yes, no=no):
            return f"({_text(condition, names)} ? {_text(yes, names)} : {_text(no, names)})"
        case Cast(argument=argument, dtype=dtype):
            return cuda_functions.converted(_text(argument, names), terms.dtype_of(argument), dtype)
        case _:
            raise TypeError(f"{type(term).__name__} is no pointwise expression")
