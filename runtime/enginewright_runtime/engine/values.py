"""Tensors as NumPy arrays, dtypes by name, and tensors as bytes: the one place that knows how they match.

A Value is what flows between segments: an array, a list of arrays (an ONNX sequence), or None (an empty optional).
Text is an object array of str. bfloat16 and the 8-bit floats are NumPy dtypes of ml_dtypes.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from enginewright_runtime.errors import PlanError

Array = np.ndarray[Any, Any]
Value = Array | Sequence[Any] | None

STRING = "string"
TEXT = np.dtype(object)
_NUMPY = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
)
# NumPy has no names for these; what they are is written in onnx.proto under TensorProto.DataType.
SMALL_FLOATS = ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")

DTYPES: Mapping[str, np.dtype[Any]] = {
    **{name: np.dtype(name) for name in _NUMPY},
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in SMALL_FLOATS},
    STRING: TEXT,
}
_LENGTH = struct.Struct("<I")


def dtype_of(name: str) -> np.dtype[Any]:
    """The NumPy dtype that a plan's name for it stands for. Raises PlanError for a name that is none."""
    try:
        return DTYPES[name]
    except KeyError as error:
        raise PlanError(f"The dtype {name!r} is none that an engine takes; there are {', '.join(DTYPES)}.") from error


def name_of(dtype: np.dtype[Any]) -> str:
    """The plan's name of a dtype; NumPy's own where a plan has none (it then fits no binding)."""
    return STRING if dtype.kind in "OUS" else dtype.name


def to_bytes(array: Array) -> bytes:
    """C order, little endian; text as its length in four bytes and then UTF-8, element after element."""
    if array.dtype.kind in "OUS":
        texts = [item if isinstance(item, bytes) else str(item).encode() for item in array.reshape(-1)]
        return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def from_bytes(data: bytes | memoryview, dtype: str, shape: Sequence[int]) -> Array:
    """What `to_bytes` wrote, over the same memory where the dtype allows it (then read-only).

    Raises ValueError where the bytes are not those of such a tensor; nothing is allocated by what `shape` claims.
    """
    size = math.prod(shape)
    if any(dimension < 0 for dimension in shape):
        raise ValueError(f"the shape {list(shape)} has a negative dimension")
    if dtype == STRING:
        return _texts(memoryview(data), size).reshape(shape)
    wanted, got = size * dtype_of(dtype).itemsize, memoryview(data).nbytes
    if got != wanted:
        raise ValueError(f"{dtype} {list(shape)} takes {wanted} bytes, got {got}")
    return np.frombuffer(data, dtype_of(dtype)).reshape(shape)


def _texts(data: memoryview, count: int) -> Array:
    texts: list[str] = []
    at = 0
    while at < len(data):
        if len(data) - at < _LENGTH.size or len(data) - at - _LENGTH.size < _LENGTH.unpack_from(data, at)[0]:
            raise ValueError(f"element {len(texts)} runs past the end of the {len(data)} bytes")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        try:
            texts.append(str(data[at : at + length], "utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"element {len(texts)} is not UTF-8") from error
        at += length
    if len(texts) != count:
        raise ValueError(f"the shape has {count} elements and the bytes hold {len(texts)}")
    array = np.empty(count, TEXT)
    array[:] = texts
    return array
