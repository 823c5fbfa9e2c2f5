"""Max pools in the epilogue of our convolutions: patches, and where lanes put the maxima, run on the CPU."""

import math
from importlib import resources

import numpy as np
import pytest
from cuda_on_host.running import run_on_host

from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last
from enginewright_builder.tactics import hopper_pool
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space


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


@pytest.mark.parametrize("results", [128, 96, 48])  # panels of 128, 64 and 32 bytes
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
    """The staging tile of one warpgroup, its swizzle undone."""
    results = sums.shape[1]
    wide = next(each for each in (128, 64, 32) if results * 2 % each == 0)
    stage = np.zeros(16 * results * 2, np.uint8)
    buffers = {
        (Space.OPERAND, "sums"): np.ascontiguousarray(sums).reshape(-1),
        (Space.OPERAND, "stage"): stage,
        (Space.OPERAND, "bias"): bias,
    }
    arguments = tuple(Argument(pointer=Pointer(space=Space.OPERAND, name=n)) for n in ("sums", "stage", "bias"))
    kernel = Kernel(cubin="k", function="finishing", grid=(1, 1, 1), block=(128, 1, 1), arguments=arguments)
    run_on_host([kernel], {"k": text(patch, results)}, buffers)
    rows = stage.reshape(results * 2 // wide, 16, wide // 16, 16)
    made = np.empty_like(rows)
    for row in range(16):
        swap = (row & 7) >> {128: 0, 64: 1, 32: 2}[wide]
        for chunk in range(wide // 16):
            made[:, row, chunk] = rows[:, row, chunk ^ swap]
    return made.transpose(1, 0, 2, 3).reshape(16, -1).copy().view(np.float16)


def text(patch: tuple[int, int, int], results: int) -> str:
    """The epilogue's own text between what stands in for hopper.cuh and a kernel of one warpgroup."""
    macros = {
        "RESULTS": results, "OUTPUT": "Half", "RESIDUAL": 0, "ACTIVATION": "none", "GATED": 0,
        "PATCH_WIDTH": patch[0], "PATCH_HEIGHT": patch[1], "PATCH_IMAGES": patch[2],
    }  # fmt: skip
    epilogue = (resources.files("enginewright_builder") / "kernels" / "hopper_epilogue.cuh").read_text()
    for line in ("#pragma once\n", '#include "hopper.cuh"\n', '#include "activations.cuh"\n'):
        epilogue = epilogue.replace(line, "")
    return "".join(f"#define {name} {value}\n" for name, value in macros.items()) + HOPPER + epilogue + KERNEL


HOPPER = """
#define INLINE inline
struct Half {}; struct Float {};
template <class T> struct ItemOf { typedef uint16_t type; };
template <> struct ItemOf<Float> { typedef float type; };
template <class T> using Item = typename ItemOf<T>::type;
inline float none(float x, float, float) { return x; }
inline float number(uint16_t bits) { float16 h = {bits}; return read(&h); }
inline uint32_t pack(Half, float low, float high) {
    float16 both[2];
    write(both, low), write(both + 1, high);
    return both[0].bits | uint32_t(both[1].bits) << 16;
}
inline float2 unpack(Half, uint32_t both) { return {number(both & 0xffff), number(both >> 16)}; }
inline uint32_t larger(Half, uint32_t a, uint32_t b) {
    const float2 x = unpack(Half{}, a), y = unpack(Half{}, b);
    return pack(Half{}, fmaxf(x.x, y.x), fmaxf(x.y, y.y));
}
inline float2 two_constants(const float* from) { return {from[0], from[1]}; }
inline unsigned __float_as_uint(float x) { unsigned v; memcpy(&v, &x, 4); return v; }
"""
KERNEL = """
extern "C" __global__ void finishing(const float* given, unsigned char* stage, const float* bias) {
    const int warp = threadIdx.x / 32, row = threadIdx.x % 32 / 4, pair = threadIdx.x % 4;
    float sums[RESULTS / 2];
    for (int j = 0; j < RESULTS / 8; j++)
        for (int i = 0; i < 4; i++)
            sums[4 * j + i] = given[(warp * 16 + row + i / 2 * 8) * RESULTS + j * 8 + 2 * pair + i % 2];
    finish_pooled(sums, stage, 16 * WIDTH, bias, warp, row, pair, Epilogue{1.f, 0.f, 0.f});
}
"""
