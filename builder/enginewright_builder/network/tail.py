"""A tail: what stands behind the activation of a fused layer, any pointwise expression of its result.

A step is an ONNX operator over "v" (what the activation gives), "r" (the layer's residual, which is then not added
before the activation), results of steps before it ("s0", "s1", ...) and numbers; the last one's is the layer's. As
text, in attributes and problems:

    Softplus(v) | Tanh(s0) | Mul(v, s1)
    Sub(1.0, v) | Mul(s0, r) | LeakyRelu(s1, alpha=0.1)

All is computed in float32. Operators that jump (Floor, Round, Sign) are none of a tail: rounding a sum moves what it
gives by a whole step, so that no bound tells a right kernel from a wrong one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SUM, RESIDUAL = "v", "r"
Operand = str | float
Parameters = Mapping[str, float | str]

UNARY = frozenset(
    {"Abs", "Atan", "Celu", "Clip", "Cos", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log",
     "Mish", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid", "Sin", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh"}
)  # fmt: skip
BINARY = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "Sub"})
EXPONENTS = (2.0, 3.0)  # of Pow: any other is a function of which a kernel would unroll a hundred lines
_TEXT = re.compile(r"(\w+)\((.*)\)")
_STEP = re.compile(r"s\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operator of a tail."""

    operator: str
    operands: tuple[Operand, ...]
    parameters: Parameters = field(default_factory=dict)

    def __str__(self) -> str:
        given = [each if isinstance(each, str) else repr(each) for each in self.operands]
        return (
            f"{self.operator}({', '.join([*given, *(f'{name}={value}' for name, value in self.parameters.items())])})"
        )


Tail = tuple[Step, ...]


def result(number: int) -> str:
    """The operand that is the result of that step."""
    return f"s{number}"


def reads_residual(tail: Sequence[Step]) -> bool:
    """Whether the residual is the tail's."""
    return any(RESIDUAL in step.operands for step in tail)


def texts(tail: Sequence[Step]) -> tuple[str, ...]:
    """The steps as text."""
    return tuple(str(step) for step in tail)


def parsed(lines: Sequence[str]) -> Tail:
    """The tail of such texts. Raises ValueError for what is none."""
    return tuple(_step(line) for line in lines)


def behind(activation: str, parameters: Parameters, *, gated: bool, tail: Tail) -> Tail:
    """The activation as first step of a tail that has it: of the sum itself."""
    first = (Step(operator=activation, operands=(SUM,), parameters=dict(parameters)),) if activation else ()
    if gated:
        first = (*first, Step(operator="Mul", operands=(SUM, result(0))))
    return joined(first, tail)


def joined(first: Tail, second: Tail) -> Tail:
    """One tail behind the other."""
    return (*first, *(_moved(step, len(first)) for step in second)) if first else second


def _moved(step: Step, by: int) -> Step:
    """The step behind `by` others, of the last of which it is."""

    def of(operand: Operand) -> Operand:
        if operand == SUM:
            return result(by - 1)
        return result(int(operand[1:]) + by) if isinstance(operand, str) and _STEP.fullmatch(operand) else operand

    return Step(operator=step.operator, operands=tuple(map(of, step.operands)), parameters=step.parameters)


def _step(line: str) -> Step:
    found = _TEXT.fullmatch(line)
    if found is None or found[1] not in UNARY | BINARY:
        raise ValueError(f"{line!r} is no step of a tail")
    given = found[2].split(", ")
    pairs = (each.split("=") for each in given if "=" in each)
    return Step(
        operator=found[1],
        operands=tuple(_operand(each) for each in given if "=" not in each),
        parameters={name: value if value in ("none", "tanh") else float(value) for name, value in pairs},
    )


def _operand(text: str) -> Operand:
    return text if text in (SUM, RESIDUAL) or _STEP.fullmatch(text) else float(text)
