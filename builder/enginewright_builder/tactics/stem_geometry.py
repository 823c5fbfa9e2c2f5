"""What the kernels of a network's first convolution share (kernels/stem.cuh): how a problem reads, its choices as
macros, weights as blocks copy them. Pure."""

import functools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from enginewright_builder.device.implementation import Array, Constants
from enginewright_builder.device.problem import Problem
from enginewright_builder.device.tensors import TensorType
from enginewright_builder.tactics import epilogue_text
from enginewright_runtime.engine.cuda.program import Argument, Pointer, Space
from enginewright_runtime.engine.values import dtype_of

X, WEIGHTS, BIAS, RESIDUAL = range(4)
OUTPUTS = 64  # channels that a block makes
RESULT_COLUMN = OUTPUTS * 2 + 16  # bytes in shared memory
SHARED_BYTES = 227 * 1024  # that a block may ask for


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The max pool behind the convolution, (vertical, horizontal); 1x1 is none."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)


def pool_of(problem: Problem) -> Pool:
    """The problem's max pool."""
    said: Mapping[str, Any] | None = problem.attributes.get("pool")
    if said is None:
        return Pool()
    (kernel_h, kernel_w), (stride_h, stride_w), (top, left, *_) = said["kernel"], said["strides"], said["pads"]
    return Pool(kernel=(kernel_h, kernel_w), stride=(stride_h, stride_w), pad=(top, left))


