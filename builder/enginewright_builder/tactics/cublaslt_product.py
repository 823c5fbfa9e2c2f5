"""A problem as a matrix product of cuBLASLt's: which matrices, how they lie, and what of the epilogue it can do. Pure.

The library's matrices are column-major. A row-major product y = a b (m x k by k x n) is the same memory as

    y^T (n x m) = b^T (n x k) a^T (k x m)

so our b is the library's a, and a row of y is a column of d: one bias a column of y is one a row of d, which is what
its epilogue adds. A residual is c with beta 1, added before the activation.

    1 x 1 convolution over NHWC, stride 1     y (pixels, k) = x (pixels, c) w^T (c, k)
    convolution as large as its image         y (n, k)      = x (n, h w c) w^T (h w c, k)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from enginewright_builder.device.implementation import Array, Constants
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType
from enginewright_builder.tactics import cublaslt_matrices
from enginewright_builder.tactics.cublaslt_matrices import Matrices, column_major, rows_as_columns
from enginewright_runtime.engine.cuda.program import MatrixProduct, Pointer, Space

WEIGHTS = "weights"
_ACTIVATIONS = {"": "", "Relu": "RELU", "Gelu": "GELU"}
_DTYPES: Mapping[str, tuple[str, str]] = {  # of the operands: computed with, scaled with
    "float16": ("COMPUTE_32F", "float32"),
    "bfloat16": ("COMPUTE_32F", "float32"),
    "float32": ("COMPUTE_32F", "float32"),
    "float64": ("COMPUTE_64F", "float64"),
}
_OUTPUTS: Mapping[str, tuple[str, ...]] = {"float16": ("float16", "float32"), "bfloat16": ("bfloat16", "float32")}


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
    problem: Problem, a: Matrices, b: Matrices, residual: Matrices | None, y: Matrices, epilogue: "_Epilogue"
) -> MatrixProduct | None:
    first, second = column_major(b), column_major(a)  # of the transposed product
    if first is None or second is None:
        return None
    compute, scale = _DTYPES[a.dtype]
    if a.dtype == "float32" and problem.attributes.get("math") == "tf32":
        compute = "COMPUTE_32F_FAST_TF32"
    d_layout = rows_as_columns(y)
    return MatrixProduct(
        a=b.pointer,
        b=a.pointer,
        c=y.pointer if residual is None else residual.pointer,
        d=y.pointer,
        a_layout=first[0],
        b_layout=second[0],
        c_layout=d_layout if residual is None else rows_as_columns(residual),
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


def _epilogue(problem: Problem, y: Matrices, constant: frozenset[int]) -> _Epilogue | None:
    attributes, bias = problem.attributes, _inputs(problem)[2]
    activation = attributes.get("activation", "")
    parameters = attributes.get("activation_parameters", {})
    if activation == "Gelu" and parameters.get("approximate") != "tanh":  # the library's is the tanh form
        return None
    if activation not in _ACTIVATIONS or attributes.get("gated", False) or "tail" in attributes:
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


def _operands(problem: Problem) -> tuple[Matrices, Matrices, Matrices | None, Matrices] | None:
    a, b, _, residual = _inputs(problem)
    y = problem.outputs[0]
    if a is None or b is None or min(len(a.shape), len(b.shape)) < 2:
        return None
    if residual is not None and residual.shape != y.shape:
        return None
    shared = not any(stride for stride, extent in zip(b.strides[:-2], b.shape[:-2], strict=True) if extent > 1)
    if shared and len(y.shape) > 2:  # the same b for every product of the batch: one product of more rows
        merged = [cublaslt_matrices.merged(kind) for kind in (a, residual, y) if kind is not None]
        if all(merged) and a.shape[:-2] == y.shape[:-2]:
            flat = iter([kind for kind in merged if kind is not None])
            a, residual, y = next(flat), None if residual is None else next(flat), next(flat)
            b = TensorType(dtype=b.dtype, shape=b.shape[-2:], strides=b.strides[-2:])
    made = [
        None
        if kind is None
        else cublaslt_matrices.stack(kind, Pointer(space=Space.OPERAND, name=str(number)), y.shape[:-2])
        for number, kind in ((0, a), (1, b), (3, residual), (len(problem.inputs), y))
    ]
    first, second, third, last = made
    if first is None or second is None or last is None or (residual is not None and third is None):
        return None
    return first, second, third, last


def _pixels(problem: Problem, constant: frozenset[int]) -> tuple[Matrices, Matrices, Matrices | None, Matrices] | None:
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
        None if kind is None else cublaslt_matrices.pixels(kind, number, whole=whole and number == 0)
        for number, kind in ((0, x), (3, residual), (len(problem.inputs), y))
    )
    if first is None or last is None or (residual is not None and third is None):
        return None
    second = Matrices(
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
