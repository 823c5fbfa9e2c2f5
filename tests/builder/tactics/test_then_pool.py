"""A pooled convolution in two: its convolution by other tactics, and a generated pool behind it."""

import dataclasses

import numpy as np
import pytest

from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain
from enginewright_builder.tactics.hopper_gemm import HopperGemm
from enginewright_builder.tactics.hopper_halo import HopperHaloConvolution
from enginewright_builder.tactics.then_pool import NAME, ConvolutionThenPool, convolution_of
from enginewright_runtime.engine.cuda.program import Pointer, Space

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 * 1024)
CONSTANT = frozenset({1, 2})
HALO, GEMM = HopperHaloConvolution(), HopperGemm()


def pixels(*shape: int) -> TensorType:
    return TensorType(dtype="float16", shape=shape, strides=channels_last(shape))


def convolution(y: tuple[int, int] = (29, 29), **changes: object) -> Problem:
    """3x3, of 64 channels at 29x29, two pictures; `changes` go into its attributes, `y` is what they make of it."""
    inputs = (pixels(2, 64, 29, 29), plain("float16", (64, 64, 3, 3)), plain("float32", (64,)), None)
    attributes = {"strides": [1, 1], "pads": [1] * 4, "dilations": [1, 1], "groups": 1, "activation": "Relu", **changes}
    return Problem(kind=Kind.CONVOLUTION, inputs=inputs, outputs=(pixels(2, 64, *y),), attributes=attributes)


def pooled(given: Problem, kernel: int = 2, pad: int = 0) -> Problem:
    """With a max pool of stride 2 behind it."""
    sizes = ((size + 2 * pad - kernel) // 2 + 1 for size in given.outputs[0].shape[2:])
    pool = {"kernel": [kernel] * 2, "strides": [2, 2], "pads": [pad] * 4}
    return dataclasses.replace(given, outputs=(pixels(2, 64, *sizes),), attributes={**given.attributes, "pool": pool})


TACTIC = ConvolutionThenPool((HALO, GEMM), {GEMM.name})
GIVEN = pooled(convolution())


def test_the_convolution_is_the_layer_without_its_pool_and_whole_where_the_pool_leaves_something_out() -> None:
    assert convolution_of(GIVEN) == convolution()
    strided = convolution((15, 10), dilations=[2, 1], strides=[2, 3], pads=[1, 0, 3, 1])
    assert convolution_of(pooled(strided, 3, 1)) == strided


@pytest.mark.parametrize(
    "given",
    [
        convolution(),
        dataclasses.replace(GIVEN, inputs=(plain("float32", (2, 64, 29, 29)), *GIVEN.inputs[1:])),
    ],
    ids=["no pool", "a picture that is cast"],
)
def test_what_is_no_convolution_with_a_pool_behind_it_is_not_taken(given: Problem) -> None:
    assert TACTIC.candidates(given, HOPPER, CONSTANT) == ()


def test_every_tactics_best_guess_comes_first_and_what_is_not_ours_is_risky() -> None:
    offered = TACTIC.candidates(GIVEN, HOPPER, CONSTANT)
    assert {each.tactic for each in offered} == {NAME}
    assert [each.name.partition(":")[0] for each in offered] == [HALO.name, GEMM.name] * 2
    assert [each.risky for each in offered] == [False, True] * 2


def test_the_convolution_writes_into_the_workspace_and_the_pool_reads_it_there() -> None:
    alone = HALO.candidates(convolution(), HOPPER, CONSTANT)[0].build()
    made = TACTIC.candidates(GIVEN, HOPPER, CONSTANT)[0].build()
    first, second = (step.kernel for step in made.steps)
    assert first is not None
    assert second is not None
    assert first.arguments[3].tensor_map is not None
    assert first.arguments[3].tensor_map.pointer == Pointer(space=Space.WORKSPACE)
    assert [each.pointer for each in second.arguments] == [
        Pointer(space=Space.WORKSPACE), Pointer(space=Space.OPERAND, name=str(len(GIVEN.inputs)))
    ]  # fmt: skip
    assert made.workspace_bytes == 2 * 64 * 29 * 29 * 2
    assert {first.cubin, second.cubin} == set(made.cubins)
    weights = {1: np.ones((64, 64, 3, 3), np.float16)}
    np.testing.assert_array_equal(made.constants["weights"](weights), alone.constants["weights"](weights))
