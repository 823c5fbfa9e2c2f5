"""How far a tail's result may be off where the sum is: a running error analysis, a line an operator.

Each step's value is known, and a bound e of each operand's error. What the step makes of it follows from its slope (for
Exp |e^x| (e^e - 1), for Mul |a| e_b + |b| e_a + e_a e_b, ...), and it rounds once more in float32, to a few units in
the last place, as CUDA's functions and ours do (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition,
section 3.3). Where no bound exists (a logarithm or quotient that may meet 0) it is infinite: nothing is compared there.
Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from enginewright_builder.device import reference, tails
from enginewright_builder.device.expression import Computation, Load
from enginewright_builder.device.operators import terms
from enginewright_builder.network import tail as network_tail
from enginewright_builder.network.tail import Step
from enginewright_runtime.engine.values import Array

_ROUNDED = 8 * 2.0**-24  # of a float32 function's result, relative
_FAST = 7e-7  # of the special functions of kernels/activations.cuh and tail.cuh, absolute
_APPROXIMATE = frozenset(
    {"Celu", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Mish", "Selu", "Sigmoid", "Softplus", "Tanh"}
)
_SLOPES: Mapping[str, float] = {  # the steepest that each is, where that is more than 1
    "Erf": 1.13, "Gelu": 1.13, "HardSwish": 1.5, "Mish": 1.09, "Swish": 1.1,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """Numbers, and how far each may be off."""

    value: Array
    error: Array


def result(steps: Sequence[Step], v: Bounded, r: Array | None) -> Bounded:
    """What the steps give of a sum v and an exact residual r, both float32 of one shape."""
    known = {network_tail.SUM: v}
    if r is not None:
        known[network_tail.RESIDUAL] = _exact(r)
    made = v
    with np.errstate(all="ignore"):
        for number, step in enumerate(steps):
            operands = [
                known[each] if isinstance(each, str) else _exact(np.array(each, np.float32)) for each in step.operands
            ]
            made = _step(step, operands)
            known[network_tail.result(number)] = made
    return made


def _exact(value: Array) -> Bounded:
    return Bounded(value=value, error=np.zeros((), np.float32))


def _step(step: Step, operands: Sequence[Bounded]) -> Bounded:
    shape = np.broadcast_shapes(*(each.value.shape for each in operands))
    given = [np.broadcast_to(each.value, shape) for each in operands]
    at = tuple(terms.indices(shape))
    value = tails.value(step, [Load(number, at, "float32") for number in range(len(given))])
    made = reference.evaluate(Computation(shape=shape, dtype="float32", value=value), given)
    error = _passed(step, operands, made) + _ROUNDED * np.abs(made) + _FAST * (step.operator in _APPROXIMATE)
    return Bounded(value=made, error=np.where(np.isfinite(error), error, np.inf).astype(np.float32))


def _passed(step: Step, operands: Sequence[Bounded], made: Array) -> Array:
    """What a step makes of its operands' errors."""
    first = operands[0]
    if step.operator in _BETWEEN:
        return _BETWEEN[step.operator](first, operands[1])
    if step.operator in _OF_ONE:
        return _OF_ONE[step.operator](step, first, made)
    usual = (1.68, 1.06) if step.operator == "Selu" else (1.0, 1.0)
    named = zip(("alpha", "gamma"), usual, strict=True)
    alpha, gamma = (abs(float(step.parameters.get(name, default))) for name, default in named)
    steepest = max(_SLOPES.get(step.operator, 1.0), gamma, alpha * gamma)
    return np.asarray(steepest * first.error)


def _product(a: Bounded, b: Bounded) -> Array:
    return np.asarray(np.abs(a.value) * b.error + np.abs(b.value) * a.error + a.error * b.error)


def _quotient(a: Bounded, b: Bounded) -> Array:
    """(a + e) / (b + f) - a / b, as long as b + f keeps away from 0."""
    left = np.abs(b.value) - b.error
    moved = (a.error + np.abs(a.value / b.value) * b.error) / left
    return np.where(left > 0, moved, np.inf)


def _either(a: Bounded, b: Bounded) -> Array:
    return np.asarray(np.maximum(a.error, b.error))


def _sum(a: Bounded, b: Bounded) -> Array:
    return np.asarray(a.error + b.error)


def _logarithm(_step: Step, x: Bounded, _made: Array) -> Array:
    """Next to 0 it falls without end."""
    return np.where(x.value > 2 * x.error, -np.log1p(-x.error / x.value), np.inf)


def _root(_step: Step, x: Bounded, made: Array) -> Array:
    """Below 0 it is NaN, and next to it may be."""
    return np.where(x.value >= x.error, made - np.sqrt(np.maximum(x.value - x.error, 0)), np.inf)


def _threshold(step: Step, x: Bounded, _made: Array) -> Array:
    """It jumps."""
    return np.where(np.abs(x.value - float(step.parameters.get("alpha", 1.0))) > x.error, x.error, np.inf)


def _power(step: Step, x: Bounded, _made: Array) -> Array:
    base, error, exponent = np.abs(x.value), x.error, float(step.operands[1])
    return np.asarray((base + error) ** exponent - base**exponent)


_BETWEEN: Mapping[str, Callable[[Bounded, Bounded], Array]] = {
    "Add": _sum, "Sub": _sum, "Mul": _product, "Div": _quotient, "Max": _either, "Min": _either,
}  # fmt: skip
_OF_ONE: Mapping[str, Callable[[Step, Bounded, Array], Array]] = {
    "Exp": lambda _, x, made: np.asarray(made * np.expm1(x.error)),
    "Log": _logarithm,
    "Sqrt": _root,
    "Pow": _power,
    "ThresholdedRelu": _threshold,
    "Reciprocal": lambda _, x, __: _quotient(_exact(np.array(1, np.float32)), x),
}
