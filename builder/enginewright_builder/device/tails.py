"""A tail (network/tail.py) as one expression: what its operators mean is said in the table of lowerings. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from enginewright_builder.device.expression import Call, Constant, Expression, Load, rebuilt
from enginewright_builder.device.operators.layer import Layer, Operand
from enginewright_builder.device.operators.pointwise import LOWERINGS
from enginewright_builder.network import tail as tails
from enginewright_builder.network.tail import Step, Tail

_OPSET = 22  # in which the operators mean what they have always meant
_DTYPE = "float32"


def whole(attributes: Mapping[str, Any]) -> Tail:
    """All that a problem does to its sums, the activation first."""
    return tails.behind(
        attributes.get("activation", ""),
        attributes.get("activation_parameters", {}),
        gated=bool(attributes.get("gated", False)),
        tail=of(attributes),
    )


def of(attributes: Mapping[str, Any]) -> Tail:
    """A problem's tail, empty where it has none."""
    return tails.parsed(attributes.get("tail", ()))


def expression(steps: Sequence[Step], v: Expression, r: Expression | None) -> Expression:
    """The last step's result, of float32 expressions."""
    known: dict[str, Expression] = {tails.SUM: v} if r is None else {tails.SUM: v, tails.RESIDUAL: r}
    made = v
    for number, step in enumerate(steps):
        made = value(step, [known[each] if isinstance(each, str) else each for each in step.operands])
        known[tails.result(number)] = made
    return made


def value(step: Step, operands: Sequence[Expression | float]) -> Expression:
    """One step over these."""
    given = [Constant(each, _DTYPE) if isinstance(each, float) else each for each in operands]
    scalar = Operand(dtype=_DTYPE, shape=())
    layer = Layer(
        operator=step.operator,
        opset=_OPSET,
        attributes=step.parameters,
        inputs=(scalar,) * len(given),
        outputs=(scalar,),
    )
    if step.operator == "Pow":  # its exponents are whole: products
        return _power(given[0], int(float(step.operands[1])))
    (computation,) = LOWERINGS[step.operator](layer)
    return _bound(computation.value, given)


def _power(base: Expression, exponent: int) -> Expression:
    made = base
    for _ in range(exponent - 1):
        made = Call("*", (made, base), _DTYPE)
    return made


def _bound(term: Expression, operands: Sequence[Expression]) -> Expression:
    if isinstance(term, Load):
        return operands[term.operand]
    return rebuilt(term, lambda part: _bound(part, operands))
