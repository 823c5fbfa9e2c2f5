"""Pairs of convolutions cut in two: the halves' problems, and one implementation of both in the whole's numbering."""

import numpy as np
import pytest

from enginewright_builder.device.implementation import Candidate, Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain
from enginewright_builder.tactics.vendor_pair import VendorPair, halves
from enginewright_runtime.engine.cuda.program import CudnnGraph, Pointer, Space, Step
from enginewright_runtime.errors import UnsupportedError

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 << 10)
KNOWN = frozenset({1, 2, 5})


def image(*shape: int, pitch: int = 0) -> TensorType:
    strides = channels_last((shape[0], pitch or shape[1], *shape[2:]))
    return TensorType(dtype="float16", shape=shape, strides=strides)


def pair(**more: object) -> Problem:
    attributes = {
        "strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1), "groups": 1, "activation": "Relu",
        "activation_parameters": {}, "gated": False, "math": "", "pair": {"strides": (2, 2), "pads": (0,) * 4},
    }  # fmt: skip
    inputs = (
        image(1, 8, 7, 7), plain("float16", (32, 8, 1, 1)), plain("float16", (32,)), None,
        image(1, 16, 14, 14), plain("float16", (32, 16, 1, 1)),
    )  # fmt: skip
    return Problem(
        kind=Kind.CONVOLUTION, inputs=inputs, outputs=(image(1, 32, 7, 7, pitch=64),), attributes=attributes | more
    )


class Library:
    """A stand-in for a library's tactic: two candidates for every convolution, each one graph of all its operands."""

    def __init__(self, name: str) -> None:
        self.name = name

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        return tuple(self.named(problem, constant, f"{number}, plain") for number in (1, 2))

    def named(self, problem: Problem, constant: frozenset[int], name: str) -> Candidate:
        numbers = [number for number, kind in enumerate(problem.operands) if kind is not None]
        tensors = {str(number): Pointer(space=Space.OPERAND, name=str(number)) for number in numbers}
        if 1 in constant:
            tensors["1"] = Pointer(space=Space.CONSTANT, name="weights")
        graph = CudnnGraph(
            graph="graph", tensors=tensors, workspace=Pointer(space=Space.WORKSPACE), workspace_bytes=100
        )
        made = Implementation(
            steps=(Step(layer="", cudnn=graph),),
            graphs={"graph": name.encode()},
            constants={"weights": lambda constants: constants[1]} if 1 in constant else {},
            workspace_bytes=100,
        )
        return Candidate(tactic=self.name, name=name, build=lambda: made)


TACTIC = VendorPair((Library("a"), Library("b")))


def test_the_second_half_has_nothing_but_its_convolution_and_the_first_all_the_rest() -> None:
    cut = halves(pair(), KNOWN, "float16")
    assert cut is not None
    assert (cut.second.inputs[2:], cut.second.attributes["activation"]) == ((None, None), "")
    assert (cut.second.attributes["strides"], cut.first.attributes["strides"]) == ((2, 2), (1, 1))
    assert cut.first.inputs[3] == cut.second.outputs[0] == image(1, 32, 7, 7)
    assert (cut.first.attributes["activation"], "pair" in cut.first.attributes) == ("Relu", False)
    assert (cut.second_constant, cut.first_constant) == (frozenset({1}), frozenset({1, 2}))


def test_both_halves_stand_in_one_implementation_in_the_wholes_numbering() -> None:
    made = TACTIC.named(pair(), KNOWN, "a: 1, plain | a: 1, plain | float16").build()
    second, first = (step.cudnn for step in made.steps)
    assert second is not None
    assert first is not None
    middle, after = Pointer(space=Space.WORKSPACE), 3328  # 7 x 7 x 32 halves, up to a multiple of 256 bytes
    assert second.tensors == {
        "0": Pointer(space=Space.OPERAND, name="4"), "1": Pointer(space=Space.CONSTANT, name="second.weights"),
        "4": middle,
    }  # fmt: skip
    assert (first.tensors["3"], first.tensors["4"].name) == (middle, "6")
    assert {graph.workspace for graph in (second, first)} == {Pointer(space=Space.WORKSPACE, offset=after)}
    assert made.workspace_bytes == after + 100
    assert {second.graph, first.graph} == set(made.graphs)


def test_each_half_packs_its_own_weights() -> None:
    made = TACTIC.candidates(pair(), HOPPER, KNOWN)[0].build()
    constants = {1: np.ones(1), 5: np.full(1, 5.0)}
    assert {name: float(pack(constants)[0]) for name, pack in made.constants.items()} == {
        "weights": 1.0, "second.weights": 5.0,
    }  # fmt: skip


def test_the_likeliest_halves_go_together_first_and_every_couple_is_offered() -> None:
    names = [candidate.name for candidate in TACTIC.candidates(pair(), HOPPER, KNOWN)]
    assert len(set(names)) == len(names) == 32
    assert names[:2] == ["a: 1, plain | a: 1, plain | float32", "a: 1, plain | b: 1, plain | float32"]
    assert names[4] == "a: 1, plain | a: 1, plain | float16"
    assert names[-1] == "b: 2, plain | b: 2, plain | float16"


def test_what_lies_between_is_as_wide_as_the_name_says() -> None:
    sizes = [
        TACTIC.named(pair(), KNOWN, f"a: 1, plain | a: 1, plain | {dtype}").build().workspace_bytes
        for dtype in ("float16", "float32")
    ]
    assert sizes == [3328 + 100, 6400 + 100]


def test_a_name_makes_the_same_couple_again() -> None:
    offered = TACTIC.candidates(pair(), HOPPER, KNOWN)[5]
    again = TACTIC.named(pair(), KNOWN, offered.name)
    assert again.name == offered.name
    assert again.build().graphs == offered.build().graphs


@pytest.mark.parametrize("name", ["a: 1, plain", "a: 1 | b: 1", "a: 1 | c: 1 | float16", "a: 1 | b: 1 | int8"])
def test_a_name_that_says_no_couple_is_refused_with_a_sentence(name: str) -> None:
    with pytest.raises(UnsupportedError, match="names no pair of convolutions: remove it"):
        TACTIC.named(pair(), KNOWN, name)


@pytest.mark.parametrize("more", [{"pair": None}, {"pool": {"kernel": (2, 2)}}])
def test_what_is_no_pair_or_more_than_one_is_not_taken(more: dict[str, object]) -> None:
    assert TACTIC.candidates(pair(**more), HOPPER, KNOWN) == ()
