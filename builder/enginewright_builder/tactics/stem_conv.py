"""The first convolution of a network on pictures (kernels/stem_conv.cu): few channels, read as the user gives them.

What would be three or four layers (cast, transpose to NHWC, convolution, max pool) is one launch. So x may be float32
or of y's type, in any layout; y is float16 or bfloat16 in NHWC. A problem may carry attributes["pool"] = {"kernel":
[h, w], "strides": [h, w], "pads": [top, left, bottom, right]}: a max pool behind the activation, and y is its result.
"""

import functools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Array, Candidate, Constants, Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType
from enginewright_builder.tactics.latency_activation import finish_text
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space, Step

NAME = "hopper stem convolution"
X, WEIGHTS, BIAS, RESIDUAL = range(4)
COLUMNS = 64  # of the convolution that a block makes
OUTPUTS = 64  # channels that a block makes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The max pool behind the convolution, (vertical, horizontal); 1x1 is none."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)


class StemConvolution:
    """A Tactic (device/implementation.py)."""

    name = NAME
    reason = "casting, transposing, convolving and pooling a picture in one launch"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """One for each useful number of rows a block."""
        if refusal(problem, device, constant):
            return ()
        return tuple(
            Candidate(
                tactic=NAME,
                name=f"{rows} rows",
                build=functools.partial(implementation, problem, rows, device.architecture),
            )
            for rows in rows_of(problem)
        )


def refusal(problem: Problem, device: Device, constant: frozenset[int]) -> str:
    """Why the tactic does not take a problem, as the end of a sentence; "" where it does."""
    checks: tuple[tuple[Callable[[], bool], str], ...] = (
        (lambda: problem.kind is Kind.CONVOLUTION, "it is no convolution"),
        (lambda: device.capability == 90, "its instructions exist on compute capability 9.0 alone"),
        (lambda: len(problem.outputs[0].shape) == 4, "it is not two-dimensional"),
        (lambda: _dtypes_fit(problem), "x is neither float32 nor of y's type, or y is not float16 or bfloat16"),
        (lambda: problem.attributes.get("groups", 1) == 1, "it is grouped"),
        (lambda: _two(problem, "dilations", 1) == (1, 1), "it is dilated"),
        (lambda: all(each is None for each in problem.inputs[RESIDUAL:]), "it has a residual or a pair"),
        (lambda: _two(problem, "strides", 1)[1] in (1, 2), "its horizontal stride is not 1 or 2"),
        (lambda: _channels_fit(problem), "it has too many input channels"),
        (lambda: max(_given(problem, WEIGHTS).shape[2:]) <= 11, "its kernel is larger than 11"),
        (lambda: _constants(problem) <= constant, "its weights or bias are not constant"),
        (lambda: _is_whole(problem.outputs[0]), "y is not NHWC with pixels in 16-byte units"),
        (lambda: _finish(problem) is not None, "its activation has no device expression"),
        (lambda: bool(rows_of(problem)), "its rows don't fit into shared memory"),
    )
    return next((reason for holds, reason in checks if not holds()), "")


def rows_of(problem: Problem) -> tuple[int, ...]:
    """Rows of the convolution that a block makes: whole steps of the pool, at most 8, as far as they fit."""
    pool = pool_of(problem)
    useful = [rows for rows in (4, 3, 5, 2, 6, 8, 1, 7) if rows >= pool.kernel[0]]
    whole = [rows for rows in useful if (rows - pool.kernel[0]) % pool.stride[0] == 0]
    return tuple(rows for rows in whole if shared_bytes(problem, rows) <= 227 * 1024)[:4]


def pool_of(problem: Problem) -> Pool:
    """The problem's max pool."""
    said: Mapping[str, Any] | None = problem.attributes.get("pool")
    if said is None:
        return Pool()
    (kernel_h, kernel_w), (stride_h, stride_w), (top, left, *_) = said["kernel"], said["strides"], said["pads"]
    return Pool(kernel=(kernel_h, kernel_w), stride=(stride_h, stride_w), pad=(top, left))


