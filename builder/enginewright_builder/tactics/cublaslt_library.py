"""What building asks of cuBLASLt beyond what running calls: which algorithms it has, and what can be set about them."""

import ctypes
import functools
from collections.abc import Mapping
from typing import Any

from enginewright_runtime.engine.cuda import cublaslt, steps
from enginewright_runtime.engine.cuda.cublaslt import ALGORITHM_BYTES, CublasLtLibrary
from enginewright_runtime.engine.cuda.program import MatrixProduct

_MOST_ALGORITHMS, _MOST_VALUES = 256, 1024
_TILES, _STAGES = 6, 13  # cublasLtMatmulAlgoCapAttributes_t


@functools.cache
def library() -> CublasLtLibrary:
    """The one that also runs what is built here, with the functions that only building calls."""
    found = steps.library("cublaslt")
    assert isinstance(found, CublasLtLibrary), "the runtime's table says so"
    pointer, integer, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
    signatures: Mapping[str, tuple[Any, ...]] = {
        "cublasLtMatmulPreferenceCreate": (pointer,),
        "cublasLtMatmulPreferenceDestroy": (pointer,),
        "cublasLtMatmulPreferenceSetAttribute": (pointer, integer, pointer, size),
        "cublasLtMatmulAlgoGetHeuristic": (*(pointer,) * 7, integer, pointer, pointer),
        "cublasLtMatmulAlgoInit": (pointer, *(integer,) * 7, pointer),
        "cublasLtMatmulAlgoConfigSetAttribute": (pointer, integer, pointer, size),
        "cublasLtMatmulAlgoConfigGetAttribute": (pointer, integer, pointer, size, pointer),
        "cublasLtMatmulAlgoCheck": (pointer,) * 8,
        "cublasLtMatmulAlgoGetIds": (pointer, *(integer,) * 7, pointer, pointer),
        "cublasLtMatmulAlgoCapGetAttribute": (pointer, integer, pointer, size, pointer),
    }
    for name, arguments in signatures.items():
        function = getattr(found.calls, name)
        function.argtypes, function.restype = arguments, integer
    return found


def types(record: MatrixProduct) -> tuple[int, ...]:
    """How it computes, and the types of the scale and the operands, as the library numbers them."""
    layouts = (record.a_layout, record.b_layout, record.c_layout, record.d_layout)
    kinds = (cublaslt.DATA_TYPES[name] for name in (record.scale, *(layout.dtype for layout in layouts)))
    return (cublaslt.COMPUTE_TYPES[record.compute], *kinds)


def numbers(record: MatrixProduct) -> list[int]:
    """Of the algorithms that compute with these types."""
    found, count = (ctypes.c_int * _MOST_ALGORITHMS)(), ctypes.c_int()
    status = library().calls.cublasLtMatmulAlgoGetIds(
        library().handle, *types(record), _MOST_ALGORITHMS, found, ctypes.byref(count)
    )
    library().check(status, "cublasLtMatmulAlgoGetIds")
    return found[: count.value]


def offered(record: MatrixProduct, number: int) -> tuple[list[int], list[int]]:
    """An algorithm's tiles and stages; 0 leaves either to the library, where it has none to choose from."""
    data = (ctypes.c_char * ALGORITHM_BYTES)()
    if library().calls.cublasLtMatmulAlgoInit(library().handle, *types(record), number, data):
        return [], []

    def of(capability: int) -> list[int]:
        values, written = (ctypes.c_uint32 * _MOST_VALUES)(), ctypes.c_size_t()
        status = library().calls.cublasLtMatmulAlgoCapGetAttribute(
            data, capability, values, ctypes.sizeof(values), ctypes.byref(written)
        )
        count = 0 if status else written.value // ctypes.sizeof(ctypes.c_uint32)
        return values[:count] or [0]

    return of(_TILES), of(_STAGES)
