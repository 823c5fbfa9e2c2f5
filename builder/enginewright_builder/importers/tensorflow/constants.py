"""TensorProto to an array. Every size is compared with the bytes that are there before anything is made."""

import math
from typing import Any

import numpy as np

from enginewright_builder.importers.tensorflow import dtypes
from enginewright_runtime.errors import ModelError, UnsupportedError

Array = np.ndarray[Any, np.dtype[Any]]

LARGEST = 1 << 31  # elements of a constant
_LARGEST_SPREAD = 1 << 24  # elements that one repeated value may be spread over: 64 MiB of float32
_MOST_AXES = 32  # what NumPy holds; the product of ever more sizes would take ever longer
_FIELDS = {
    "float32": "float_val", "float64": "double_val", "int64": "int64_val", "bool": "bool_val", "uint32": "uint32_val",
    "uint64": "uint64_val", "float16": "half_val", "bfloat16": "half_val", "string": "string_val",
}  # fmt: skip


def to_array(tensor: Any, what: str) -> Array:
    """The array of a TensorProto; texts as an object array of bytes. Raises ModelError, UnsupportedError; `what` says
    whose it is."""
    shape = tuple(dimension.size for dimension in tensor.tensor_shape.dim)
    kind = dtypes.name(tensor.dtype)
    absurd = len(shape) > _MOST_AXES or any(size < 0 for size in shape) or math.prod(shape) > LARGEST
    if tensor.tensor_shape.unknown_rank or absurd:
        raise ModelError(
            f"{what} is damaged: its shape {list(shape[:_MOST_AXES])} is none of a constant; export the model again."
        )
    if kind == "string":
        return _spread(np.array(list(tensor.string_val), dtype=object), shape, what)
    dtype = dtypes.to_numpy(tensor.dtype)
    if dtype is None:
        raise UnsupportedError(f"{what} is of type {kind}, which ONNX has no tensors of: cast it before export.")
    if tensor.tensor_content:
        wanted = math.prod(shape) * dtype.itemsize
        if len(tensor.tensor_content) != wanted:
            raise ModelError(
                f"{what} is damaged: it has {len(tensor.tensor_content)} bytes, and its shape {list(shape)} of {kind} "
                f"takes {wanted}; export or fetch the model again."
            )
        return np.frombuffer(tensor.tensor_content, dtype=dtype.newbyteorder("<")).astype(dtype).reshape(shape)
    given = getattr(tensor, _FIELDS.get(kind, "int_val"))
    if kind in ("float16", "bfloat16"):  # their bits
        return _spread(np.array(given, dtype=np.uint16).view(dtype), shape, what)
    return _spread(np.array(given).astype(dtype), shape, what)


def _spread(values: Array, shape: tuple[int, ...], what: str) -> Array:
    """A list that is shorter than the tensor is continued with its last value; an empty one means zeroes."""
    count = math.prod(shape)
    if len(values) == count:
        return values.reshape(shape)
    if len(values) > count:
        raise ModelError(f"{what} is damaged: it has {len(values)} values for {count} elements; export it again.")
    if count > _LARGEST_SPREAD:
        raise UnsupportedError(
            f"{what} spreads {len(values)} values over {count} elements: wanted {_LARGEST_SPREAD} at most."
        )
    if len(values) == 0:
        return np.full(shape, b"" if values.dtype == object else 0, dtype=values.dtype)
    whole = np.full(count, values[-1], dtype=values.dtype)
    whole[: len(values)] = values
    return whole.reshape(shape)
