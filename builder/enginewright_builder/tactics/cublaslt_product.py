"""A problem as a matrix product of cuBLASLt's: which matrices, how they lie, and what of the epilogue it can do. Pure.

The library's matrices are column-major. A row-major product y = a b (m x k by k x n) is the same memory as

    y^T (n x m) = b^T (n x k) a^T (k x m)

so our b is the library's a, and a row of y is a column of d: one bias a column of y is one a row of d, which is what
its epilogue adds. A residual is c with beta 1, added before the activation.

    1 x 1 convolution over NHWC, stride 1     y (pixels, k) = x (pixels, c) w^T (c, k)
    convolution as large as its image         y (n, k)      = x (n, h w c) w^T (h w c, k)
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from enginewright_builder.device.implementation import Array, Constants
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType
from enginewright_runtime.engine.cuda.program import MatrixLayout, MatrixProduct, Pointer, Space

WEIGHTS = "weights"
_ACTIVATIONS = {"": "", "Relu": "RELU", "Gelu": "GELU"}
_DTYPES: Mapping[str, tuple[str, str]] = {  # of the operands: computed with, scaled with
    "float16": ("COMPUTE_32F", "float32"),
    "bfloat16": ("COMPUTE_32F", "float32"),
    "float32": ("COMPUTE_32F", "float32"),
    "float64": ("COMPUTE_64F", "float64"),
}
_OUTPUTS: Mapping[str, tuple[str, ...]] = {"float16": ("float16", "float32"), "bfloat16": ("bfloat16", "float32")}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Matrices:
    """`batch` matrices of rows x columns with their strides in elements; one stride of a matrix is 1."""

    dtype: str
    rows: int
    columns: int
    row_stride: int
    column_stride: int
    batch: int = 1
    batch_stride: int = 0
    pointer: Pointer

    @property
    def is_row_major(self) -> bool:
        return self.column_stride == 1 and self.row_stride >= self.columns

    @property
    def is_column_major(self) -> bool:
        return self.row_stride == 1 and self.column_stride >= self.rows


def product(problem: Problem, constant: frozenset[int]) -> MatrixProduct | None:
    """The problem as one product, its algorithm still open (""), or None where it is none that the library has."""
    if any(0 in each.shape for each in problem.operands if each is not None):
        return None
    match problem.kind:
        case Kind.PRODUCT:
            operands = _operands(problem)
        case Kind.CONVOLUTION:
            operands = _pixels(problem, constant)
        case _:
            return None
    if operands is None:
        return None
    a, b, residual, y = operands
    supported = a.dtype in _DTYPES and b.dtype == a.dtype and y.dtype in _OUTPUTS.get(a.dtype, (a.dtype,))
    epilogue = _epilogue(problem, y, constant)
    if not supported or epilogue is None or not y.is_row_major:
        return None
    if residual is not None and (residual.dtype != y.dtype or not residual.is_row_major):
        return None
    return _record(problem, a, b, residual, y, epilogue)


def packed_patches(constants: Constants) -> Array:
    """Weights (k, c, spatial...) as k rows of spatial..., c."""
    return np.ascontiguousarray(np.moveaxis(constants[1], 1, -1))


def _record(
    problem: Problem, a: _Matrices, b: _Matrices, residual: _Matrices | None, y: _Matrices, epilogue: "_Epilogue"
) -> MatrixProduct | None:
    first, second = _column_major(b), _column_major(a)  # of the transposed product
    if first is None or second is None:
        return None
    compute, scale = _DTYPES[a.dtype]
    if a.dtype == "float32" and problem.attributes.get("math") == "tf32":
        compute = "COMPUTE_32F_FAST_TF32"
    d_layout = _rows_as_columns(y)
    return MatrixProduct(
        a=b.pointer,
        b=a.pointer,
        c=y.pointer if residual is None else residual.pointer,
        d=y.pointer,
        a_layout=first[0],
        b_layout=second[0],
        c_layout=d_layout if residual is None else _rows_as_columns(residual),
        d_layout=d_layout,
        compute=compute,
        scale=scale,
        algorithm="",
        transpose_a=first[1],
        transpose_b=second[1],
        alpha=float(problem.attributes.get("alpha", 1.0)),
        beta=0.0 if residual is None else 1.0,
        epilogue=epilogue.name,
        bias=epilogue.bias,
        bias_dtype="" if epilogue.bias is None else y.dtype,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Epilogue:
    name: str
    bias: Pointer | None


def _epilogue(problem: Problem, y: _Matrices, constant: frozenset[int]) -> _Epilogue | None:
    attributes, bias = problem.attributes, _inputs(problem)[2]
    activation = attributes.get("activation", "")
    parameters = attributes.get("activation_parameters", {})
    if activation == "Gelu" and parameters.get("approximate") != "tanh":  # the library's is the tanh form
        return None
    if activation not in _ACTIVATIONS or attributes.get("gated", False):
        return None
    name = _ACTIVATIONS[activation]
    if bias is None:
        return _Epilogue(name=name or "DEFAULT", bias=None)
    along = math.prod(bias.shape) == bias.shape[-1] == y.columns and bias.strides[-1] in (1, 0)
    if not along or (bias.strides[-1] == 0 and y.columns > 1):
        return None
    if bias.dtype == y.dtype:
        place = Pointer(space=Space.OPERAND, name="2")
    elif 2 in constant:
        place = Pointer(space=Space.CONSTANT, name="bias")
    else:
        return None
    return _Epilogue(name=f"{name}_BIAS".removeprefix("_"), bias=place)


def _operands(problem: Problem) -> tuple[_Matrices, _Matrices, _Matrices | None, _Matrices] | None:
    a, b, _, residual = _inputs(problem)
    y = problem.outputs[0]
    if a is None or b is None or min(len(a.shape), len(b.shape)) < 2:
        return None
    if residual is not None and residual.shape != y.shape:
        return None
    shared = not any(stride for stride, extent in zip(b.strides[:-2], b.shape[:-2], strict=True) if extent > 1)
    if shared and len(y.shape) > 2:  # the same b for every product of the batch: one product of more rows
        merged = [_merged(kind) for kind in (a, residual, y) if kind is not None]
        if all(merged) and a.shape[:-2] == y.shape[:-2]:
            flat = iter([kind for kind in merged if kind is not None])
            a, residual, y = next(flat), None if residual is None else next(flat), next(flat)
            b = TensorType(dtype=b.dtype, shape=b.shape[-2:], strides=b.strides[-2:])
    made = [
        None if kind is None else _matrices(kind, Pointer(space=Space.OPERAND, name=str(number)), y.shape[:-2])
        for number, kind in ((0, a), (1, b), (3, residual), (len(problem.inputs), y))
    ]
    first, second, third, last = made
    if first is None or second is None or last is None or (residual is not None and third is None):
        return None
    return first, second, third, last


def _pixels(
    problem: Problem, constant: frozenset[int]
) -> tuple[_Matrices, _Matrices, _Matrices | None, _Matrices] | None:
    """A convolution whose windows do not overlap on anything: one pixel, or the whole image."""
    x, weights, _, residual = problem.inputs[:4]
    y, attributes = problem.outputs[0], problem.attributes
    if x is None or weights is None or attributes["groups"] != 1 or any(attributes["pads"]):
        return None
    if "pair" in attributes or "pool" in attributes or x.dtype != weights.dtype:
        return None
    kernel = weights.shape[2:]
    depth, pointer = weights.shape[1] * math.prod(kernel), Pointer(space=Space.OPERAND, name="1")
    whole = math.prod(kernel) > 1
    if whole:
        if 1 not in constant or kernel != x.shape[2:]:
            return None
        pointer = Pointer(space=Space.CONSTANT, name=WEIGHTS)
    elif not _is_pointwise(weights, x, tuple(attributes["strides"])):
        return None
    first, third, last = (
        None if kind is None else _rows(kind, number, whole=whole and number == 0)
        for number, kind in ((0, x), (3, residual), (len(problem.inputs), y))
    )
    if first is None or last is None or (residual is not None and third is None):
        return None
    second = _Matrices(
        dtype=weights.dtype, rows=depth, columns=weights.shape[0], row_stride=1, column_stride=depth, pointer=pointer
    )
    return first, second, third, last


def _inputs(problem: Problem) -> tuple[TensorType | None, ...]:
    """The first four; None for those that are not there."""
    return (*problem.inputs, None, None)[:4]


def _is_pointwise(weights: TensorType, x: TensorType, strides: tuple[int, ...]) -> bool:
    """Whether every pixel is one product, and the weights (k, c, 1...) lie in k rows of c."""
    moves = any(stride != 1 for stride in strides) and math.prod(x.shape[2:]) > 1
    rows = weights.shape[1] == 1 or weights.strides[1] == 1
    return not moves and (weights.is_contiguous or (rows and weights.strides[0] == weights.shape[1]))


def _rows(kind: TensorType, number: int, *, whole: bool = False) -> _Matrices | None:
    """An image with its channels innermost as a matrix: a row a pixel, or a row an image if `whole`."""
    order = (0, *range(2, len(kind.shape)), 1)
    shape, strides = [kind.shape[axis] for axis in order], [kind.strides[axis] for axis in order]
    if strides[-1] != 1 and shape[-1] > 1:
        return None
    channels = _collapsed(shape[1:], strides[1:]) if whole else (shape[-1], 1)
    pixels = (shape[0], strides[0]) if whole else _collapsed(shape[:-1], strides[:-1])
    if channels is None or pixels is None or (whole and channels[1] != 1):
        return None
    return _Matrices(
        dtype=kind.dtype,
        rows=pixels[0],
        columns=channels[0],
        row_stride=pixels[1] if pixels[0] > 1 else channels[0],
        column_stride=1,
        pointer=Pointer(space=Space.OPERAND, name=str(number)),
    )


def _merged(kind: TensorType) -> TensorType | None:
    """The batch's dimensions and the rows as one dimension of rows."""
    rows = _collapsed(list(kind.shape[:-1]), list(kind.strides[:-1]))
    if rows is None:
        return None
    return TensorType(dtype=kind.dtype, shape=(rows[0], kind.shape[-1]), strides=(rows[1], kind.strides[-1]))


