"""What a convolution or matrix product is to the Hopper matrix kernels: rows of `a`, columns of `b`, where they lie.

A 1x1 convolution without strides is a plain product of its pixels; any other reads windows, which the engine gathers
(im2col mode). A product whose `b` is the same for the whole batch is one tall matrix wherever its rows allow. Pure.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType
from enginewright_builder.tactics import hopper_pool
from enginewright_builder.tactics.hopper_operand import Matrix, Windows, operand
from enginewright_builder.tactics.hopper_pool import Patches

WEIGHTS, BIAS, RESIDUAL, SECOND, SECOND_WEIGHTS = 1, 2, 3, 4, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """rows x columns sums over `taps` x `depth` (and `second_depth`) products. `b` is None where it is packed. With a
    max pool the rows are those of `patches`."""

    rows: int
    columns: int
    taps: int
    depth: int
    a: Matrix | Windows
    out: Matrix
    residual: Matrix | None = None
    second: Windows | None = None
    second_depth: int = 0
    b: Matrix | None = None
    k_major: bool = True
    batch: tuple[int, int] = (1, 1)  # inner, outer
    picture: tuple[int, int] = (1, 1)  # the output's (height, width), where pictures are read; in patches, if any
    patches: Patches | None = None
    scale: float = 1.0
    product: bool = False  # weights are (..., k, n), not (n, k, taps...)
    attributes: dict[str, Any] = field(default_factory=dict, hash=False)  # compared, but a dict has no hash

    @property
    def batched(self) -> bool:
        """Whether there are several products."""
        return self.batch != (1, 1)

    def result_bytes(self, rows: int, columns: int) -> int:
        """What a tile of rows x columns stores."""
        return rows * columns * self.out.item // (hopper_pool.SIDE**2 if self.patches else 1)


def of_problem(problem: Problem, constant: frozenset[int]) -> Form | None:
    """The form of a problem, None where it has none."""
    if problem.kind is Kind.CONVOLUTION:
        return _convolution(problem, constant)
    if problem.kind is Kind.PRODUCT:
        return _product(problem, constant)
    return None


def _convolution(problem: Problem, constant: frozenset[int]) -> Form | None:
    inputs = (*problem.inputs, *(None,) * 6)[:6]
    x, weights, bias, residual, second, second_weights = inputs
    if x is None or weights is None or WEIGHTS not in constant or problem.attributes.get("groups", 1) != 1:
        return None
    pooled = hopper_pool.side(problem)
    if len(x.shape) not in (3, 4) or (bias is not None and BIAS not in constant) or not pooled:
        return None
    x, y = _picture(x), _picture(problem.outputs[0])
    rank, (n, k, h, w) = len(weights.shape) - 2, y.shape
    kernel = _pair(weights.shape[2:], 1)
    strides = _pair(problem.attributes.get("strides", (1,) * rank), 1)
    pads = tuple(problem.attributes.get("pads", (0,) * (2 * rank)))
    begin, end = _pair(pads[:rank], 0), _pair(pads[rank:], 0)
    windows = Windows(
        pointer=operand(0), picture=x, kernel=kernel, stride=strides, begin=begin, end=end,
        dilation=_pair(problem.attributes.get("dilations", (1,) * rank), 1),
    )  # fmt: skip
    a: Matrix | Windows = windows
    patches = hopper_pool.patches(y) if pooled > 1 else None
    if patches is not None and (strides != (1, 1) or problem.outputs[0].dtype != x.dtype):
        return None
    if (kernel, strides, begin, end) == ((1, 1), (1, 1), (0, 0), (0, 0)) and patches is None:
        a = _pixels(x, 0) or windows
    out = _pixels(y, len(problem.inputs))
    shortcut = None if residual is None else _pixels(_picture(residual), RESIDUAL)
    if out is None or (residual is not None and (shortcut is None or residual.shape != problem.outputs[0].shape)):
        return None
    pair = None
    if second is not None:
        pair = _second(problem, _picture(second), second_weights, constant, (h, w))
        if pair is None:
            return None
    rows, picture = n * h * w, (h, w)
    if patches is not None:
        rows, picture = hopper_pool.ROWS * math.prod(patches.counts), patches.counts[1:]
    return Form(
        rows=rows, columns=k, taps=windows.taps, depth=x.shape[1], a=a, out=out, residual=shortcut, second=pair,
        second_depth=0 if second is None else second.shape[1], picture=picture, patches=patches,
        attributes=dict(problem.attributes),
    )  # fmt: skip


def _second(
    problem: Problem, x: TensorType, weights: TensorType | None, constant: frozenset[int], picture: tuple[int, int]
) -> Windows | None:
    """The pair's picture, where its 1x1 windows number the output's pixels."""
    said = problem.attributes.get("pair", {})
    strides, pads = _pair(said.get("strides", (1, 1)), 1), tuple(said.get("pads", (0, 0, 0, 0)))
    fits = tuple((extent - 1) // stride + 1 for extent, stride in zip(x.shape[2:], strides, strict=True)) == picture
    if weights is None or SECOND_WEIGHTS not in constant or set(weights.shape[2:]) != {1} or any(pads) or not fits:
        return None
    return Windows(
        pointer=operand(SECOND), picture=x, kernel=(1, 1), stride=strides, begin=(0, 0), end=(0, 0), dilation=(1, 1)
    )


def _product(problem: Problem, constant: frozenset[int]) -> Form | None:
    a, b, bias, residual = (*problem.inputs, None, None)[:4]
    y = problem.outputs[0]
    if a is None or b is None or min(len(a.shape), len(b.shape), len(y.shape)) < 2:
        return None
    if bias is not None and (BIAS not in constant or bias.size not in (1, y.shape[-1]) or bias.size != bias.shape[-1]):
        return None
    shared = all(extent == 1 or step == 0 for extent, step in zip(b.shape[:-2], b.strides[:-2], strict=True))
    packed = WEIGHTS in constant
    if packed and not shared:
        return None
    if residual is not None and residual.shape != y.shape:
        return None
    stacked = shared and all(_stacks(each) for each in (a, y, residual) if each is not None)
    matrices = [
        _matrix(each, n, stacked) for each, n in ((a, 0), (y, len(problem.inputs)), (residual, RESIDUAL)) if each
    ]
    weights = None if packed else _matrix(b, WEIGHTS, stacked)
    k_major = True
    if not packed and weights is None:
        weights, k_major = _matrix(_turned(b), WEIGHTS, stacked), True
    elif not packed:
        k_major = False
    if None in matrices or (not packed and weights is None):
        return None
    first, out = matrices[0], matrices[1]
    assert first is not None
    assert out is not None
    return Form(
        rows=out.rows, columns=y.shape[-1], taps=1, depth=a.shape[-1], a=first, out=out,
        residual=matrices[2] if len(matrices) > 2 else None, b=weights, k_major=k_major, batch=out.extents,
        scale=float(problem.attributes.get("alpha", 1.0)), product=True, attributes=dict(problem.attributes),
    )  # fmt: skip


def _picture(kind: TensorType) -> TensorType:
    """A sequence (n, c, w) as a picture of one row."""
    if len(kind.shape) == 4:
        return kind
    (n, c, w), (far, one, wide) = kind.shape, kind.strides
    return TensorType(dtype=kind.dtype, shape=(n, c, 1, w), strides=(far, one, wide * w, wide))


def _pair(values: Any, missing: int) -> tuple[int, int]:
    numbers = [int(each) for each in values]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (missing, numbers[0])


def _pixels(kind: TensorType, number: int) -> Matrix | None:
    """An NHWC picture as one row of channels a pixel, where all pixels are equally far apart."""
    (n, c, h, w), (far, one, high, wide) = kind.shape, kind.strides
    run = _run(((n, far), (h, high), (w, wide)))
    if run is None or (one != 1 and c != 1):
        return None
    return Matrix(pointer=operand(number), dtype=kind.dtype, rows=n * h * w, columns=c, stride=run)


def _run(extents: tuple[tuple[int, int], ...]) -> int | None:
    """The one stride of nested dimensions (outermost first), None where they do not follow one another."""
    stride = length = 0
    for extent, step in reversed(extents):
        if extent == 1:
            continue
        if length == 0:
            stride, length = step, extent
        elif step == stride * length:
            length *= extent
        else:
            return None
    return stride


def _stacks(kind: TensorType) -> bool:
    """Whether all rows of all the batch's matrices are equally far apart."""
    return _run(tuple(zip(kind.shape[:-1], kind.strides[:-1], strict=True))) is not None


