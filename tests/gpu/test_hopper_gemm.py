"""The Hopper matrix kernels on a card: right on odd shapes, with what lies around them poisoned."""

import dataclasses
import math
from typing import Any

import numpy as np
import one_layer
import pytest

from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, plain
from enginewright_builder.tactics import hopper_form, hopper_gemm, hopper_order
from enginewright_builder.tactics.hopper_gemm import HopperGemm
from enginewright_builder.tactics.hopper_halo import HopperHaloConvolution
from enginewright_builder.tactics.hopper_split_gemm import HopperSplitGemm
from enginewright_builder.tactics.then_pool import ConvolutionThenPool
from enginewright_runtime.engine.values import dtype_of

pytestmark = pytest.mark.gpu

Array = np.ndarray[Any, np.dtype[Any]]
TRIED = 3  # candidates of a tactic: each is compiled, and the tuner checks every one that it tries
TACTICS = (HopperGemm(), HopperSplitGemm(), HopperHaloConvolution())
THEN_POOL = ConvolutionThenPool(TACTICS, ())
# Of the output's range: the dtype's rounding, and float32's over the longest sum here.
ALLOWED = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-5}


def pixels(dtype: str, shape: tuple[int, ...], wide: int = 0) -> TensorType:
    _, c, h, w = shape
    wide = wide or c
    return TensorType(dtype=dtype, shape=shape, strides=(h * w * wide, 1, w * wide, wide))


def convolution(x: tuple[int, ...], weights: tuple[int, ...], **changes: Any) -> Problem:
    """x (n, c, h, w), weights (k, r, s)."""
    dtype, residual, second = (
        changes.pop("dtype", "float16"),
        changes.pop("residual", False),
        changes.pop("second", None),
    )
    out = changes.pop("out", dtype)
    wide_in, wide_out = changes.pop("wide_in", 0), changes.pop("wide_out", 0)
    given = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1, "activation": "", **changes}
    pads, steps, apart = given["pads"], given["strides"], given["dilations"]
    height, width = (
        (x[2 + i] + pads[i] + pads[2 + i] - (weights[1 + i] - 1) * apart[i] - 1) // steps[i] + 1 for i in (0, 1)
    )
    y = pixels(out, (x[0], weights[0], height, width), wide_out)
    inputs: tuple[TensorType | None, ...] = (
        pixels(dtype, x, wide_in),
        plain(dtype, (weights[0], x[1], *weights[1:])),
        plain("float32", weights[:1]),
        y if residual else None,
    )
    if second is not None:
        inputs = (*inputs, pixels(dtype, second), plain(dtype, (weights[0], second[1], 1, 1)))
        given["pair"] = {"strides": (2, 2), "pads": (0, 0, 0, 0)}
    return Problem(kind=Kind.CONVOLUTION, inputs=inputs, outputs=(y,), attributes=given)


