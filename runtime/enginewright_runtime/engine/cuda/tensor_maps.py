"""TMA descriptors: the arguments of cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col. CUDA driver API, 5.27.

Called through ctypes with memory of our own, because the driver wants the descriptor at an address that is a multiple
of 64, and objects of the Python bindings are not.
"""

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

from enginewright_runtime.engine.cuda.program import TensorMap

DESCRIPTOR_BYTES = 128
_ALIGNMENT = 64

# CUtensorMapDataType. TMA only moves bytes and fills with zeroes, so types that it does not know go as integers.
DATA_TYPES: Mapping[str, int] = {
    "bool": 0, "int8": 0, "uint8": 0, "float8_e4m3fn": 0, "float8_e4m3fnuz": 0, "float8_e5m2": 0, "float8_e5m2fnuz": 0,
    "int16": 1, "uint16": 1, "uint32": 2, "int32": 3, "uint64": 4, "int64": 5,
    "float16": 6, "float32": 7, "float64": 8, "bfloat16": 9,
}  # fmt: skip
SWIZZLES: Mapping[int, int] = {0: 0, 32: 1, 64: 2, 128: 3}  # CUtensorMapSwizzle by bytes
PROMOTIONS: Mapping[int, int] = {0: 0, 64: 1, 128: 2, 256: 3}  # CUtensorMapL2promotion by bytes


def encode(library: Any, tensor_map: TensorMap, address: int) -> tuple[int, bytes]:
    """The driver's result code (0 for success) and the descriptor. `library` is libcuda, loaded by ctypes."""
    memory = ctypes.create_string_buffer(DESCRIPTOR_BYTES + _ALIGNMENT)
    start = -(-ctypes.addressof(memory) // _ALIGNMENT) * _ALIGNMENT
    rank = len(tensor_map.dims)
    head = (
        ctypes.c_void_p(start),
        ctypes.c_int(DATA_TYPES[tensor_map.dtype]),
        ctypes.c_uint32(rank),
        ctypes.c_void_p(address),
        _array(ctypes.c_uint64, tensor_map.dims),
        _array(ctypes.c_uint64, tensor_map.strides),
    )
    steps = _array(ctypes.c_uint32, tensor_map.element_strides or (1,) * rank)
    tail = (
        ctypes.c_int(0),  # CU_TENSOR_MAP_INTERLEAVE_NONE
        ctypes.c_int(SWIZZLES[tensor_map.swizzle]),
        ctypes.c_int(PROMOTIONS[tensor_map.l2_promotion]),
        ctypes.c_int(0),  # what lies outside is read as zero
    )
    if tensor_map.im2col is None:
        code = library.cuTensorMapEncodeTiled(*head, _array(ctypes.c_uint32, tensor_map.box), steps, *tail)
    else:
        im2col = tensor_map.im2col
        corners = _array(ctypes.c_int, im2col.lower), _array(ctypes.c_int, im2col.upper)
        extents = ctypes.c_uint32(im2col.channels), ctypes.c_uint32(im2col.pixels)
        code = library.cuTensorMapEncodeIm2col(*head, *corners, *extents, steps, *tail)
    return int(code), ctypes.string_at(start, DESCRIPTOR_BYTES)


def _array(kind: Any, values: Sequence[int]) -> Any:
    return (kind * max(1, len(values)))(*values)
