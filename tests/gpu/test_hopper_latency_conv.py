"""The latency kernels on the device: convolutions, stems and row products, every configuration right on odd shapes.

References are float64 in NumPy; inputs are random; the session poisons all that a kernel may write.
"""

import dataclasses
import functools
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import one_layer
import pytest
from one_layer import pixels

from enginewright_builder.device.implementation import Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, plain
from enginewright_builder.tactics import (
    hopper_latency_conv,
    latency_choice,
    latency_geometry,
    row_product,
    stem_band,
    stem_conv,
    stem_walk,
)
from enginewright_builder.tactics.stem_band import Band
from enginewright_runtime.engine.values import dtype_of

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("hopper")]

Array = np.ndarray[Any, np.dtype[Any]]
HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 * 1024)
CONSTANT = frozenset({1, 2, 5})
TRIED = 6  # configurations of a problem
ALLOWED = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-5}  # of the output's norm: a step of rounding, and a half


def convolution(
    shape: tuple[int, int, int, int],
    outputs: int,
    kernel: tuple[int, int] = (1, 1),
    *,
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int] | None = None,
    dilations: tuple[int, int] = (1, 1),
    dtype: str = "float16",
    residual: bool = False,
    pair: int = 0,
    x_step: int = 0,
    y_step: int = 0,
    **attributes: Any,
) -> Problem:
    """`pair` is the second input's channels, read at stride 2."""
    images, channels, *sizes = shape
    around = pads or (dilations[0] * (kernel[0] // 2), dilations[1] * (kernel[1] // 2))
    height, width = (
        (size + 2 * pad - step * (taps - 1) - 1) // stride + 1
        for size, pad, step, taps, stride in zip(sizes, around, dilations, kernel, strides, strict=True)
    )
    y = pixels((images, outputs, height, width), dtype, y_step)
    inputs: tuple[TensorType | None, ...] = (
        pixels(shape, dtype, x_step),
        plain(dtype, (outputs, channels, *kernel)),
        plain("float32", (outputs,)),
        y if residual else None,
    )
    if pair:
        second = pixels((images, pair, 2 * height, 2 * width), dtype)
        inputs = (*inputs, second, plain(dtype, (outputs, pair, 1, 1)))
        attributes["pair"] = {"strides": [2, 2], "pads": [0, 0, 0, 0]}
    given = {"strides": strides, "pads": (*around, *around), "dilations": dilations, "groups": 1, "activation": "Relu"}
    return Problem(kind=Kind.CONVOLUTION, inputs=inputs, outputs=(y,), attributes={**given, **attributes})


def values_of(problem: Problem) -> list[Array | None]:
    generator = np.random.default_rng(11)
    made: list[Array | None] = []
    for number, kind in enumerate(problem.inputs):
        if kind is None:
            made.append(None)
            continue
        scale = (2 / np.prod(kind.shape[1:])) ** 0.5 if number in (1, 5) else 1.0
        made.append((generator.standard_normal(kind.shape) * scale).astype(np.float32).astype(dtype_of(kind.dtype)))
    return made


def sums(x: Array, weights: Array, attributes: Mapping[str, Any]) -> Array:
    """The convolution in float64, window by window."""
    top, left, bottom, right = attributes["pads"]
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (top, bottom), (left, right)])
    down, across = attributes.get("dilations", (1, 1))
    reach = (down * (weights.shape[2] - 1) + 1, across * (weights.shape[3] - 1) + 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    strides = attributes["strides"]
    windows = windows[:, :, :: strides[0], :: strides[1], ::down, ::across]
    made: Array = np.einsum("nchwrs,kcrs->nkhw", windows, weights.astype(np.float64), optimize=True)
    return made


ACTIVATIONS = {
    "": lambda v: v,
    "Relu": lambda v: np.maximum(v, 0),
    "Sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    "Clip": lambda v: np.clip(v, 0, 6),
    "LeakyRelu": lambda v: np.where(v < 0, 0.1 * v, v),
    "HardSwish": lambda v: v * np.clip(v / 6 + 0.5, 0, 1),
}


def expected(problem: Problem, values: list[Array | None]) -> Array:
    attributes, (x, weights, bias, residual, *second) = problem.attributes, values
    assert x is not None
    assert weights is not None
    assert bias is not None
    y = sums(x.astype(weights.dtype), weights, attributes) + bias.astype(np.float64)[:, None, None]
    if residual is not None:
        y = y + residual.astype(np.float64)
    if second and second[0] is not None and second[1] is not None:
        y = y + sums(second[0], second[1], {"pads": (0, 0, 0, 0), **attributes["pair"]})
    active = ACTIVATIONS[attributes["activation"]](y)
    y = y * active if attributes.get("gated") else active
    return pooled(y, attributes["pool"]) if "pool" in attributes else y


def pooled(y: Array, pool: Mapping[str, Any]) -> Array:
    top, left, bottom, right = pool["pads"]
    padded = np.pad(y, [(0, 0), (0, 0), (top, bottom), (left, right)], constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, pool["kernel"], axis=(2, 3))
    made: Array = windows[:, :, :: pool["strides"][0], :: pool["strides"][1]].max(axis=(4, 5))
    return made


def run(made: Implementation, problem: Problem, values: list[Array | None]) -> Array:
    (got,) = one_layer.run(made, problem, dict(enumerate(values)), CONSTANT)
    return got


def distance(got: Array, want: Array) -> float:
    return float(np.linalg.norm(got.astype(np.float64) - want) / np.linalg.norm(want))


def with_pool(given: Problem, kernel: int = 3, stride: int = 2, pad: int = 1) -> Problem:
    """A max pool behind it."""
    images, outputs, *sizes = given.outputs[0].shape
    height, width = ((size + 2 * pad - kernel) // stride + 1 for size in sizes)
    y = pixels((images, outputs, height, width), given.outputs[0].dtype)
    pool = {"kernel": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    return dataclasses.replace(given, outputs=(y,), attributes={**given.attributes, "pool": pool})


CONVOLUTIONS = {
    "one pixel": convolution((1, 1000, 1, 1), 1000),
    "few channels": convolution((1, 8, 7, 7), 8),
    "24 channels": convolution((1, 24, 13, 13), 24, (3, 3)),
    "1000 outputs": convolution((1, 24, 7, 7), 1000),
    "7x7 stride 2": convolution((1, 8, 35, 35), 64, (7, 7), strides=(2, 2)),
    "5x5": convolution((1, 40, 13, 13), 72, (5, 5)),
    "1x7": convolution((1, 128, 17, 17), 192, (1, 7)),
    "7x1": convolution((1, 128, 17, 17), 192, (7, 1)),
    "stride 2 without padding": convolution((1, 288, 35, 35), 96, (3, 3), strides=(2, 2), pads=(0, 0)),
    "299 wide": convolution((1, 8, 299, 299), 32, (3, 3), strides=(2, 2), pads=(0, 0)),
    "1x1 stride 2": convolution((1, 64, 14, 14), 128, strides=(2, 2)),
    "dilated": convolution((1, 64, 28, 28), 64, (3, 3), dilations=(2, 2)),
    "strides and dilations that differ": convolution((1, 48, 20, 20), 80, (3, 3), strides=(1, 2), dilations=(2, 1)),
    "three images": convolution((3, 96, 35, 35), 96, (3, 3)),
    "eight images": convolution((8, 256, 14, 14), 64, (3, 3)),
    "residual": convolution((3, 64, 13, 13), 128, residual=True),
    "residual and clusters": convolution((2, 512, 7, 7), 64, (3, 3), residual=True),
    "pair": convolution((1, 128, 14, 14), 256, pair=72),
    "pair of five images": convolution((5, 72, 9, 9), 200, pair=40),
    "bfloat16": convolution((1, 256, 14, 14), 64, (3, 3), dtype="bfloat16"),
    "slices of wider buffers": convolution((2, 64, 14, 14), 96, (3, 3), x_step=192, y_step=256, residual=True),
    "silu": convolution((1, 64, 20, 20), 64, (3, 3), activation="Sigmoid", gated=True),
    "clip": convolution((1, 64, 9, 9), 64, activation="Clip", activation_parameters={"min": 0.0, "max": 6.0}),
    "leaky": convolution((1, 64, 9, 9), 64, activation="LeakyRelu", activation_parameters={"alpha": 0.1}),
    "hard swish": convolution((1, 64, 9, 9), 64, activation="HardSwish"),
    "no activation": convolution((1, 64, 9, 9), 64, activation=""),
    "pooled": with_pool(convolution((1, 64, 28, 28), 72, (3, 3)), 2, 2, 0),
    "pooled, odd": with_pool(
        convolution((3, 40, 23, 31), 64, (3, 3), activation="LeakyRelu", activation_parameters={"alpha": 0.1}), 2, 2, 0
    ),
    "pooled, clusters": with_pool(convolution((2, 512, 14, 15), 512, (3, 3)), 2, 2, 0),
    "pooled, bfloat16": with_pool(convolution((1, 256, 9, 13), 64, (3, 3), activation="", dtype="bfloat16"), 2, 2, 0),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_every_convolution_is_right(name: str) -> None:
    problem = CONVOLUTIONS[name]
    values = values_of(problem)
    want = expected(problem, values)
    offered = hopper_latency_conv.HopperLatencyConvolution().candidates(problem, HOPPER, CONSTANT)
    assert offered
    chosen = [*offered[:TRIED], *random.Random(name).sample(offered, 2 if len(offered) > 2 else 0)]
    for candidate in chosen:
        error = distance(run(candidate.build(), problem, values), want)
        assert error < ALLOWED[problem.outputs[0].dtype], candidate.name


@pytest.mark.parametrize("walk", [2, 3, 5])
def test_a_block_that_walks_over_tiles_is_right(walk: int) -> None:
    problem = convolution((3, 256, 15, 9), 128, (3, 3), residual=True)
    values = values_of(problem)
    want = expected(problem, values)
    for splits, half in ((1, False), (2, False), (4, True)):
        blocks = 4 // splits
        configuration = latency_geometry.Configuration(
            block_channels=64, blocks=blocks, splits=splits, rows=4, groups=1, walk=walk, half=half
        )
        if not latency_choice.fits(hopper_latency_conv.work_of(problem), configuration):
            continue
        made = hopper_latency_conv.implementation(problem, configuration, HOPPER.architecture)
        assert distance(run(made, problem, values), want) < ALLOWED["float16"], configuration.name


ABREAST = {
    "residual": convolution((3, 128, 15, 9), 72, (3, 3), residual=True),
    "no residual": convolution((3, 128, 15, 18), 64, (3, 3), dtype="bfloat16"),
    "two warpgroups a tile": convolution((3, 96, 15, 9), 200, residual=True),
    "stride 2": convolution((5, 128, 13, 13), 64, (3, 3), strides=(2, 2)),
    "pooled": with_pool(convolution((3, 128, 30, 18), 72, (3, 3)), 2, 2, 0),
}


@pytest.mark.parametrize("name", ABREAST)
@pytest.mark.parametrize("abreast", [2, 3, 4])
def test_tiles_abreast_are_right(name: str, abreast: int) -> None:
    """There are nine tiles above one another, or 15: some blocks have too few."""
    problem = ABREAST[name]
    values = values_of(problem)
    want = expected(problem, values)
    work, exact = hopper_latency_conv.work_of(problem), problem.outputs[0].dtype == "bfloat16"
    choices = [
        latency_geometry.Configuration(
            block_channels=block,
            blocks=-(-work.channels // (block * splits)),
            splits=splits,
            rows=6 if work.pooled else 5,
            groups=2 if name == "two warpgroups a tile" else 1,
            abreast=abreast,
            half=splits == 4 and not exact,
        )
        for block, splits in ((64, 1), (64, 2), (32, 4))
    ]
    tried = [each for each in choices if latency_choice.fits(work, each)]
    assert tried
    for each in tried:
        made = hopper_latency_conv.implementation(problem, each, HOPPER.architecture)
        assert distance(run(made, problem, values), want) < ALLOWED[problem.outputs[0].dtype], each.name


@pytest.mark.parametrize("name", ABREAST)
@pytest.mark.parametrize(("abreast", "ring"), [(1, 2), (1, 3), (2, 2), (2, 5), (3, 3)])
def test_weights_that_take_the_place_of_others_are_right(name: str, abreast: int, ring: int) -> None:
    problem = ABREAST[name]
    values = values_of(problem)
    want = expected(problem, values)
    work = hopper_latency_conv.work_of(problem)
    choices = [
        latency_geometry.Configuration(
            block_channels=block,
            blocks=-(-work.channels // (block * splits)),
            splits=splits,
            rows=6 if work.pooled else 5,
            groups=2 if name == "two warpgroups a tile" else 1,
            abreast=abreast,
            ring=ring,
        )
        for block, splits in ((32, 1), (64, 2), (32, 4))
    ]
    for each in choices:
        if not latency_choice.fits(work, each):
            continue
        made = hopper_latency_conv.implementation(problem, each, HOPPER.architecture)
        assert distance(run(made, problem, values), want) < ALLOWED[problem.outputs[0].dtype], each.name


@pytest.mark.parametrize("walk", [1, 3])
def test_every_cluster_pools(walk: int) -> None:
    problem = with_pool(convolution((3, 256, 15, 18), 128, (3, 3)), 2, 2, 0)
    values = values_of(problem)
    values[0][1, 7, 4, 5] = np.nan  # type: ignore[index]
    want = expected(problem, values)
    for splits, rows, half in ((1, 8, False), (1, 6, False), (2, 4, True), (2, 6, False), (4, 8, True), (4, 8, False)):
        configuration = latency_geometry.Configuration(
            block_channels=64, blocks=4 // splits, splits=splits, rows=rows, groups=1, walk=walk, half=half
        )
        if not latency_choice.fits(hopper_latency_conv.work_of(problem), configuration):
            continue
        got = run(hopper_latency_conv.implementation(problem, configuration, HOPPER.architecture), problem, values)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want), configuration.name)
        assert distance(np.nan_to_num(got), np.nan_to_num(want)) < ALLOWED["float16"], configuration.name


def stem(shape: tuple[int, int, int, int], outputs: int, kernel: int, stride: int, **changes: Any) -> Problem:
    """A convolution whose input lies in NCHW, as float32."""
    given = convolution(shape, outputs, (kernel, kernel), strides=(stride, stride), **changes)
    return dataclasses.replace(given, inputs=(plain("float32", shape), *given.inputs[1:]))


def of_half_pixels(given: Problem) -> Problem:
    """Its input NHWC, of y's type."""
    x = given.inputs[0]
    assert x is not None
    _, channels, height, width = x.shape
    as_pixels = (channels * height * width, 1, width * channels, channels)
    here = TensorType(dtype=given.outputs[0].dtype, shape=x.shape, strides=as_pixels)
    return dataclasses.replace(given, inputs=(here, *given.inputs[1:]))


STEMS = {
    "resnet": with_pool(stem((1, 3, 224, 224), 64, 7, 2)),
    "eight of resnet's": with_pool(stem((8, 3, 224, 224), 64, 7, 2)),
    "sixteen of resnet's": with_pool(stem((16, 3, 224, 224), 64, 7, 2)),
    "odd": with_pool(stem((3, 3, 41, 37), 40, 7, 2)),
    "inception": stem((1, 3, 299, 299), 32, 3, 2, pads=(0, 0)),
    "vgg": stem((3, 3, 224, 224), 64, 3, 1),
    "one channel": stem((2, 1, 29, 31), 136, 5, 1),
    "bfloat16": with_pool(stem((1, 4, 33, 65), 72, 7, 2, dtype="bfloat16")),
    "pixels of half a float": of_half_pixels(with_pool(stem((2, 3, 37, 53), 96, 7, 2))),
    "pool of two": with_pool(stem((2, 3, 37, 53), 96, 5, 1), 2, 2, 0),
    "pool of three without padding": with_pool(stem((1, 3, 30, 150), 64, 3, 1, activation=""), 3, 2, 0),
    "pool of stride 1": with_pool(stem((1, 3, 30, 150), 64, 3, 1, activation=""), 3, 1, 1),
    "pool of stride 3": with_pool(
        stem((1, 3, 70, 150), 64, 3, 2, activation="LeakyRelu", activation_parameters={"alpha": 0.1}), 3, 3, 1
    ),
    "even": with_pool(stem((3, 3, 42, 40), 40, 7, 2)),
    "even, bfloat16": with_pool(stem((1, 4, 33, 64), 72, 7, 2, dtype="bfloat16")),
    "even, kernel of five": with_pool(stem((2, 3, 52, 84), 136, 5, 2, activation="")),
    "even, kernel of three": with_pool(
        stem((2, 3, 50, 84), 64, 3, 2, activation="LeakyRelu", activation_parameters={"alpha": 0.1})
    ),
    "eleven": dataclasses.replace(
        convolution((2, 3, 67, 63), 96, (11, 11), strides=(4, 2), pads=(2, 2)),
        inputs=stem((2, 3, 67, 63), 96, 11, 2).inputs,
    ),
}


@pytest.mark.parametrize("name", STEMS)
def test_every_stem_is_right(name: str) -> None:
    problem = STEMS[name]
    values = values_of(problem)
    want = expected(problem, values)
    for what, got in results_of_stems(problem, values).items():
        assert distance(got, want) < ALLOWED[problem.outputs[0].dtype], what


def of_float32_weights(narrow: Problem, halves: bool = False) -> Problem:
    """It multiplies in float32; y is rounded, or rounded and what that lost."""
    (x, weights, *others), y = narrow.inputs, narrow.outputs[0]
    assert weights is not None
    wide = dataclasses.replace(narrow, inputs=(x, plain("float32", weights.shape), *others))
    if not halves:
        return wide
    images, outputs, height, width = y.shape
    twice = pixels((images, 2 * outputs, height, width), y.dtype)
    return dataclasses.replace(wide, outputs=(twice,), attributes={**wide.attributes, "halves": True})


WIDE_STEMS = [name for name in STEMS if name != "pixels of half a float" and not name.startswith("even")]
HALVED_STEMS = {
    "inception": STEMS["inception"],
    "eight of inception's": stem((8, 3, 299, 299), 32, 3, 2, pads=(0, 0)),
    "odd": stem((3, 3, 41, 37), 24, 3, 2, activation="HardSwish"),
    "wide": stem((1, 4, 33, 165), 72, 5, 1, activation="LeakyRelu", activation_parameters={"alpha": 0.1}),
    "bfloat16": stem((2, 3, 35, 67), 40, 3, 2, dtype="bfloat16", activation=""),
}


@pytest.mark.parametrize("name", WIDE_STEMS)
def test_a_stem_of_float32_weights_is_off_by_the_rounding_of_its_result_alone(name: str) -> None:
    problem = of_float32_weights(STEMS[name])
    values = values_of(problem)
    want = expected(problem, values)
    rounding = distance(want.astype(dtype_of(problem.outputs[0].dtype)), want)
    for what, got in results_of_stems(problem, values).items():
        assert distance(got, want) < 1.02 * rounding, what  # without the low parts of either 1.14 and more


@pytest.mark.parametrize("name", HALVED_STEMS)
def test_halves_of_a_stems_result_make_it_whole(name: str) -> None:
    problem = of_float32_weights(HALVED_STEMS[name], halves=True)
    values = values_of(problem)
    want = expected(problem, values)
    dtype = dtype_of(problem.outputs[0].dtype)
    for what, got in results_of_stems(problem, values).items():
        high, low = np.split(got.astype(np.float64), 2, axis=1)
        assert distance(high, want) < 1.02 * distance(want.astype(dtype), want), what
        assert distance(high + low, want) < {"float16": 2e-6, "bfloat16": 2e-5}[problem.outputs[0].dtype], what


def results_of_stems(problem: Problem, values: list[Array | None]) -> dict[str, Array]:
    """Of every kernel that a stem is offered, and of bands and walks of every form."""
    offered = stem_conv.StemConvolution().candidates(problem, HOPPER, CONSTANT)
    assert offered
    builds = {candidate.name: candidate.build for candidate in offered} | walks(problem) | bands(problem)
    with ThreadPoolExecutor() as pool:  # compiling takes longer than running
        made = pool.map(lambda build: build(), builds.values())
    return {what: run(each, problem, values) for what, each in zip(builds, made, strict=True)}


def bands(problem: Problem) -> dict[str, Callable[[], Implementation]]:
    """Bands of one row, of some that leave a rest, of a whole picture; of whole rows and of parts."""
    if stem_band.refusal(problem):
        return {}
    forms = [Band(across=across, rows=rows) for across in (1, 2, 3) for rows in (1, 2, 5, problem.outputs[0].shape[2])]
    return {
        band.name: functools.partial(stem_band.implementation, problem, band, HOPPER.architecture)
        for band in forms
        if stem_band.fits(problem, band)
    }


def walks(problem: Problem) -> dict[str, Callable[[], Implementation]]:
    """Walks of every form on a GPU that each batch fills: of one step, of a third of a picture, of a whole one."""
    height, found = problem.outputs[0].shape[2], {}
    for walk in stem_walk.walks(problem, 1):
        for rows in (1, height // 3, height):
            here = dataclasses.replace(walk, length=-(-rows // walk.rows) * walk.rows)
            found[here.name] = functools.partial(stem_walk.implementation, problem, here, HOPPER.architecture)
    return found


def product(rows: int, depth: int, outputs: int, dtype: str, y: str, activation: str = "") -> Problem:
    return Problem(
        kind=Kind.PRODUCT,
        inputs=(plain(dtype, (rows, depth)), plain(dtype, (depth, outputs)), plain("float32", (outputs,)), None),
        outputs=(plain(y, (rows, outputs)),),
        attributes={"alpha": 0.5, "activation": activation},
    )


@pytest.mark.parametrize(
    "problem",
    [
        product(1, 2048, 1000, "float16", "float32"),
        product(3, 1000, 77, "float32", "float32", "Relu"),
        product(8, 264, 33, "float16", "float16"),
        product(5, 4104, 100, "bfloat16", "float32"),
        product(2, 4096, 512, "bfloat16", "bfloat16", "Sigmoid"),
    ],
)
def test_every_row_product_is_right(problem: Problem) -> None:
    values = values_of(problem)
    a, b, bias, _ = values
    assert a is not None
    assert b is not None
    assert bias is not None
    want = ACTIVATIONS[problem.attributes["activation"]](0.5 * a.astype(np.float64) @ b.astype(np.float64) + bias)
    for candidate in row_product.RowProduct().candidates(problem, HOPPER, CONSTANT):
        error = distance(run(candidate.build(), problem, values), want)
        assert error < ALLOWED[problem.outputs[0].dtype], candidate.name