def _collapsed(shape: list[int], strides: list[int]) -> tuple[int, int] | None:
    """Dimensions as one of their product, with its stride, where the outer ones step over all of the inner ones."""
    kept = [(extent, stride) for extent, stride in zip(shape, strides, strict=True) if extent > 1]
    if not kept:
        return 1, 1
    if any(outer[1] != inner[0] * inner[1] for outer, inner in itertools.pairwise(kept)):
        return None
    return math.prod(extent for extent, _ in kept), kept[-1][1]


def _matrices(kind: TensorType, pointer: Pointer, batch: tuple[int, ...]) -> _Matrices | None:
    """A stack of matrices with one stride from each to the next, 0 where all are the same one."""
    own = kind.shape[:-2]
    outer = _collapsed(list(own), list(kind.strides[:-2]))
    if any(stride == 0 for stride, extent in zip(kind.strides[:-2], own, strict=True) if extent > 1):
        outer = (math.prod(own), 0) if not any(kind.strides[:-2]) else None
    if outer is None or (math.prod(own) != math.prod(batch) and math.prod(own) > 1):
        return None
    rows, columns = kind.shape[-2:]
    row_stride, column_stride = kind.strides[-2:]
    if columns == 1:  # a stride over a single element says nothing
        column_stride = 1
    if rows == 1:
        row_stride = columns if column_stride == 1 else 1
    return _Matrices(
        dtype=kind.dtype,
        rows=rows,
        columns=columns,
        row_stride=row_stride,
        column_stride=column_stride,
        batch=math.prod(batch),
        batch_stride=outer[1] if math.prod(own) > 1 else 0,
        pointer=pointer,
    )


def _rows_as_columns(matrices: _Matrices) -> MatrixLayout:
    """Row-major memory as the library sees it: the transposed matrix in columns."""
    return MatrixLayout(
        dtype=matrices.dtype,
        rows=matrices.columns,
        columns=matrices.rows,
        leading=matrices.row_stride,
        batch=matrices.batch,
        batch_stride=matrices.batch_stride,
    )


def _column_major(matrices: _Matrices) -> tuple[MatrixLayout, bool] | None:
    """An operand of the transposed product, and whether the library has to transpose what it sees."""
    if matrices.is_row_major:
        return _rows_as_columns(matrices), False
    if not matrices.is_column_major:
        return None
    layout = MatrixLayout(
        dtype=matrices.dtype,
        rows=matrices.rows,
        columns=matrices.columns,
        leading=matrices.column_stride,
        batch=matrices.batch,
        batch_stride=matrices.batch_stride,
    )
    return layout, True
