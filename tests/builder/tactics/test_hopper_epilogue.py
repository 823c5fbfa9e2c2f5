"""The epilogue of the Hopper matrix kernels: where lanes put a tile's results, and when a panel is said to be there."""

import numpy as np
import pytest
from cuda_on_host import hopper_staging

KERNEL = """
extern "C" __global__ void finishing(const float* given, unsigned char* stage, const float* bias) {
    const int warp = threadIdx.x / 32, row = threadIdx.x % 32 / 4, pair = threadIdx.x % 4, at = warp * 16 + row;
    float sums[RESULTS / 2];
    for (int j = 0; j < RESULTS / 8; j++)
        for (int i = 0; i < 4; i++) sums[4 * j + i] = given[(at + i / 2 * 8) * RESULTS + j * 8 + 2 * pair + i % 2];
    int told = 0;
    auto panel = [&](int q) { told = q == told ? told + 1 : -1; };
    finish_rows(sums, stage + at * WIDTH, 64 * WIDTH, bias, row, pair, Epilogue{2.f, 0.f, 0.f}, panel);
    if (told != PANELS) *(uint16_t*)(stage + at * WIDTH) = 0x7e00;
}
"""


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("results", [192, 96, 144, 112, 16])  # panels of 128 and 64 bytes, whole rows
def test_lanes_leave_results_where_the_copy_engine_looks(results: int, *, residual: bool) -> None:
    random = np.random.default_rng(3)
    sums = random.standard_normal((64, results)).astype(np.float16).astype(np.float32)
    bias = np.arange(results, dtype=np.float32) / 16
    added = random.standard_normal((64, results)).astype(np.float16) if residual else None
    staged = hopper_staging.finished(KERNEL, {}, sums, bias, rows=64, residual=added)
    want = 2 * sums + bias + (0 if added is None else added.astype(np.float32))
    np.testing.assert_array_equal(staged, want.astype(np.float16))


@pytest.mark.parametrize("apart", [0, 1])
def test_a_tail_has_the_residual_that_is_not_added(apart: int) -> None:
    random = np.random.default_rng(3)
    sums = random.standard_normal((64, 96)).astype(np.float16).astype(np.float32)
    bias = np.arange(96, dtype=np.float32) / 16
    added = random.standard_normal((64, 96)).astype(np.float16)
    tail = {"TAIL(y, r)": "(y * 4.f - r)", "APART": apart}
    staged = hopper_staging.finished(KERNEL, tail, sums, bias, rows=64, residual=added)
    wide = added.astype(np.float32)
    y = 2 * sums + bias if apart else 2 * sums + bias + wide
    np.testing.assert_array_equal(staged, (y * 4 - wide).astype(np.float16))
