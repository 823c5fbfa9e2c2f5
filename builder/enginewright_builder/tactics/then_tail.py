"""A convolution or product whose epilogue its kernels do not have, in two: by any of them, then the rest generated.

    t = act(conv(x, w) + bias + residual)     into the workspace
    y = tail(t, residual)

Fusing a tail must cost nothing where no kernel does both, or where its special functions take longer than a launch and
the memory's time: this is what the two layers were. An activation that no library has is part of the rest. What lies
between is of the output's dtype or, for sums that must not be rounded before their tail, float32. Layers in float32 may
also be cut at their sum: cuDNN has kernels for it that it has with hardly any activation but Relu.
"""

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from enginewright_builder.device import portable, tails
from enginewright_builder.device.expression import Computation, Load
from enginewright_builder.device.implementation import Candidate, Device, Implementation, Tactic
from enginewright_builder.device.operators import terms
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, row_major
from enginewright_builder.network.tail import RESIDUAL, SUM, Step, Tail, joined, reads_residual
from enginewright_builder.tactics import hopper_launch, in_a_row
from enginewright_builder.tactics.in_a_row import Part

NAME = "product, then tail"
_EACH = 2  # candidates of a tactic
_KINDS = (Kind.CONVOLUTION, Kind.TRANSPOSED_CONVOLUTION, Kind.PRODUCT)
_RESIDUAL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The problem without its rest, what it gives, and the rest."""

    product: Problem
    between: TensorType
    rest: Tail


class ProductThenTail:
    """A Tactic (device/implementation.py): layers with a tail, with an activation that no library has, or in float32
    with any epilogue."""

    name = NAME
    reason = "an epilogue that no kernel has, or that none is fast with"

    def __init__(self, tactics: Sequence[Tactic], risky: Collection[str]) -> None:
        """`tactics` do the product; those that `risky` names are not ours."""
        self._tactics, self._risky = tuple(tactics), frozenset(risky)

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """Every tactic's best guess, then every second one."""
        found: list[tuple[int, Candidate]] = []
        for cut in cuts(problem):
            for tactic in self._tactics:
                offered = tactic.candidates(cut.product, device, constant)[:_EACH]
                found += [(rank, self._candidate(problem, cut, each, device)) for rank, each in enumerate(offered)]
        return tuple(candidate for _, candidate in sorted(found, key=lambda each: each[0]))

    def _candidate(self, problem: Problem, cut: Cut, product: Candidate, device: Device) -> Candidate:
        return Candidate(
            tactic=NAME,
            name=f"{product.tactic}: {product.name} | {cut.between.dtype} | {len(cut.rest)} steps",
            build=functools.partial(_both, problem, cut, product, device),
            risky=product.tactic in self._risky,
            serial=product.serial,
        )


def cuts(problem: Problem) -> list[Cut]:
    """The ways to cut a problem, by what lies between; none where it has no such epilogue."""
    said = problem.attributes
    if problem.kind not in _KINDS or {"pair", "pool"} & set(said):
        return []
    usual = said.get("activation", "") in hopper_launch.ACTIVATIONS
    rest = tails.of(said) if usual else tails.whole(said)
    dtypes = dict.fromkeys((problem.outputs[0].dtype, "float32"))
    made = [_cut(problem, rest, dtype, bare=not usual) for dtype in dtypes] if rest else []
    whole, first = _behind_sum(problem), problem.inputs[0]
    plain = not rest and said.get("activation", "") in ("", "Relu")  # which cuDNN has
    if first is not None and first.dtype == "float32" and whole != rest and not plain:
        made.append(_cut(problem, whole, "float32", bare=True))
    return made


def _behind_sum(problem: Problem) -> Tail:
    """All that is done to the sum, an added residual first."""
    steps = tails.whole(problem.attributes)
    residual = [*problem.inputs, None][_RESIDUAL]
    if residual is None or reads_residual(steps):
        return steps
    return joined((Step(operator="Add", operands=(SUM, RESIDUAL)),), steps)


def _cut(problem: Problem, rest: Tail, dtype: str, *, bare: bool) -> Cut:
    """`bare`: the product does not activate."""
    y, inputs = problem.outputs[0], problem.inputs
    attributes = {name: value for name, value in problem.attributes.items() if name != "tail"}
    if bare:
        attributes |= {"activation": "", "activation_parameters": {}, "gated": False}
    pixels = problem.kind is not Kind.PRODUCT and y.strides[1] == 1
    between = TensorType(dtype=dtype, shape=y.shape, strides=(channels_last if pixels else row_major)(y.shape))
    if reads_residual(rest):
        inputs = (*inputs[:_RESIDUAL], None)
    product = replace(problem, inputs=inputs, outputs=(between,), attributes=attributes)
    return Cut(product=product, between=between, rest=rest)


def _both(problem: Problem, cut: Cut, product: Candidate, device: Device) -> Implementation:
    y, output = problem.outputs[0], len(problem.inputs)
    residual = problem.inputs[_RESIDUAL] if reads_residual(cut.rest) else None
    at = tuple(terms.indices(y.shape))
    loads = [Load(number, at, "float32") for number in range(2)]
    value = tails.expression(cut.rest, loads[0], None if residual is None else loads[1])
    inputs = (cut.between,) if residual is None else (cut.between, residual)
    rest = portable.implementation(Computation(shape=y.shape, dtype=y.dtype, value=value), inputs, y, device)
    places = {"0": in_a_row.BETWEEN, str(len(inputs)): in_a_row.operand(output)}
    if residual is not None:
        places["1"] = in_a_row.operand(_RESIDUAL)
    return in_a_row.joined(
        cut.between,
        (
            Part(made=product.build(), operands={str(output): in_a_row.BETWEEN}),
            Part(made=rest, operands=places, prefix="tail."),
        ),
    )