def shared_bytes(problem: Problem, rows: int) -> int:
    """The kernel's dynamic shared memory: barrier, weights, input rows, the convolution's result."""
    kernel_h = _given(problem, WEIGHTS).shape[2]
    in_rows = (rows - 1) * _two(problem, "strides", 1)[0] + kernel_h
    units = _units(problem)
    weights = kernel_h * units // 2 * 2048
    inputs = -(-in_rows * (COLUMNS - 1 + units) * 16 // 128) * 128
    return 1024 + weights + inputs + rows * COLUMNS * (OUTPUTS * 2 + 16)


def implementation(problem: Problem, rows: int, architecture: str) -> Implementation:
    """One kernel, launched dependently."""
    pool, y = pool_of(problem), problem.outputs[0]
    images, outputs, height, width = y.shape
    most = (COLUMNS - pool.kernel[1]) // pool.stride[1] + 1
    across = -(-width // most)
    down = -(-height // ((rows - pool.kernel[0]) // pool.stride[0] + 1))
    tiles = -(-outputs // OUTPUTS)
    kernel = Kernel(
        cubin="stem",
        function="stem",
        grid=(across, down, images * tiles),
        block=(128 * rows, 1, 1),
        shared_bytes=shared_bytes(problem, rows),
        arguments=(
            Argument(pointer=Pointer(space=Space.OPERAND, name=str(X))),
            Argument(pointer=Pointer(space=Space.CONSTANT, name="weights")),
            Argument(pointer=Pointer(space=Space.CONSTANT, name="bias")),
            Argument(pointer=Pointer(space=Space.OPERAND, name=str(len(problem.inputs)))),
            Argument(value=_sizes(problem, columns=-(-width // across), tiles=tiles).hex()),
        ),
        dependent=True,
    )
    return Implementation(
        steps=(Step(layer="", kernel=kernel),),
        cubins={"stem": compiler.compile(source(problem, rows), architecture, ())},
        constants={
            "weights": functools.partial(_packed_weights, _two(problem, "strides", 1)[1]),
            "bias": functools.partial(_packed_bias, outputs),
        },
    )


def source(problem: Problem, rows: int) -> str:
    """The kernel's text with its choices before it."""
    pool, weights = pool_of(problem), _given(problem, WEIGHTS)
    strides = _two(problem, "strides", 1)
    choices = {
        "ELEMENT_IS_BFLOAT16": int(problem.outputs[0].dtype == "bfloat16"),
        "INPUT_IS_FLOAT": int(_given(problem, X).dtype == "float32"),
        "CHANNELS": weights.shape[1],
        "KERNEL_H": weights.shape[2],
        "KERNEL_W": weights.shape[3],
        "STRIDE_H": strides[0],
        "STRIDE_W": strides[1],
        "ROWS": rows,
        "POOL_H": pool.kernel[0],
        "POOL_W": pool.kernel[1],
        "POOL_STRIDE_H": pool.stride[0],
        "POOL_STRIDE_W": pool.stride[1],
        "FINISH(a, b)": _finish(problem),
    }
    kernels = resources.files("enginewright_builder") / "kernels"
    body = (kernels / "stem_conv.cu").read_text()
    for header in ("latency.cuh", "activations.cuh"):
        text = (kernels / header).read_text().replace("#pragma once\n", "")
        body = body.replace(f'#include "{header}"\n', text)
    return "".join(f"#define {name} {value}\n" for name, value in choices.items()) + body


def pack_weights(weights: Array, stride: int) -> Array:
    """Weights (k, c, r, s) as blocks copy them whole: for each tile of 64 outputs the steps of wgmma, kernel row by
    row; a step is two units of 64 outputs x 8, a unit `stride` pixels of 8 / stride channels. The order of the outputs
    is that of latency_geometry.pack_weights. Filled with zeros."""
    outputs, channels, kernel_h, kernel_w = weights.shape
    deep = 8 // stride
    units = _unit_count(kernel_w, stride)
    whole = np.zeros((-(-outputs // OUTPUTS) * OUTPUTS, kernel_h, units * stride, deep), dtype=weights.dtype)
    whole[:outputs, :, :kernel_w, :channels] = weights.transpose(0, 2, 3, 1)
    row = np.arange(OUTPUTS)
    order = (row & ~15) + 2 * (row & 7) + (row >> 3 & 1)
    parts = whole.reshape(-1, OUTPUTS, kernel_h, units // 2, 2, 8)[:, order]
    return np.ascontiguousarray(parts.transpose(0, 2, 3, 4, 1, 5))


def _packed_weights(stride: int, constants: Constants) -> Array:
    return pack_weights(constants[WEIGHTS], stride)


def _packed_bias(outputs: int, constants: Constants) -> Array:
    whole = np.zeros(-(-outputs // OUTPUTS) * OUTPUTS, dtype=np.float32)
    if BIAS in constants:
        whole[:outputs] = constants[BIAS].astype(np.float32)
    return whole


def _sizes(problem: Problem, *, columns: int, tiles: int) -> bytes:
    """The kernel's struct Sizes."""
    x, y, pool = _given(problem, X), problem.outputs[0], pool_of(problem)
    (_, outputs, height, width), (in_height, in_width) = y.shape, x.shape[2:]
    kernel, strides = _given(problem, WEIGHTS).shape[2:], _two(problem, "strides", 1)
    top, left, bottom, right = problem.attributes.get("pads", (0, 0, 0, 0))
    conv_height = (in_height + top + bottom - kernel[0]) // strides[0] + 1
    conv_width = (in_width + left + right - kernel[1]) // strides[1] + 1
    return struct.pack(
        "<18i2Q",
        *(in_height, in_width, top, left, conv_height, conv_width, *pool.pad),
        *(outputs, height, width, columns, tiles),
        *(x.strides[1], x.strides[2], x.strides[3], y.strides[2], y.strides[3]),
        *(x.strides[0], y.strides[0]),
    )


def _units(problem: Problem) -> int:
    return _unit_count(_given(problem, WEIGHTS).shape[3], _two(problem, "strides", 1)[1])


def _unit_count(kernel: int, stride: int) -> int:
    """Units of a window, rounded up to whole steps of two."""
    return (-(-kernel // stride) + 1) // 2 * 2


def _given(problem: Problem, operand: int) -> TensorType:
    type_ = problem.inputs[operand]
    if type_ is None:
        raise AssertionError(f"operand {operand} of a convolution is absent")
    return type_


def _two(problem: Problem, attribute: str, default: int) -> tuple[int, int]:
    first, second = tuple(problem.attributes.get(attribute, (default, default)))[:2]
    return (int(first), int(second))


def _dtypes_fit(problem: Problem) -> bool:
    element = problem.outputs[0].dtype
    weights = _given(problem, WEIGHTS).dtype
    return (
        element in ("float16", "bfloat16") and weights == element and _given(problem, X).dtype in (element, "float32")
    )


def _channels_fit(problem: Problem) -> bool:
    return _given(problem, X).shape[1] <= 8 // _two(problem, "strides", 1)[1]


def _constants(problem: Problem) -> set[int]:
    return {number for number, each in enumerate(problem.inputs) if number in (WEIGHTS, BIAS) and each is not None}


def _is_whole(y: TensorType) -> bool:
    """Whether y takes 16-byte stores of 8 channels."""
    wide = all(step % 8 == 0 for step in (y.strides[0], y.strides[2], y.strides[3]))
    return y.shape[1] % 8 == 0 and y.strides[1] == 1 and wide


def _finish(problem: Problem) -> str | None:
    attributes = problem.attributes
    return finish_text(
        attributes.get("activation", ""), attributes.get("activation_parameters", {}), attributes.get("gated", False)
    )
