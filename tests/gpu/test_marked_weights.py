"""Kernels that mark their weights as the first to leave the L2 cache give the same numbers as without."""

from dataclasses import replace
from typing import Any

import numpy as np
import one_layer
import pytest
from one_layer import pixels

from enginewright_builder.device import retention
from enginewright_builder.device.implementation import Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import plain
from enginewright_builder.tactics.hopper_latency_conv import HopperLatencyConvolution

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("hopper")]

Array = np.ndarray[Any, np.dtype[Any]]
CONSTANT = frozenset({1, 2})


def convolution() -> Problem:
    x, y = (pixels((2, channels, 14, 14), "float16") for channels in (256, 192))
    around = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}
    return Problem(
        kind=Kind.CONVOLUTION,
        inputs=(x, plain("float16", (192, 256, 3, 3)), plain("float32", (192,)), None),
        outputs=(y,),
        attributes={**around, "activation": "Relu"},
    )


def values_of(problem: Problem) -> dict[int, Array | None]:
    generator = np.random.default_rng(5)
    kinds = {number: kind for number, kind in enumerate(problem.inputs) if kind is not None}
    return {n: generator.standard_normal(kind.shape).astype(kind.dtype) * np.float16(0.1) for n, kind in kinds.items()}


def marked(made: Implementation) -> Implementation:
    assert made.fetches_later
    steps = retention.with_marks(made.steps, range(len(made.steps)), lambda _name: 0, -1)
    assert steps != made.steps
    return replace(made, steps=steps)


def test_marked_weights_change_no_result(device: Device) -> None:
    problem = convolution()
    values = values_of(problem)
    candidates = HopperLatencyConvolution().candidates(problem, device, CONSTANT)
    assert candidates
    for candidate in candidates:
        made = candidate.build()
        (plainly,), (with_marks,) = (one_layer.run(each, problem, values, CONSTANT) for each in (made, marked(made)))
        np.testing.assert_array_equal(plainly, with_marks, err_msg=candidate.name)
        assert np.abs(plainly).max() > 0
