"""A pooled convolution in two: the convolution by any tactic into the workspace, a generated max pool behind it.

    t = act(conv(x, w) + bias)           into the workspace
    y = maxpool(t)

Fusing a pool into its convolution must cost nothing where no kernel does both well: this competes with those that do,
and time decides.
"""

import functools
from collections.abc import Collection, Sequence
from dataclasses import replace

from enginewright_builder.device import portable
from enginewright_builder.device.implementation import Candidate, Device, Implementation, Tactic
from enginewright_builder.device.operators import pooling
from enginewright_builder.device.operators.layer import Layer, Operand
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last
from enginewright_builder.tactics import in_a_row, stem_geometry
from enginewright_builder.tactics.in_a_row import Part

NAME = "convolution, then pool"
_EACH = 2  # candidates of a tactic
_OPSET = 22  # in which MaxPool means what it has always meant


class ConvolutionThenPool:
    """A Tactic (device/implementation.py): convolutions with a "pool", whose operands are of one dtype."""

    name = NAME
    reason = "a pooled convolution by whatever is fastest without the pool"

    def __init__(self, tactics: Sequence[Tactic], risky: Collection[str]) -> None:
        """`tactics` do the convolution; those that `risky` names are not ours."""
        self._tactics, self._risky = tuple(tactics), frozenset(risky)

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """Every tactic's best guess, then every second one."""
        cut = convolution_of(problem)
        if cut is None:
            return ()
        offered = [tactic.candidates(cut, device, constant)[:_EACH] for tactic in self._tactics]
        ranked = [each[rank] for rank in range(_EACH) for each in offered if rank < len(each)]
        return tuple(
            Candidate(
                tactic=NAME,
                name=f"{each.tactic}: {each.name}",
                build=functools.partial(_both, problem, cut.outputs[0], each, device),
                risky=each.tactic in self._risky,
                serial=each.serial,
            )
            for each in ranked
        )


def convolution_of(problem: Problem) -> Problem | None:
    """The problem without its pool, its output in NHWC; None where it has none, or casts its input."""
    x, weights = (*problem.inputs, None, None)[:2]
    pool = problem.attributes.get("pool")
    if problem.kind is not Kind.CONVOLUTION or pool is None or x is None or weights is None or x.dtype != weights.dtype:
        return None
    shape = (*problem.outputs[0].shape[:2], *stem_geometry.conv_size(problem))
    y = TensorType(dtype=problem.outputs[0].dtype, shape=shape, strides=channels_last(shape))
    attributes = {name: value for name, value in problem.attributes.items() if name != "pool"}
    return replace(problem, outputs=(y,), attributes=attributes)


def _both(problem: Problem, between: TensorType, convolution: Candidate, device: Device) -> Implementation:
    y, pool = problem.outputs[0], problem.attributes["pool"]
    named = (("kernel_shape", "kernel"), ("strides", "strides"), ("pads", "pads"))
    layer = Layer(
        operator="MaxPool",
        opset=_OPSET,
        attributes={name: tuple(pool[ours]) for name, ours in named},
        inputs=(Operand(dtype=between.dtype, shape=between.shape),),
        outputs=(Operand(dtype=y.dtype, shape=y.shape),),
    )
    (computation,) = pooling.max_pool(layer)
    pooled = portable.implementation(computation, (between,), y, device)
    output = str(len(problem.inputs))
    return in_a_row.joined(
        between,
        (
            Part(made=convolution.build(), operands={output: in_a_row.BETWEEN}),
            Part(made=pooled, operands={"0": in_a_row.BETWEEN, "1": in_a_row.operand(int(output))}, prefix="pool."),
        ),
    )
