"""TensorFlow's DataType numbers (tensorflow/core/framework/types.proto), as ONNX's and NumPy's types."""

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import onnx_ir as ir

STRING = 7
BOOL = 10
_REFERENCE = 100  # added for a variable's reference
_NAMES: Mapping[int, str] = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64", 9: "int64",
    10: "bool", 11: "qint8", 12: "quint8", 13: "qint32", 14: "bfloat16", 15: "qint16", 16: "quint16", 17: "uint16",
    18: "complex128", 19: "float16", 20: "resource", 21: "variant", 22: "uint32", 23: "uint64",
}  # fmt: skip
_ONNX: Mapping[str, ir.DataType] = {
    "float32": ir.DataType.FLOAT,
    "float64": ir.DataType.DOUBLE,
    "float16": ir.DataType.FLOAT16,
    "bfloat16": ir.DataType.BFLOAT16,
    "int8": ir.DataType.INT8,
    "int16": ir.DataType.INT16,
    "int32": ir.DataType.INT32,
    "int64": ir.DataType.INT64,
    "uint8": ir.DataType.UINT8,
    "uint16": ir.DataType.UINT16,
    "uint32": ir.DataType.UINT32,
    "uint64": ir.DataType.UINT64,
    "bool": ir.DataType.BOOL,
    "string": ir.DataType.STRING,
    "qint8": ir.DataType.INT8,
    "quint8": ir.DataType.UINT8,
    "qint32": ir.DataType.INT32,
}


def name(number: int) -> str:
    """As TensorFlow writes it: "float32"."""
    return _NAMES.get(number % _REFERENCE, f"type {number}")


def to_onnx(number: int) -> ir.DataType | None:
    """ONNX's type; None where it has none."""
    return _ONNX.get(name(number))


def to_numpy(number: int) -> np.dtype[np.generic] | None:
    """NumPy's type of an element; None for texts and what ONNX has no type for."""
    found = to_onnx(number)
    if found is None or found is ir.DataType.STRING:
        return None
    return np.dtype(ml_dtypes.bfloat16) if found is ir.DataType.BFLOAT16 else found.numpy()
