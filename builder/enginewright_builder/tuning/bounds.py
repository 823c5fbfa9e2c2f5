"""How far a right candidate may be from the untouched model, by the coarsest arithmetic in the network.

An output agrees where |got - wanted| <= absolute + relative * |wanted|, where `absolute` is a share of the largest
|wanted| of that output: reordered sums lose a few units in the last place of their largest term, however small the
sum is. Per arithmetic (relative, share of the largest):

    fp64  1e-9, 1e-10   unit roundoff 1.1e-16, sums of up to a million terms
    fp32  1e-3, 1e-4    unit roundoff 6.0e-8; deep networks amplify it about a thousandfold (Higham, Accuracy and
                        Stability of Numerical Algorithms, section 4.2: sqrt(n) u for random rounding)
    fp16  2e-2, 1e-2    unit roundoff 4.9e-4, sums kept in fp32 by some kernels and not by others
    bf16  6e-2, 4e-2    unit roundoff 3.9e-3, the same
    int8  5e-2, 5e-2    a value that lies on the edge between two of 256 steps may take either one

Integers, booleans and text agree only exactly, but for the 8-bit integers of a quantized network, which may differ by
one step.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import onnx_ir as ir

from enginewright_builder.network.network import Network
from enginewright_runtime.engine import replay
from enginewright_runtime.engine.values import Array, Value
from enginewright_runtime.plan.recipe import Precision


class Arithmetic(StrEnum):
    """From the finest to the coarsest."""

    FP64 = "fp64"
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"


BOUNDS: Mapping[Arithmetic, tuple[float, float]] = {
    Arithmetic.FP64: (1e-9, 1e-10),
    Arithmetic.FP32: (1e-3, 1e-4),
    Arithmetic.FP16: (2e-2, 1e-2),
    Arithmetic.BF16: (6e-2, 4e-2),
    Arithmetic.INT8: (5e-2, 5e-2),
}
_ORDER = tuple(Arithmetic)
_OF_PRECISION: Mapping[Precision, Arithmetic] = {
    Precision.FP32: Arithmetic.FP32,
    Precision.TF32: Arithmetic.FP16,  # TF32 has float16's 10 bits of fraction
    Precision.FP16: Arithmetic.FP16,
    Precision.BF16: Arithmetic.BF16,
}
_OF_DTYPE: Mapping[ir.DataType, Arithmetic] = {
    ir.DataType.FLOAT: Arithmetic.FP32,
    ir.DataType.FLOAT16: Arithmetic.FP16,
    ir.DataType.BFLOAT16: Arithmetic.BF16,
    ir.DataType.FLOAT8E4M3FN: Arithmetic.INT8,
    ir.DataType.FLOAT8E4M3FNUZ: Arithmetic.INT8,
    ir.DataType.FLOAT8E5M2: Arithmetic.INT8,
    ir.DataType.FLOAT8E5M2FNUZ: Arithmetic.INT8,
}
_QUANTIZED = ("Quantize", "QLinear", "ConvInteger", "MatMulInteger", "MatMulNBits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What one output may be off: |got - wanted| <= absolute + relative * |wanted|."""

    absolute: float
    relative: float


def arithmetic(network: Network) -> Arithmetic:
    """The coarsest arithmetic that a network of any floats does; bodies included."""
    found = {Arithmetic.FP64}
    for node in network.model.graph.all_nodes():
        if any(mark in node.op_type for mark in _QUANTIZED):
            return Arithmetic.INT8
        found |= _of_values((*node.inputs, *node.outputs))
    found |= _of_values((*network.inputs, *network.outputs))
    return max(found, key=_ORDER.index)


def coarsest(network: Network, precision: Precision) -> Arithmetic:
    """The coarsest of the network's own arithmetic and what a build made of it."""
    return max(arithmetic(network), _OF_PRECISION[precision], key=_ORDER.index)


def bound(wanted: Array, kind: Arithmetic) -> Bound:
    """The bound for one output whose right value is `wanted`."""
    if wanted.dtype.kind in "fc" or wanted.dtype.name in ("bfloat16",) or wanted.dtype.name.startswith("float8"):
        relative, share = BOUNDS[kind]
        wide = np.abs(wanted.astype(np.complex128 if wanted.dtype.kind == "c" else np.float64))
        largest = float(np.max(wide, where=np.isfinite(wide), initial=0.0))
        return Bound(absolute=share * largest, relative=relative)
    step = kind is Arithmetic.INT8 and wanted.dtype.name in ("int8", "uint8")
    return Bound(absolute=1.0 if step else 0.0, relative=0.0)


def disagreement(got: Mapping[str, Value], wanted: Mapping[str, Value], kind: Arithmetic) -> str:
    """Why results do not agree, naming the first output that is off; empty where they do."""
    for name, value in wanted.items():
        reason = _of_value(got.get(name), value, kind)
        if reason:
            return f"output {name!r}: {reason}"
    return ""


def worst(got: Iterable[Mapping[str, Value]], wanted: Iterable[Mapping[str, Value]]) -> float:
    """The largest |got - wanted| over all outputs, as a share of the largest |wanted| of the same output."""
    errors = [0.0]
    for these, those in zip(got, wanted, strict=True):
        for name, value in those.items():
            other = these.get(name)
            if isinstance(value, np.ndarray) and isinstance(other, np.ndarray) and value.dtype != object:
                errors.append(_relative_to_largest(other, value))
    return max(errors)


def _relative_to_largest(got: Array, wanted: Array) -> float:
    if got.shape != wanted.shape or not wanted.size:
        return 0.0
    kind: Any = np.complex128 if wanted.dtype.kind == "c" else np.float64
    left, right = got.astype(kind), wanted.astype(kind)
    finite = np.isfinite(left) & np.isfinite(right)
    largest = float(np.max(np.abs(right), where=finite, initial=0.0))
    off = float(np.max(np.abs(np.where(finite, left, 0) - np.where(finite, right, 0))))
    return off / largest if largest else off


def _of_values(values: Iterable[ir.Value | None]) -> set[Arithmetic]:
    dtypes = {value.dtype for value in values if value is not None and value.dtype is not None}
    return {_OF_DTYPE[dtype] for dtype in dtypes if dtype in _OF_DTYPE}


def _of_value(got: Value, wanted: Value, kind: Arithmetic) -> str:
    if isinstance(wanted, np.ndarray):
        if not isinstance(got, np.ndarray):
            return f"got {type(got).__name__}, wanted a tensor"
        allowed = bound(wanted, kind)
        return replay.disagreement(got, wanted, allowed.absolute, allowed.relative)
    if wanted is None or got is None or isinstance(got, np.ndarray):
        return "" if got is wanted else "one is empty and the other is not, or one is a sequence"
    if len(got) != len(wanted):
        return f"got a sequence of {len(got)}, wanted {len(wanted)}"
    return next((reason for g, w in zip(got, wanted, strict=True) if (reason := _of_value(g, w, kind))), "")
