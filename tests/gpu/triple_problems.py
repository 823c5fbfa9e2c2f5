"""A 3x3 convolution and the couple behind it: such problems, values for them, and what comes out, in float64."""

from typing import Any

import numpy as np
from one_layer import pixels

from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import plain
from enginewright_runtime.engine.values import dtype_of

Array = np.ndarray[Any, np.dtype[Any]]
HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 * 1024)
CONSTANT = frozenset({1, 2, 3, 4, 7, 8, 9})
ALLOWED = {"float16": 1e-3, "bfloat16": 8e-3}  # of the output's norm: a step of rounding, and a half


def triple(
    shape: tuple[int, int, int, int],
    between: int,
    outputs: int,
    following: int,
    *,
    residual: bool = False,
    pair: int = 0,
    dtype: str = "float16",
    steps: tuple[int, int] = (0, 0),
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
) -> Problem:
    """`pair` is the second input's channels; `steps` are those of the results."""
    images, channels, height, width = shape
    size = (height + pads[0] + pads[2] - 2, width + pads[1] + pads[3] - 2)
    y, z = (
        pixels((images, count, *size), dtype, step) for count, step in zip((outputs, following), steps, strict=True)
    )
    inputs = (
        pixels(shape, dtype),
        plain(dtype, (between, channels, 3, 3)),
        plain("float32", (between,)),
        plain(dtype, (outputs, between, 1, 1)),
        plain("float32", (outputs,)),
        y if residual else None,
        pixels((images, pair, *size), dtype) if pair else None,
        plain(dtype, (outputs, pair, 1, 1)) if pair else None,
        plain(dtype, (following, outputs, 1, 1)),
        plain("float32", (following,)),
    )
    before = {"strides": (1, 1), "pads": pads, "dilations": (1, 1), "groups": 1, "activation": "Relu"}
    attributes: dict[str, Any] = {"activation": "Relu", "before": before, "next": {"activation": "Relu"}}
    if pair:
        attributes["pair"] = {"strides": [1, 1], "pads": [0] * 4}
    return Problem(kind=Kind.TRIPLE, inputs=inputs, outputs=(y, z), attributes=attributes)


def values_of(problem: Problem) -> list[Array | None]:
    generator = np.random.default_rng(13)
    made: list[Array | None] = []
    for number, kind in enumerate(problem.inputs):
        weights = kind is not None and number in (1, 3, 7, 8)
        scale = (2 / np.prod(kind.shape[1:])) ** 0.5 if weights and kind is not None else 1.0
        drawn = None if kind is None else generator.standard_normal(kind.shape) * scale
        made.append(None if drawn is None or kind is None else drawn.astype(np.float32).astype(dtype_of(kind.dtype)))
    return made


def times(weights: Array | None, x: Array | None) -> Array:
    assert weights is not None
    assert x is not None
    made: Array = np.einsum(
        "kc,nchw->nkhw", weights[:, :, 0, 0].astype(np.float64), x.astype(np.float64), optimize=True
    )
    return made


def expected(problem: Problem, values: list[Array | None]) -> tuple[Array, Array]:
    """y, of what lies between as it is rounded, and z of y as it is stored."""
    x, taps, between, weights, bias, residual, other, other_weights, following, following_bias = values
    assert x is not None
    assert taps is not None
    assert between is not None
    assert bias is not None
    assert following_bias is not None
    kind, (top, left, bottom, right) = dtype_of(problem.outputs[0].dtype), problem.attributes["before"]["pads"]
    around = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3), axis=(2, 3))
    b = np.einsum("kcij,nchwij->nkhw", taps.astype(np.float64), windows, optimize=True) + between[:, None, None]
    y = times(weights, np.maximum(b, 0).astype(kind)) + bias[:, None, None]
    y = y if residual is None else y + residual.astype(np.float64)
    y = np.maximum(y if other is None else y + times(other_weights, other), 0)
    z = times(following, y.astype(kind)) + following_bias[:, None, None]
    return y, np.maximum(z, 0)
