"""Blocks that walk down a picture, without a card: where they are offered, what a block needs, and that it compiles."""

import dataclasses
import struct
from typing import Any

import pytest

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain
from enginewright_builder.tactics import stem_walk
from enginewright_builder.tactics.stem_walk import Walk

MULTIPROCESSORS = 132
POOL = {"kernel": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}


def stem(
    images: int,
    *,
    kernel: int = 7,
    stride: int = 2,
    conv: int = 112,
    made: int = 56,
    pool: dict[str, list[int]] | None = POOL,
    dtype: str = "float16",
    x: str = "float32",
) -> Problem:
    """ResNet-50's first layer, or what the arguments make of it: sizes are `conv` before and `made` after a pool."""
    shape, size = (images, 64, made, made), (conv - 1) * stride + kernel - 2 * (kernel // 2)
    attributes: dict[str, Any] = {"strides": [stride] * 2, "pads": [kernel // 2] * 4, "activation": "Relu"}
    return Problem(
        kind=Kind.CONVOLUTION,
        inputs=(
            plain(x, (images, 3, size, size)),
            plain(dtype, (64, 3, kernel, kernel)),
            plain("float32", (64,)),
            None,
        ),
        outputs=(TensorType(dtype=dtype, shape=shape, strides=channels_last(shape)),),
        attributes=attributes | ({"pool": pool} if pool else {}),
    )


def vgg(images: int) -> Problem:
    return stem(images, kernel=3, stride=1, conv=224, made=224, pool=None)


def offered(problem: Problem) -> tuple[Walk, ...]:
    return stem_walk.walks(problem, MULTIPROCESSORS)


def widest(problem: Problem) -> Walk:
    return max(offered(problem), key=lambda walk: walk.products)


def test_one_picture_does_not_fill_the_gpu_with_walks() -> None:
    assert offered(stem(1)) == ()


def test_at_128_pictures_blocks_walk_down_half_a_picture() -> None:
    assert [walk.name for walk in offered(stem(128))] == [
        "112 columns, 1 rows, walk 28",
        "64 columns, 1 rows, walk 56",
        "64 columns, 1 rows, walk 19",
        "112 columns, 1 rows, walk 14",
    ]


def test_smaller_batches_have_shorter_walks() -> None:
    assert max(walk.length for walk in offered(stem(8))) < max(walk.length for walk in offered(stem(128)))


def test_a_whole_row_needs_no_column_of_the_pools_padding() -> None:
    whole = widest(stem(128))
    assert (whole.columns, whole.needed, whole.products) == (56, 112, 112)


def test_half_a_row_needs_a_column_of_the_other_half() -> None:
    half = next(walk for walk in offered(stem(128)) if walk.products == 64)
    assert (half.columns, half.needed) == (28, 57)


def test_walks_of_a_problem_have_names_of_their_own() -> None:
    names = [walk.name for walk in offered(vgg(128))]
    assert len(names) == len(set(names)) == 6


def test_blocks_fit_a_multiprocessor_together() -> None:
    for problem in (stem(128), vgg(128), stem(128, x="float16")):
        for walk in offered(problem):
            assert walk.blocks * (stem_walk.shared_bytes(problem, walk) + 1024) <= 228 * 1024


@pytest.mark.parametrize(
    "pool",
    [
        {"kernel": [2, 2], "strides": [3, 2], "pads": [0, 0, 0, 0]},
        {"kernel": [2, 2], "strides": [2, 2], "pads": [2, 2, 2, 2]},
    ],
)
def test_declines_a_pool_that_leaves_rows_out_or_has_windows_of_padding(pool: dict[str, list[int]]) -> None:
    assert offered(stem(128, pool=pool)) == ()


def test_the_grid_covers_the_pictures_and_the_last_walk_may_be_short() -> None:
    problem = stem(128)
    walk = next(walk for walk in offered(problem) if walk.length == 19)
    kernel = stem_walk.implementation(problem, walk, "sm_90a").steps[0].kernel
    assert kernel is not None
    assert (kernel.grid, kernel.block) == ((2, 3, 128), (128, 1, 1))
    assert struct.unpack("<i", bytes.fromhex(kernel.arguments[5].value)) == (19,)


@pytest.mark.parametrize(
    "problem",
    [
        stem(128),
        stem(128, dtype="bfloat16"),
        stem(128, x="float16"),
        stem(128, pool={"kernel": [2, 2], "strides": [2, 2], "pads": [0, 0, 0, 0]}),
        vgg(128),
    ],
    ids=["resnet", "bfloat16", "half pictures", "pool of two", "vgg"],
)
def test_compiles_without_spilling_for_as_many_blocks_as_it_says(problem: Problem) -> None:
    for walk in {dataclasses.replace(walk, length=1) for walk in offered(problem)}:
        assert "0 bytes spill stores" in compiler.resources(stem_walk.source(problem, walk), "sm_90a"), walk.name
