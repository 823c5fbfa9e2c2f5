"""Bands of a pooled picture, without a card: where blocks that make them are offered, what they need, and compile."""

import dataclasses
from typing import Any

import pytest

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain
from enginewright_builder.tactics import stem_band
from enginewright_builder.tactics.stem_band import Band

MULTIPROCESSORS = 132
POOL = {"kernel": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}


def stem(images: int, kernel: int = 7, size: int = 224, dtype: str = "float16", **changes: Any) -> Problem:
    """ResNet-50's first layer, or what the arguments make of it."""
    conv = (size + 2 * (kernel // 2) - kernel) // 2 + 1
    shape = (images, 64, (conv - 1) // 2 + 1, (conv - 1) // 2 + 1)
    attributes: dict[str, Any] = {"strides": [2, 2], "pads": [kernel // 2] * 4, "activation": "Relu", "pool": POOL}
    x, weights = plain("float32", (images, 3, size, size)), plain(dtype, (64, 3, kernel, kernel))
    return Problem(
        kind=Kind.CONVOLUTION,
        inputs=(x, weights, plain("float32", (64,)), None),
        outputs=(TensorType(dtype=dtype, shape=shape, strides=channels_last(shape)),),
        attributes=attributes | changes,
    )


def first(problem: Problem) -> Band:
    return stem_band.bands(problem, MULTIPROCESSORS)[0]


def test_one_pictures_rows_are_halved_to_fill_the_gpu() -> None:
    assert first(stem(1)).name == "bands of 1 rows, 2 across"


def test_eight_pictures_are_one_wave_of_blocks() -> None:
    problem = stem(8)
    kernel = stem_band.implementation(problem, first(problem), "sm_90a").steps[0].kernel
    assert kernel is not None
    across, down, images = kernel.grid
    assert 100 < across * down * images <= MULTIPROCESSORS


def test_the_last_band_may_be_short() -> None:
    kernel = stem_band.implementation(stem(1), Band(across=1, rows=5), "sm_90a").steps[0].kernel
    assert kernel is not None
    assert kernel.grid == (1, 12, 1)


def test_half_a_row_needs_two_columns_of_the_other_half() -> None:
    assert [stem_band.columns(stem(1), Band(across=across, rows=1)) for across in (1, 2, 4)] == [112, 64, 32]


def test_blocks_fit_into_shared_memory() -> None:
    for problem in (stem(1), stem(8), stem(128), stem(8, size=256)):
        offered = stem_band.bands(problem, MULTIPROCESSORS)
        assert offered
        assert all(stem_band.shared_bytes(problem, band) <= 227 * 1024 for band in offered)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (stem(1, pool={**POOL, "strides": [1, 1]}), "it has no pool of 3x3 that halves an even row"),
        (stem(1, pool={**POOL, "pads": [0, 0, 0, 0]}), "it has no pool of 3x3 that halves an even row"),
        (stem(1, strides=[1, 1]), "it has no pool of 3x3 that halves an even row"),
        (stem(1, kernel=1, strides=[3, 2]), "its horizontal stride is not 2, or its vertical one leaves rows out"),
        (stem(1, size=222), "it has no pool of 3x3 that halves an even row"),
        (stem(1, size=223), "its pixels don't lie in pairs"),
        (stem(1, dtype="bfloat16"), ""),
    ],
)
def test_declines_with_a_reason(given: Problem, reason: str) -> None:
    assert stem_band.refusal(given) == reason
    assert bool(stem_band.bands(given, MULTIPROCESSORS)) == (not reason)


def test_declines_pixels_that_are_apart() -> None:
    given = stem(1)
    x = TensorType(dtype="float32", shape=(1, 3, 224, 224), strides=channels_last((1, 3, 224, 224)))
    assert (
        stem_band.refusal(dataclasses.replace(given, inputs=(x, *given.inputs[1:]))) == "its pixels don't lie in pairs"
    )


def test_declines_pixels_of_half_a_float() -> None:
    given = stem(1)
    x = plain("float16", (1, 3, 224, 224))
    assert stem_band.refusal(dataclasses.replace(given, inputs=(x, *given.inputs[1:]))) == "its pixels are not float32"


def test_declines_weights_that_lose_nothing() -> None:
    given = stem(1)
    weights = plain("float32", (64, 3, 7, 7))
    whole = dataclasses.replace(given, inputs=(given.inputs[0], weights, *given.inputs[2:]))
    assert stem_band.refusal(whole) == "its weights are not of y's type"


@pytest.mark.parametrize(
    ("given", "band"),
    [
        (stem(1), Band(across=2, rows=1)),
        (stem(8), Band(across=1, rows=4)),
        (stem(8, dtype="bfloat16"), Band(across=2, rows=7)),
        (stem(1, kernel=3), Band(across=1, rows=7)),
    ],
)
def test_compiles_without_spilling_or_waiting_for_products(given: Problem, band: Band) -> None:
    said = compiler.resources(stem_band.source(given, band), "sm_90a")
    assert "0 bytes spill stores" in said
    assert "wgmma" not in said