def conv_size(problem: Problem) -> tuple[int, int]:
    """Height and width of the convolution's result, before the pool."""
    (down, across), apart = two(problem, "strides", 1), two(problem, "dilations", 1)
    high, wide = ((taps - 1) * step + 1 for taps, step in zip(given(problem, WEIGHTS).shape[2:], apart, strict=True))
    height, width = given(problem, X).shape[2:]
    top, left, bottom, right = problem.attributes.get("pads", (0, 0, 0, 0))
    return ((height + top + bottom - high) // down + 1, (width + left + right - wide) // across + 1)


def output_tiles(problem: Problem) -> int:
    """Tiles of 64 output channels."""
    return -(-problem.outputs[0].shape[1] // OUTPUTS)


def weight_bytes(problem: Problem) -> int:
    """Of a tile in shared memory."""
    return parts(problem) * given(problem, WEIGHTS).shape[2] * units(problem) // 2 * 2048


def parts(problem: Problem) -> int:
    """In how many elements numbers are kept: two where x and weights are float32 (WHOLE), so that nothing is lost."""
    return 2 if given(problem, WEIGHTS).dtype == "float32" else 1


def units(problem: Problem) -> int:
    """Of 16 bytes, that a window is long."""
    return unit_count(given(problem, WEIGHTS).shape[3], two(problem, "strides", 1)[1])


def unit_count(kernel: int, stride: int) -> int:
    """Units of a window, rounded up to whole steps of two."""
    return (-(-kernel // stride) + 1) // 2 * 2


def in_halves(problem: Problem) -> bool:
    """Whether y has twice the channels: its own, then what rounding those lost."""
    return bool(problem.attributes.get("halves", False))


def macros(problem: Problem) -> dict[str, object]:
    """The choices that both kernels want before their text."""
    pool, weights = pool_of(problem), given(problem, WEIGHTS)
    strides = two(problem, "strides", 1)
    return {
        "ELEMENT_IS_BFLOAT16": int(problem.outputs[0].dtype == "bfloat16"),
        "INPUT_IS_FLOAT": int(given(problem, X).dtype == "float32"),
        "WHOLE": int(parts(problem) == 2),
        "CHANNELS": weights.shape[1],
        "KERNEL_H": weights.shape[2],
        "KERNEL_W": weights.shape[3],
        "STRIDE_H": strides[0],
        "STRIDE_W": strides[1],
        "POOL_H": pool.kernel[0],
        "POOL_W": pool.kernel[1],
        "POOL_STRIDE_H": pool.stride[0],
        "POOL_STRIDE_W": pool.stride[1],
        "FINISH(a, b)": epilogue_text.packed(problem.attributes),
        "LOW_FROM": weights.shape[0] if in_halves(problem) else 0,
        "ACTIVATE(v)": epilogue_text.activated(problem.attributes, "(v)"),
    }


def arguments(problem: Problem, columns: int) -> tuple[Argument, ...]:
    """Both kernels', for blocks that make so many columns of y."""
    return (
        Argument(pointer=Pointer(space=Space.OPERAND, name=str(X))),
        Argument(pointer=Pointer(space=Space.CONSTANT, name="weights")),
        Argument(pointer=Pointer(space=Space.CONSTANT, name="bias")),
        Argument(pointer=Pointer(space=Space.OPERAND, name=str(len(problem.inputs)))),
        Argument(value=_sizes(problem, columns).hex()),
    )


def packers(problem: Problem) -> Mapping[str, Callable[[Constants], Array]]:
    """What makes the kernels' constants."""
    return {
        "weights": functools.partial(_packed_weights, problem),
        "bias": functools.partial(_packed_bias, problem.outputs[0].shape[1], in_halves(problem)),
    }


def pack_weights(weights: Array, stride: int) -> Array:
    """Weights (k, c, r, s) as blocks copy them whole: for each tile of 64 outputs the steps of wgmma, kernel row by
    row; a step is two units of 64 outputs x 8, a unit `stride` pixels of 8 / stride channels. The order of the outputs
    is that of latency_geometry.pack_weights. Filled with zeros."""
    outputs, channels, kernel_h, kernel_w = weights.shape
    deep = 8 // stride
    units = unit_count(kernel_w, stride)
    whole = np.zeros((-(-outputs // OUTPUTS) * OUTPUTS, kernel_h, units * stride, deep), dtype=weights.dtype)
    whole[:outputs, :, :kernel_w, :channels] = weights.transpose(0, 2, 3, 1)
    row = np.arange(OUTPUTS)
    order = (row & ~15) + 2 * (row & 7) + (row >> 3 & 1)
    parts = whole.reshape(-1, OUTPUTS, kernel_h, units // 2, 2, 8)[:, order]
    return np.ascontiguousarray(parts.transpose(0, 2, 3, 4, 1, 5))


def _packed_weights(problem: Problem, constants: Constants) -> Array:
    """A tile's weights; of float32 ones what y's type keeps of them, then what it keeps of the rest. Where y is in
    halves, both are sums of the same weights."""
    stride, element = two(problem, "strides", 1)[1], problem.outputs[0].dtype
    weights = np.concatenate([constants[WEIGHTS]] * (2 if in_halves(problem) else 1))
    if weights.dtype != np.float32:
        return pack_weights(weights, stride)
    high = weights.astype(dtype_of(element))
    low = (weights - high.astype(np.float32)).astype(dtype_of(element))
    return np.stack([pack_weights(part, stride) for part in (high, low)], axis=1)


def _packed_bias(outputs: int, twice: bool, constants: Constants) -> Array:
    whole = np.zeros(-(-outputs // OUTPUTS) * OUTPUTS, dtype=np.float32)
    if BIAS in constants:
        whole[:outputs] = np.tile(constants[BIAS].astype(np.float32), 2 if twice else 1)
    return whole


def _sizes(problem: Problem, columns: int) -> bytes:
    """The kernels' struct Sizes."""
    x, y = given(problem, X), problem.outputs[0]
    (_, outputs, height, width), (top, left, *_) = y.shape, problem.attributes.get("pads", (0, 0, 0, 0))
    return struct.pack(
        "<18i2Q",
        *(*x.shape[2:], top, left, *conv_size(problem), *pool_of(problem).pad),
        *(outputs, height, width, columns, output_tiles(problem)),
        *(x.strides[1], x.strides[2], x.strides[3], y.strides[2], y.strides[3]),
        *(x.strides[0], y.strides[0]),
    )


def given(problem: Problem, operand: int) -> TensorType:
    """An operand that is there."""
    type_ = problem.inputs[operand]
    if type_ is None:
        raise AssertionError(f"operand {operand} of a convolution is absent")
    return type_


def two(problem: Problem, attribute: str, default: int) -> tuple[int, int]:
    """An attribute of (vertical, horizontal)."""
    first, second = tuple(problem.attributes.get(attribute, (default, default)))[:2]
    return (int(first), int(second))