def _turned(kind: TensorType) -> TensorType:
    shape, strides = kind.shape, kind.strides
    return TensorType(
        dtype=kind.dtype, shape=(*shape[:-2], shape[-1], shape[-2]), strides=(*strides[:-2], strides[-1], strides[-2])
    )


def _matrix(kind: TensorType, number: int, stacked: bool) -> Matrix | None:
    """The last two dimensions as a matrix with contiguous rows; those before as one or two batch dimensions."""
    if kind.strides[-1] != 1 and kind.shape[-1] != 1:
        return None
    if stacked and number != WEIGHTS:
        stride = _run(tuple(zip(kind.shape[:-1], kind.strides[:-1], strict=True)))
        assert stride is not None
        rows = kind.size // kind.shape[-1]
        return Matrix(pointer=operand(number), dtype=kind.dtype, rows=rows, columns=kind.shape[-1], stride=stride)
    batch = [(e, s) for e, s in zip(kind.shape[:-2], kind.strides[:-2], strict=True)]
    while len(batch) > 2 and (joined := _run(tuple(batch[:2]))) is not None:
        batch[:2] = [(batch[0][0] * batch[1][0], joined)]
    if len(batch) > 2:
        return None
    (outer, far), (inner, near) = [(1, 0)] * (2 - len(batch)) + [(e if s else 1, s) for e, s in batch]
    return Matrix(
        pointer=operand(number), dtype=kind.dtype, rows=kind.shape[-2], columns=kind.shape[-1], stride=kind.strides[-2],
        extents=(inner, outer), apart=(near, far),
    )  # fmt: skip
