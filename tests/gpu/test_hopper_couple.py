"""Two 1x1 convolutions in one launch: both results are right for every form, on odd shapes too.

References are float64 in NumPy; inputs are random; the session poisons all that the kernel may write.
"""

import dataclasses
from typing import Any

import numpy as np
import one_layer
import pytest
from one_layer import pixels

from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import plain
from enginewright_builder.tactics import hopper_couple, hopper_order
from enginewright_runtime.engine.values import dtype_of

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("hopper")]

Array = np.ndarray[Any, np.dtype[Any]]
HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 * 1024)
CONSTANT = frozenset({1, 2, 5, 6, 7})
ALLOWED = {"float16": 1e-3, "bfloat16": 8e-3}  # of the output's norm: a step of rounding, and a half


def couple(
    shape: tuple[int, int, int, int],
    outputs: int,
    following: int,
    *,
    residual: bool = False,
    pair: int = 0,
    dtype: str = "float16",
    y_step: int = 0,
    z_step: int = 0,
    activation: str = "Relu",
) -> Problem:
    """`pair` is the second input's channels, read at stride 2."""
    images, channels, height, width = shape
    y, z = (
        pixels((images, count, height, width), dtype, step) for count, step in ((outputs, y_step), (following, z_step))
    )
    inputs = (
        pixels(shape, dtype),
        plain(dtype, (outputs, channels, 1, 1)),
        plain("float32", (outputs,)),
        y if residual else None,
        pixels((images, pair, 2 * height, 2 * width), dtype) if pair else None,
        plain(dtype, (outputs, pair, 1, 1)) if pair else None,
        plain(dtype, (following, outputs, 1, 1)),
        plain("float32", (following,)),
    )
    attributes: dict[str, Any] = {"activation": activation, "next": {"activation": "Relu"}}
    if pair:
        attributes["pair"] = {"strides": [2, 2], "pads": [0] * 4}
    return Problem(kind=Kind.COUPLE, inputs=inputs, outputs=(y, z), attributes=attributes)


def values_of(problem: Problem) -> list[Array | None]:
    generator = np.random.default_rng(13)
    made: list[Array | None] = []
    for number, kind in enumerate(problem.inputs):
        scale = 1.0 if kind is None or number not in (1, 5, 6) else (2 / kind.shape[1]) ** 0.5
        drawn = None if kind is None else generator.standard_normal(kind.shape) * scale
        made.append(None if drawn is None or kind is None else drawn.astype(np.float32).astype(dtype_of(kind.dtype)))
    return made


def times(weights: Array | None, x: Array | None) -> Array:
    assert weights is not None
    assert x is not None
    made: Array = np.einsum("kc,nchw->nkhw", weights[:, :, 0, 0].astype(np.float64), x.astype(np.float64))
    return made


def expected(problem: Problem, values: list[Array | None]) -> tuple[Array, Array]:
    """y, and z of y as it is stored."""
    x, weights, bias, residual, other, other_weights, following, following_bias = values
    assert bias is not None
    assert following_bias is not None
    y = times(weights, x) + bias[:, None, None]
    y = y if residual is None else y + residual.astype(np.float64)
    y = y if other is None else y + times(other_weights, other[:, :, ::2, ::2])
    y = np.maximum(y, 0) if problem.attributes["activation"] == "Relu" else y
    z = times(following, y.astype(dtype_of(problem.outputs[0].dtype))) + following_bias[:, None, None]
    return y, np.maximum(z, 0)


COUPLES = {
    "stage 1": couple((2, 64, 56, 56), 256, 64, residual=True),
    "stage 1 to 2": couple((2, 64, 56, 56), 256, 128, residual=True),
    "stage 2 to 3": couple((3, 128, 28, 28), 512, 256, residual=True),
    "pair": couple((3, 128, 28, 28), 512, 128, pair=256),
    "pair of odd sizes": couple((3, 72, 9, 11), 200, 40, pair=40),
    "odd sizes": couple((3, 24, 13, 9), 136, 232, residual=True),
    "fewer rows than a tile": couple((1, 200, 3, 5), 264, 8),
    "more tiles than blocks": couple((29, 48, 37, 41), 72, 24, residual=True),
    "slices of wider buffers": couple((2, 64, 10, 17), 128, 96, y_step=192, z_step=160, residual=True),
    "bfloat16": couple((2, 96, 14, 14), 256, 64, dtype="bfloat16", residual=True),
    "no activation between": couple((1, 96, 14, 14), 128, 256, activation=""),
}


@pytest.mark.parametrize("name", COUPLES)
def test_both_results_are_right(name: str) -> None:
    problem = COUPLES[name]
    values = values_of(problem)
    want = expected(problem, values)
    both = hopper_couple.halves(problem, CONSTANT)
    assert both is not None
    offered = hopper_couple.tiles(both, HOPPER)
    assert len({tile.columns for tile in offered}) == 2
    streamed = [dataclasses.replace(tile, stages=2, staging=2, resident=False) for tile in offered]
    for tile in offered + streamed:
        made = hopper_couple.implementation(problem, CONSTANT, tile, HOPPER)
        backwards = dataclasses.replace(made, steps=hopper_order.alternate(made.steps * 2)[1:])
        for given in (made, backwards):
            got = one_layer.run(given, problem, dict(enumerate(values)), CONSTANT)
            for what, one, right in zip("yz", got, want, strict=True):
                error = np.linalg.norm(one.astype(np.float64) - right) / np.linalg.norm(right)
                assert error < ALLOWED[problem.outputs[0].dtype], f"{what} by {tile.name}: {error:.2e}"
