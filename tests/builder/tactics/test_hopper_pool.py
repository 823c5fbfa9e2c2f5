"""Max pools in the epilogue of our convolutions: patches, and where lanes put the maxima, run on the CPU."""

import math

import numpy as np
import pytest
from cuda_on_host import hopper_staging

from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last
from enginewright_builder.tactics import hopper_pool


def pixels(*shape: int) -> TensorType:
    return TensorType(dtype="float16", shape=shape, strides=channels_last(shape))


def problem(kernel: int = 2, stride: int = 2, pad: int = 0, *, residual: bool = False) -> Problem:
    y = pixels(1, 64, 7, 7)
    pool = {"kernel": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    inputs = (pixels(1, 64, 14, 14), pixels(64, 64, 3, 3), None, y if residual else None)
    return Problem(kind=Kind.CONVOLUTION, inputs=inputs, outputs=(y,), attributes={"pool": pool})


def test_a_pool_of_twos_is_done_by_the_convolution_and_no_other() -> None:
    assert hopper_pool.side(problem()) == 2
    assert hopper_pool.side(Problem(kind=Kind.CONVOLUTION, inputs=(), outputs=(pixels(1, 64, 7, 7),))) == 1
    others = (problem(3), problem(2, 1), problem(2, 2, 1), problem(residual=True))
    assert [hopper_pool.side(each) for each in others] == [0] * 4


@pytest.mark.parametrize(
    ("shape", "form"),
    [
        ((128, 128, 56, 56), (8, 8, 1)),
        ((128, 256, 28, 28), (8, 8, 1)),
        ((128, 512, 14, 14), (4, 4, 4)),
        ((128, 512, 7, 7), (2, 2, 16)),
        ((1, 512, 14, 14), (4, 16, 1)),
    ],
)
def test_patches_leave_few_rows_empty(shape: tuple[int, int, int, int], form: tuple[int, int, int]) -> None:
    found = hopper_pool.patches(pixels(*shape))
    assert (found.width, found.height, found.images) == form
    rows = 64 * math.prod(found.counts)
    pooled = shape[0] * shape[2] * shape[3] * 4
    assert rows == pooled if shape[0] > 1 else rows < 1.2 * pooled


@pytest.mark.parametrize("results", [128, 96, 48])  # panels of 128 and 64 bytes, whole rows
@pytest.mark.parametrize("patch", [(8, 8, 1), (8, 2, 4), (4, 4, 4), (4, 16, 1), (2, 2, 16), (2, 16, 2)])
def test_lanes_leave_the_maxima_of_windows_where_the_copy_engine_looks(
    patch: tuple[int, int, int], results: int
) -> None:
    width, height, images = patch
    sums = np.random.default_rng(3).standard_normal((64, results)).astype(np.float16).astype(np.float32)
    bias = np.arange(results, dtype=np.float32) / 16
    staged = finished(patch, sums, bias)
    windows = (sums + bias).astype(np.float16).reshape(images, height // 2, 2, width // 2, 2, results)
    np.testing.assert_array_equal(staged, windows.max(axis=(2, 4)).reshape(16, results))


def finished(patch: tuple[int, int, int], sums: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The staging tile of one warpgroup."""
    sizes = dict(zip(("PATCH_WIDTH", "PATCH_HEIGHT", "PATCH_IMAGES"), patch, strict=True))
    return hopper_staging.finished(KERNEL, sizes, sums, bias, rows=16)


KERNEL = """
extern "C" __global__ void finishing(const float* given, unsigned char* stage, const float* bias) {
    const int warp = threadIdx.x / 32, row = threadIdx.x % 32 / 4, pair = threadIdx.x % 4;
    float sums[RESULTS / 2];
    for (int j = 0; j < RESULTS / 8; j++)
        for (int i = 0; i < 4; i++)
            sums[4 * j + i] = given[(warp * 16 + row + i / 2 * 8) * RESULTS + j * 8 + 2 * pair + i % 2];
    finish_pooled(sums, stage, 16 * WIDTH, bias, warp, row, pair, Epilogue{1.f, 0.f, 0.f}, [](int) {});
}
"""