def pooled(given: Problem) -> Problem:
    """With a max pool of 2x2 behind it."""
    n, c, h, w = given.outputs[0].shape
    y = pixels(given.outputs[0].dtype, (n, c, h // 2, w // 2))
    pool = {"kernel": (2, 2), "strides": (2, 2), "pads": (0, 0, 0, 0)}
    return dataclasses.replace(given, outputs=(y,), attributes={**given.attributes, "pool": pool})


def product(a: TensorType, b: TensorType, *, out: str = "float16", bias: bool = True, **changes: Any) -> Problem:
    shape = (*a.shape[:-1], b.shape[-1])
    y = plain(out, shape)
    residual = y if changes.pop("residual", False) else None
    inputs = (a, b, plain("float32", shape[-1:]) if bias else None, residual)
    return Problem(
        kind=Kind.PRODUCT, inputs=inputs, outputs=(y,), attributes={"alpha": 1.0, "activation": "", **changes}
    )


HEADS = TensorType(dtype="float16", shape=(2, 3, 40, 24), strides=(40 * 72, 24, 72, 1))
TURNED = TensorType(dtype="float16", shape=(2, 3, 24, 40), strides=(40 * 72, 24, 1, 72))
CASES: dict[str, tuple[Problem, frozenset[int]]] = {
    "3x3 of 24 channels at 17": (
        convolution((3, 24, 17, 17), (40, 3, 3), pads=(1, 1, 1, 1), activation="Relu"),
        frozenset({1, 2}),
    ),
    "5x3 with strides, bfloat16": (
        convolution((1, 80, 23, 19), (96, 5, 3), pads=(2, 1, 2, 1), strides=(2, 2), dtype="bfloat16", residual=True),
        frozenset({1, 2}),
    ),
    "dilated, float32 results": (
        convolution((2, 48, 20, 11), (72, 3, 3), pads=(2, 2, 2, 2), dilations=(2, 2), out="float32", residual=True),
        frozenset({1, 2}),
    ),
    "uneven pads, gated": (
        convolution((1, 64, 7, 9), (64, 3, 3), pads=(0, 1, 2, 1), activation="Sigmoid", gated=True),
        frozenset({1, 2}),
    ),
    "a pair": (
        convolution((2, 48, 7, 7), (136, 1, 1), second=(2, 40, 14, 14), activation="Relu"),
        frozenset({1, 2, 5}),
    ),
    "slices of wider buffers": (
        convolution((2, 64, 9, 9), (40, 3, 3), pads=(1, 1, 1, 1), wide_in=96, wide_out=128),
        frozenset({1, 2}),
    ),
    "1000 outputs": (convolution((1, 72, 7, 7), (1000, 1, 1), activation="HardSwish"), frozenset({1, 2})),
    "pooled, odd": (
        pooled(convolution((3, 24, 17, 19), (40, 3, 3), pads=(1, 1, 1, 1), activation="Relu")),
        frozenset({1, 2}),
    ),
    "pooled by fours of four pictures, bfloat16": (
        pooled(convolution((7, 128, 28, 28), (136, 3, 3), pads=(1, 1, 1, 1), dtype="bfloat16")),
        frozenset({1, 2}),
    ),
    "pooled by twos of sixteen pictures": (
        pooled(convolution((37, 64, 15, 14), (192, 3, 3), pads=(1, 1, 1, 1), activation="Relu")),
        frozenset({1, 2}),
    ),
    "pooled, dilated, uneven pads, gated": (
        pooled(
            convolution(
                (2, 72, 23, 30), (256, 3, 3), pads=(0, 1, 2, 2), dilations=(2, 1), activation="Sigmoid", gated=True
            )
        ),
        frozenset({1, 2}),
    ),
    "pooled, 1x1": (pooled(convolution((2, 64, 9, 9), (48, 1, 1), activation="Relu")), frozenset({1, 2})),
    "few rows, gelu": (
        product(plain("float16", (3, 768)), plain("float16", (768, 136)), activation="Gelu"),
        frozenset({1, 2}),
    ),
    "rows of a batch, residual": (
        product(plain("float16", (5, 27, 264)), plain("float16", (264, 200)), residual=True, activation="Tanh"),
        frozenset({1, 2}),
    ),
    "heads": (product(HEADS, TURNED, bias=False, alpha=0.125), frozenset()),
    "columns not k-major": (
        product(plain("float16", (3, 5, 72, 88)), plain("float16", (3, 5, 88, 40)), bias=False),
        frozenset(),
    ),
}


def expected(problem: Problem, values: dict[int, Array]) -> Array:
    """In float64."""
    wide = {number: value.astype(np.float64) for number, value in values.items()}
    attributes, channels = problem.attributes, (slice(None),)
    if problem.kind is Kind.CONVOLUTION:
        y = convolved(wide[0], wide[1], attributes["strides"], attributes["pads"], attributes["dilations"])
        if 4 in wide:
            y = y + convolved(wide[4], wide[5], attributes["pair"]["strides"], (0, 0, 0, 0), (1, 1))
        channels = (slice(None), None, None)
    else:
        y = attributes["alpha"] * (wide[0] @ wide[1])
    if 2 in wide:
        y = y + wide[2][channels]
    if 3 in wide:
        y = y + wide[3]
    activation = {
        "": lambda v: v,
        "Relu": lambda v: np.maximum(v, 0),
        "Sigmoid": lambda v: 1 / (1 + np.exp(-v)),
        "Tanh": np.tanh,
        "HardSwish": lambda v: v * np.clip(v / 6 + 0.5, 0, 1),
        "Gelu": lambda v: v * 0.5 * (1 + np.vectorize(math.erf)(v / math.sqrt(2))),
    }[attributes["activation"]]
    y = np.asarray(y * activation(y) if attributes.get("gated") else activation(y))
    if "pool" in attributes:
        high, wide = problem.outputs[0].shape[2:]
        y = y[:, :, : 2 * high, : 2 * wide].reshape(*y.shape[:2], high, 2, wide, 2).max(axis=(3, 5))
    return y


def convolved(x: Array, weights: Array, steps: Any, pads: Any, apart: Any) -> Array:
    padded = np.pad(x, [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])])
    reach = [d * (k - 1) + 1 for d, k in zip(apart, weights.shape[2:], strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    windows = windows[:, :, :: steps[0], :: steps[1], :: apart[0], :: apart[1]]
    return np.einsum("nchwrs,kcrs->nkhw", windows, weights, optimize=True)


@pytest.mark.parametrize("case", CASES)
def test_candidates_are_right(case: str, hopper: Device) -> None:
    problem, constant = CASES[case]
    values = values_of(problem)
    want = expected(problem, values)
    candidates = [
        each for tactic in (*TACTICS, THEN_POOL) for each in tactic.candidates(problem, hopper, constant)[:TRIED]
    ]
    assert candidates
    for candidate in candidates:
        (got,) = one_layer.run(candidate.build(), problem, values, constant)
        error = error_of(got, want)
        assert error <= ALLOWED[problem.outputs[0].dtype], (candidate.tactic, candidate.name, error)


@pytest.mark.parametrize("images", [1, 5, 33])
@pytest.mark.parametrize("pool", [True, False])
def test_every_kind_of_tile_is_right(images: int, pool: bool, hopper: Device) -> None:
    given, constant = (images, 64, 30, 26), frozenset({1, 2})
    problem = convolution(given, (264, 3, 3), pads=(1, 1, 1, 1), residual=not pool)
    problem = pooled(problem) if pool else problem
    form = hopper_form.of_problem(problem, constant)
    assert form is not None
    values = values_of(problem)
    want = expected(problem, values)
    tiles = hopper_gemm.tiles(form, hopper)
    kinds = {(t.warpgroups, t.pingpong, t.staging, t.columns % 64 == 0): t for t in tiles}
    assert len(kinds) >= 8
    for tile in kinds.values():
        (got,) = one_layer.run(hopper_gemm.implementation(problem, constant, tile, hopper), problem, values, constant)
        assert error_of(got, want) <= ALLOWED["float16"], tile.name


def test_a_pool_keeps_what_is_no_number(hopper: Device) -> None:
    problem, constant = pooled(convolution((1, 64, 12, 12), (64, 3, 3), pads=(1, 1, 1, 1))), frozenset({1, 2})
    values = values_of(problem)
    values[0][0, 3, 5, 6] = np.nan
    hit = np.zeros((6, 6), bool)
    hit[2:4, 2:4] = True  # the windows of pixels (4 to 6, 5 to 7)
    for tactic in TACTICS:
        for candidate in tactic.candidates(problem, hopper, constant)[:TRIED]:
            got = one_layer.run(candidate.build(), problem, values, constant)[0]
            np.testing.assert_array_equal(np.isnan(got), np.broadcast_to(hit, got.shape), candidate.name)


@pytest.mark.parametrize("tactic", [TACTICS[0], TACTICS[2]], ids=lambda tactic: tactic.name)
def test_walking_backwards_gives_the_same(tactic: HopperGemm | HopperHaloConvolution, hopper: Device) -> None:
    constant = frozenset({1, 2})
    given = convolution((2, 64, 97, 53), (64, 3, 3), pads=(1, 1, 1, 1))
    for problem in (convolution((2, 64, 97, 53), (64, 3, 3), pads=(1, 1, 1, 1), residual=True), pooled(given)):
        values = values_of(problem)
        for candidate in tactic.candidates(problem, hopper, constant)[:4]:
            made = candidate.build()
            backwards = dataclasses.replace(made, steps=hopper_order.alternate(made.steps * 2)[1:])
            got, want = (one_layer.run(each, problem, values, constant) for each in (backwards, made))
            np.testing.assert_array_equal(got, want)


def values_of(problem: Problem) -> dict[int, Array]:
    """Random operands; weights such that results are about as large as inputs."""
    random = np.random.default_rng(11)
    values: dict[int, Array] = {}
    for number, kind in enumerate(problem.inputs):
        if kind is not None:
            scale = 1.0
            if number in (1, 5):
                terms = kind.shape[-2] if problem.kind is Kind.PRODUCT else math.prod(kind.shape[1:])
                scale = 1 / math.sqrt(terms)
            values[number] = (random.standard_normal(kind.shape) * scale).astype(dtype_of(kind.dtype))
    return values


def error_of(got: Array, want: Array) -> float:
    return float(np.max(np.abs(got.astype(np.float64) - want)) / np.max(np.abs(want)))
