"""A pair of convolutions by the vendors' libraries: the second one into the workspace, then the first one adds it.

    t = conv(x2, w2)                     into the workspace
    y = act(conv(x, w) + bias + t)       t is the residual

In float32, t is not rounded before it is added; in the output's dtype, more kernels take it.

The kernels written for pairs do both in one launch; this is what runs where those do not. Each half is a problem of its
own, and every candidate of cuDNN's or cuBLASLt's for the one goes with every one for the other, the likeliest first.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from enginewright_builder.device.implementation import Candidate, Constants, Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, row_major
from enginewright_builder.tactics import in_a_row
from enginewright_builder.tactics.cublaslt import CublasLtTactic
from enginewright_builder.tactics.cudnn import CudnnTactic
from enginewright_builder.tactics.in_a_row import Part
from enginewright_runtime.errors import UnsupportedError

_EACH = 4  # candidates of a library for a half
_BETWEEN = " | "  # the names of the two halves, and what lies between them


class Half(Protocol):
    """A library's tactic."""

    @property
    def name(self) -> str:
        """As in "cudnn"."""

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """What is worth trying, best guesses first."""

    def named(self, problem: Problem, constant: frozenset[int], name: str) -> Candidate:
        """The candidate of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Halves:
    """The two problems, which of their inputs are constant, and what lies between them."""

    second: Problem
    first: Problem
    second_constant: frozenset[int]
    first_constant: frozenset[int]
    between: TensorType


class VendorPair:
    """A Tactic (device/implementation.py): convolutions with a "pair"."""

    name = "vendors' pair"
    reason = "a pair of convolutions where no kernel of ours does both at once"

    def __init__(self, libraries: Sequence[Half] = (CudnnTactic(), CublasLtTactic())) -> None:
        self._libraries = {library.name: library for library in libraries}

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """Both halves' best guesses first."""
        found: list[tuple[int, Candidate]] = []
        for cut in cuts(problem, constant):
            seconds, firsts = (
                [each for library in self._libraries.values() for each in _ranked(library, part, device, known)]
                for part, known in ((cut.second, cut.second_constant), (cut.first, cut.first_constant))
            )
            couples = itertools.product(seconds, firsts)
            found += [(rank + other, self._candidate(cut, second, first)) for (rank, second), (other, first) in couples]
        return tuple(candidate for _, candidate in sorted(found, key=lambda each: each[0]))

    def named(self, problem: Problem, constant: frozenset[int], name: str) -> Candidate:
        """The candidate of that name, without asking the libraries' heuristics. Raises UnsupportedError."""
        parts = [part.partition(": ") for part in name.split(_BETWEEN)]
        known = {cut.between.dtype: cut for cut in cuts(problem, constant)}
        if len(parts) != 3 or parts[2][0] not in known or any(one not in self._libraries for one, _, _ in parts[:2]):
            raise UnsupportedError(f"{name!r} names no pair of convolutions: remove it from the timing cache.")
        (one, _, second), (other, _, first), (dtype, _, _) = parts
        cut = known[dtype]
        return self._candidate(
            cut,
            self._libraries[one].named(cut.second, cut.second_constant, second),
            self._libraries[other].named(cut.first, cut.first_constant, first),
        )

    def _candidate(self, cut: Halves, second: Candidate, first: Candidate) -> Candidate:
        name = _BETWEEN.join((*(f"{each.tactic}: {each.name}" for each in (second, first)), cut.between.dtype))
        build = functools.partial(_both, cut.between, second.build, first.build)
        return Candidate(tactic=self.name, name=name, build=build, serial=True)


def cuts(problem: Problem, constant: frozenset[int]) -> list[Halves]:
    """The ways to cut the problem, by what lies between; none where it is no pair."""
    made = (halves(problem, constant, dtype) for dtype in dict.fromkeys(("float32", problem.outputs[0].dtype)))
    return [cut for cut in made if cut is not None]


def halves(problem: Problem, constant: frozenset[int], dtype: str) -> Halves | None:
    """The pair as two problems, or None where it is no pair, or has something more to add."""
    pair = problem.attributes.get("pair")
    if (
        problem.kind is not Kind.CONVOLUTION
        or not pair
        or {"pool", "tail"} & set(problem.attributes)
        or len(problem.inputs) != 6
    ):
        return None
    x, weights, bias, residual, other, other_weights = problem.inputs
    if residual is not None or other is None:
        return None
    y, spatial = problem.outputs[0], len(problem.outputs[0].shape) - 2
    order = channels_last if y.strides[1] == 1 else row_major
    between = TensorType(dtype=dtype, shape=y.shape, strides=order(y.shape))
    alone = {name: value for name, value in problem.attributes.items() if name != "pair"}
    plain = {"dilations": (1,) * spatial, "groups": 1, "activation": "", "activation_parameters": {}, "gated": False}
    window = {"strides": tuple(pair["strides"]), "pads": tuple(pair["pads"])}
    return Halves(
        second=Problem(
            kind=problem.kind,
            inputs=(other, other_weights, None, None),
            outputs=(between,),
            attributes={**alone, **plain, **window},
        ),
        first=Problem(kind=problem.kind, inputs=(x, weights, bias, between), outputs=(y,), attributes=alone),
        second_constant=frozenset({1} if 5 in constant else ()),
        first_constant=constant & {1, 2},
        between=between,
    )


def _ranked(library: Half, part: Problem, device: Device, constant: frozenset[int]) -> list[tuple[int, Candidate]]:
    return list(enumerate(library.candidates(part, device, constant)[:_EACH]))


def _both(
    between: TensorType, second: Callable[[], Implementation], first: Callable[[], Implementation]
) -> Implementation:
    """One implementation of both halves, in the numbering of the whole problem."""
    of_second = {"0": in_a_row.operand(4), "1": in_a_row.operand(5), "4": in_a_row.BETWEEN}
    of_first = {"3": in_a_row.BETWEEN, "4": in_a_row.operand(6)}
    return in_a_row.joined(
        between,
        (
            Part(made=second(), operands=of_second, prefix="second.", known=_of_second),
            Part(made=first(), operands=of_first),
        ),
    )


def _of_second(constants: Constants) -> Constants:
    return {1: constants[5]}
