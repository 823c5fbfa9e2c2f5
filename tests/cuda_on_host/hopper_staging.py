"""The epilogue of the Hopper matrix kernels without a GPU: what one warpgroup leaves in its staging tile."""

from collections.abc import Mapping
from importlib import resources

import numpy as np
from cuda_on_host.running import run_on_host

from enginewright_builder.tactics import hopper_launch
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space

Array = np.ndarray


def finished(
    kernel: str, macros: Mapping[str, object], sums: Array, bias: Array, *, rows: int, residual: Array | None = None
) -> Array:
    """`rows` rows of float16 results, as the copy engine finds them, of a `kernel` over (sums, stage, bias) named
    `finishing`; a residual lies there before."""
    results = sums.shape[1]
    places = _places(rows, results, *hopper_launch.panel_bytes(results, 2, residual=residual is not None))
    memory = np.zeros(rows * results * 2, np.uint8)
    if residual is not None:
        memory[places] = residual.view(np.uint8)
    buffers = {
        (Space.OPERAND, "sums"): np.ascontiguousarray(sums).reshape(-1),
        (Space.OPERAND, "stage"): memory,
        (Space.OPERAND, "bias"): bias,
    }
    arguments = tuple(Argument(pointer=Pointer(space=Space.OPERAND, name=n)) for n in ("sums", "stage", "bias"))
    launched = Kernel(cubin="k", function="finishing", grid=(1, 1, 1), block=(128, 1, 1), arguments=arguments)
    choices = {
        "RESULTS": results, "OUTPUT": "Half", "ACTIVATION": "none", "GATED": 0, "RESIDUAL": int(residual is not None),
        "PATCH_WIDTH": 0, "PATCH_HEIGHT": 0, "PATCH_IMAGES": 0, **macros,
    }  # fmt: skip
    run_on_host([launched], {"k": _text(choices, kernel)}, buffers)
    return memory[places].view(np.float16)


def _places(rows: int, results: int, wide: int, swizzle: int) -> Array:
    """Where each byte of rows of float16 lies: 16 bytes i of row r at i ^ r of eight, i ^ r / 2 of four, ..."""
    row, at = np.indices((rows, results * 2))
    swap = (row & 7) >> {128: 0, 64: 1, 32: 2, 0: 3}[swizzle]
    return (at // wide * rows + row) * wide + (at % wide // 16 ^ swap) * 16 + at % 16


def _text(macros: Mapping[str, object], kernel: str) -> str:
    """The epilogue's own text between what stands in for hopper.cuh and the kernel."""
    epilogue = (resources.files("enginewright_builder") / "kernels" / "hopper_epilogue.cuh").read_text()
    for line in ("#pragma once\n", '#include "hopper.cuh"\n', '#include "activations.cuh"\n'):
        epilogue = epilogue.replace(line, "")
    return "".join(f"#define {name} {value}\n" for name, value in macros.items()) + HOPPER + epilogue + kernel


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
