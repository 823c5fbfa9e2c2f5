"""A convolution and the mean of its pixels in one launch: every configuration right on odd shapes, against float64."""

from typing import Any

import numpy as np
import one_layer
import pytest
from one_layer import pixels

from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import plain
from enginewright_builder.tactics.latency_mean import LatencyMean
from enginewright_runtime.engine.values import dtype_of

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("hopper")]

Array = np.ndarray[Any, np.dtype[Any]]
CONSTANT = frozenset({1, 2})
ALLOWED = {"float16": 1e-3, "bfloat16": 8e-3}  # of the output's norm: a step of rounding, and a half


def mean(
    images: int, channels: int, outputs: int, size: tuple[int, int], *, residual: bool = False, taps: int = 1,
    dtype: str = "float16", activation: str = "Relu",
) -> Problem:  # fmt: skip
    inputs = (
        pixels((images, channels, *size), dtype),
        plain(dtype, (outputs, channels, taps, taps)),
        plain("float32", (outputs,)),
        pixels((images, outputs, *size), dtype) if residual else None,
    )
    said = {"strides": (1, 1), "pads": (taps // 2,) * 4, "dilations": (1, 1), "groups": 1, "activation": activation}
    means = plain(dtype, (images, outputs, 1, 1))
    return Problem(kind=Kind.MEAN, inputs=inputs, outputs=(means,), attributes={**said, "size": size})


def values_of(problem: Problem) -> list[Array | None]:
    generator = np.random.default_rng(17)
    made: list[Array | None] = []
    for number, kind in enumerate(problem.inputs):
        scale = 1.0 if kind is None or number != 1 else (2 / np.prod(kind.shape[1:])) ** 0.5
        made.append(
            None
            if kind is None
            else (generator.standard_normal(kind.shape) * scale).astype(np.float32).astype(dtype_of(kind.dtype))
        )
    return made


def expected(problem: Problem, values: list[Array | None]) -> Array:
    x, weights, bias, residual = (None if each is None else each.astype(np.float64) for each in values)
    assert x is not None
    assert weights is not None
    assert bias is not None
    around = weights.shape[2] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (around, around), (around, around)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape[2:], axis=(2, 3))
    y = np.einsum("nchwrs,kcrs->nkhw", windows, weights, optimize=True) + bias[:, None, None]
    y = y if residual is None else y + residual
    y = np.maximum(y, 0) if problem.attributes["activation"] == "Relu" else y
    means: Array = y.mean(axis=(2, 3), keepdims=True)
    return means


MEANS = {
    "the end of a residual network": mean(1, 512, 2048, (7, 7), residual=True),
    "of eight pictures": mean(8, 512, 2048, (7, 7), residual=True),
    "no activation, odd sizes": mean(3, 72, 200, (5, 3), activation=""),
    "3x3 of eight rows": mean(2, 64, 96, (8, 8), taps=3),
    "one pixel": mean(2, 40, 72, (1, 1), residual=True),
    "bfloat16": mean(5, 96, 136, (6, 8), residual=True, dtype="bfloat16"),
}


@pytest.mark.parametrize("name", MEANS)
def test_the_mean_is_right(name: str, device: Device) -> None:
    problem = MEANS[name]
    values = values_of(problem)
    offered = LatencyMean().candidates(problem, device, CONSTANT)
    assert offered
    for candidate in offered:
        (made,) = one_layer.run(candidate.build(), problem, dict(enumerate(values)), CONSTANT)
        want = expected(problem, values)
        error = np.linalg.norm(made.astype(np.float64) - want) / np.linalg.norm(want)
        assert error < ALLOWED[problem.outputs[0].dtype], f"{candidate.name}: {error:.2e}"
