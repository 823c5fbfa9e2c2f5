"""One tensor of the Open Inference Protocol: its datatype, its shape, its data as JSON or as binary.

Numbers are read as what they are: text never becomes a number, a fraction never an integer, and what does not fit its
datatype is refused, because NumPy would round, wrap or parse it without a word.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from enginewright_runtime.engine.values import DTYPES, TEXT, Array, from_bytes
from enginewright_runtime.errors import InputError

# The protocol's datatypes by the plan's dtypes (specification, "Tensor Data Types").
DATATYPES: Mapping[str, str] = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
}
DTYPE_NAMES: Mapping[str, str] = {datatype: name for name, datatype in DATATYPES.items()}
BINARY_ONLY = ("FP16", "BF16")  # the specification gives them no JSON form
_OF_DTYPE = {DTYPES[name]: datatype for name, datatype in DATATYPES.items()}
HIGHEST_RANK = 32


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's word for a dtype."""
    return _OF_DTYPE.get(dtype, dtype.name)


def from_binary(tensor: Mapping[str, Any], name: str, data: memoryview) -> Array:
    """A tensor over the request's own bytes (copied only if they are not aligned). Raises InputError."""
    datatype, shape = _datatype(tensor, name), _shape(tensor, name)
    if "data" in tensor:
        raise InputError(f"The input {name!r} has both 'data' and a binary_data_size: send one of them.")
    try:
        array = from_bytes(data, DTYPE_NAMES[datatype], shape)
    except ValueError as error:
        raise InputError(
            f"The binary data of the input {name!r} does not fit its datatype and shape: {error}."
        ) from error
    # Kernels may use instructions that need whole elements at whole addresses; the JSON before it has any length.
    return array if array.flags.aligned else array.copy()


def from_json(tensor: Mapping[str, Any], name: str) -> Array:
    """A tensor from nested or flat JSON lists. Raises InputError."""
    datatype, shape = _datatype(tensor, name), _shape(tensor, name)
    if datatype in BINARY_ONLY:
        raise InputError(f"The input {name!r} is {datatype}, which has no JSON form: send it as binary data.")
    data = tensor.get("data")
    if not isinstance(data, list):
        raise InputError(f"The input {name!r} has neither a list 'data' nor a binary_data_size.")
    array = _text(data, name) if datatype == "BYTES" else _numbers(data, name, datatype)
    if array.size != math.prod(shape):
        raise InputError(
            f"The input {name!r} has the shape {list(shape)}, which is {math.prod(shape)} elements, got {array.size}."
        )
    if array.ndim > 1 and array.shape != shape:
        raise InputError(f"The input {name!r} has the shape {list(shape)}, and its nested data {list(array.shape)}.")
    return array.reshape(shape)


def to_json(array: Array, name: str) -> list[Any]:
    """The elements in row order. Raises InputError for what JSON cannot hold."""
    if datatype_of(array.dtype) in BINARY_ONLY:
        raise InputError(
            f"The output {name!r} is {datatype_of(array.dtype)}, which has no JSON form: ask for it as binary data."
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(
            f"The output {name!r} has values that are not finite, which JSON cannot hold: ask for binary data."
        )
    flat: list[Any] = array.reshape(-1).tolist()
    return flat


def _datatype(tensor: Mapping[str, Any], name: str) -> str:
    datatype = tensor.get("datatype")
    if not isinstance(datatype, str) or datatype not in DTYPE_NAMES:
        raise InputError(
            f"The input {name!r} must have a datatype, one of {', '.join(DTYPE_NAMES)}, got {datatype!r:.40}."
        )
    return datatype


def _shape(tensor: Mapping[str, Any], name: str) -> tuple[int, ...]:
    shape = tensor.get("shape")
    whole = isinstance(shape, list) and all(isinstance(d, int) and not isinstance(d, bool) and d >= 0 for d in shape)
    if not isinstance(shape, list) or not whole or len(shape) > HIGHEST_RANK:
        raise InputError(
            f"The input {name!r} must have a shape, at most {HIGHEST_RANK} numbers of 0 or more, got {shape!r:.60}."
        )
    return tuple(shape)


def _numbers(data: list[Any], name: str, datatype: str) -> Array:
    wanted = DTYPES[DTYPE_NAMES[datatype]]
    try:
        array = np.array(data) if data else np.empty(0, wanted)
    except (ValueError, OverflowError) as error:
        raise InputError(f"The data of the input {name!r} is not a regular list of {datatype}.") from error
    if wanted.kind in "iu" and array.dtype.kind in "fO":
        # NumPy makes floats of integers that share no 64-bit dtype ([0, 2**63]), so these stay Python's own.
        exact = np.array(data, TEXT)
        array = exact if all(type(each) is int for each in exact.flat) else array
        kinds = "iuO" if array is exact else "iu"
    else:
        kinds = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[wanted.kind]
    if array.dtype != wanted and array.dtype.kind not in kinds:
        raise InputError(
            f"The data of the input {name!r} must be {datatype} throughout, and is not (text, null, or mixed)."
        )
    if wanted.kind in "iu" and array.size:
        low, high = int(array.min()), int(array.max())
        limits = np.iinfo(wanted)
        if low < limits.min or high > limits.max:
            raise InputError(
                f"The data of the input {name!r} has {low if low < limits.min else high}, too much for {datatype}."
            )
    with np.errstate(over="ignore"):
        read = array.astype(wanted, copy=False)
    if wanted.kind == "f" and not np.isfinite(read).all():
        raise InputError(f"The data of the input {name!r} has numbers that are too large for {datatype}.")
    return read


def _text(data: list[Any], name: str) -> Array:
    flat: list[str] = []
    pending = list(reversed(data))
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(reversed(item))
        elif isinstance(item, str):
            flat.append(item)
        else:
            raise InputError(f"The data of the input {name!r} must be text (BYTES), got {item!r:.40}.")
    array = np.empty(len(flat), TEXT)
    array[:] = flat
    return array
