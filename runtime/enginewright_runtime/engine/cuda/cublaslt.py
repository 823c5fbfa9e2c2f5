"""cuBLASLt at run time: a matrix product with its algorithm chosen becomes something to launch.

The library is called through ctypes: the few functions that a product takes, and no Python package beside NVIDIA's
wheel of the library (nvmath-python has bindings too, but importing them imports all of it). Names and numbers are those
of cublasLt.h and cublas_api.h. A launch only enqueues work on its stream, so it may stand inside a stream capture.
"""

import ctypes
import importlib
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from enginewright_runtime.engine.cuda.program import MatrixLayout, MatrixProduct, Pointer
from enginewright_runtime.errors import PlanError

Address = Callable[[Pointer], int]

DATA_TYPES: Mapping[str, int] = {  # cudaDataType_t
    "float32": 0, "float64": 1, "float16": 2, "int8": 3, "int32": 10, "bfloat16": 14, "float8_e4m3fn": 28,
    "float8_e5m2": 29,
}  # fmt: skip
COMPUTE_TYPES: Mapping[str, int] = {  # cublasComputeType_t
    "COMPUTE_16F": 64, "COMPUTE_32F": 68, "COMPUTE_32F_PEDANTIC": 69, "COMPUTE_32F_FAST_TF32": 77, "COMPUTE_64F": 70,
    "COMPUTE_32I": 72,
}  # fmt: skip
EPILOGUES: Mapping[str, int] = {  # cublasLtEpilogue_t
    "DEFAULT": 1, "RELU": 2, "BIAS": 4, "RELU_BIAS": 6, "GELU": 32, "GELU_BIAS": 36,
}  # fmt: skip
ALGORITHM_BYTES = 64  # sizeof(cublasLtMatmulAlgo_t)
_SCALARS: Mapping[str, Any] = {"float32": ctypes.c_float, "float64": ctypes.c_double, "int32": ctypes.c_int32}

# cublasLtMatmulDescAttributes_t and cublasLtMatrixLayoutAttribute_t
_TRANSPOSE_A, _TRANSPOSE_B, _EPILOGUE, _BIAS_POINTER, _BIAS_TYPE = 3, 4, 7, 8, 26
_BATCH_COUNT, _BATCH_OFFSET = 5, 6
_OP_T = 1  # cublasOperation_t


class CublasLtLibrary:
    """libcublasLt with a handle on the current device."""

    def __init__(self) -> None:
        self.calls = _load()
        handle = ctypes.c_void_p()
        self._handle = handle
        self.check(self.calls.cublasLtCreate(ctypes.byref(handle)), "cublasLtCreate")
        self.close = weakref.finalize(self, self.calls.cublasLtDestroy, handle)
        self.close.atexit = False  # the device's context may be gone by then

    @property
    def handle(self) -> ctypes.c_void_p:
        """The cublasLtHandle_t."""
        return self._handle

    @property
    def version(self) -> str:
        """Of the library, as in 13.1.0."""
        number = int(self.calls.cublasLtGetVersion())
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"

    def check(self, status: int, what: str) -> None:
        """Raise PlanError where a call did not succeed."""
        if status:
            name = self.calls.cublasLtGetStatusName(status).decode()
            raise PlanError(
                f"cuBLASLt {self.version} answered {name} to {what}: build the plan again with this version of "
                "cuBLAS, or install the one that the plan names."
            )

    def prepare(self, record: MatrixProduct, blob: Callable[[str], bytes]) -> "PreparedProduct":
        """The product of a step, ready to launch. Raises PlanError where its description is none."""
        del blob  # a product has no blobs of its own: its algorithm stands in the record
        return PreparedProduct(record, self)


class Described:
    """A product's descriptors (operation, and the layouts of a, b, c, d), for as long as this object lives."""

    def __init__(self, record: MatrixProduct, library: CublasLtLibrary) -> None:
        self._library = library
        calls = library.calls
        self.operation = ctypes.c_void_p()
        made = calls.cublasLtMatmulDescCreate(
            ctypes.byref(self.operation), _known(COMPUTE_TYPES, record.compute), _known(DATA_TYPES, record.scale)
        )
        library.check(made, "cublasLtMatmulDescCreate")
        weakref.finalize(self, calls.cublasLtMatmulDescDestroy, self.operation)
        layouts = (record.a_layout, record.b_layout, record.c_layout, record.d_layout)
        self.a, self.b, self.c, self.d = (self._layout(layout) for layout in layouts)
        self._set(_TRANSPOSE_A, ctypes.c_int32(_OP_T if record.transpose_a else 0))
        self._set(_TRANSPOSE_B, ctypes.c_int32(_OP_T if record.transpose_b else 0))
        self._set(_EPILOGUE, ctypes.c_uint32(_known(EPILOGUES, record.epilogue)))
        if record.bias_dtype:
            self._set(_BIAS_TYPE, ctypes.c_int32(_known(DATA_TYPES, record.bias_dtype)))

    def set_bias(self, address: int) -> None:
        """Where the bias lies: one number a row of d."""
        self._set(_BIAS_POINTER, ctypes.c_void_p(address))

    def _set(self, attribute: int, value: Any) -> None:
        calls, size = self._library.calls, ctypes.sizeof(value)
        status = calls.cublasLtMatmulDescSetAttribute(self.operation, attribute, ctypes.byref(value), size)
        self._library.check(status, f"cublasLtMatmulDescSetAttribute({attribute})")

    def _layout(self, layout: MatrixLayout) -> ctypes.c_void_p:
        calls, made = self._library.calls, ctypes.c_void_p()
        kind = _known(DATA_TYPES, layout.dtype)
        status = calls.cublasLtMatrixLayoutCreate(ctypes.byref(made), kind, layout.rows, layout.columns, layout.leading)
        self._library.check(status, f"a matrix of {layout.rows} x {layout.columns}")
        weakref.finalize(self, calls.cublasLtMatrixLayoutDestroy, made)
        if layout.batch > 1:
            values = (
                (_BATCH_COUNT, ctypes.c_int32(layout.batch)),
                (_BATCH_OFFSET, ctypes.c_int64(layout.batch_stride)),
            )
            for attribute, value in values:
                status = calls.cublasLtMatrixLayoutSetAttribute(
                    made, attribute, ctypes.byref(value), ctypes.sizeof(value)
                )
                self._library.check(status, f"a batch of {layout.batch} matrices")
        return made


class PreparedProduct:
    """One product, described to the library once. Its launches must not overlap in time on the host."""

    def __init__(self, record: MatrixProduct, library: CublasLtLibrary) -> None:
        self._record, self._library = record, library
        self._described = Described(record, library)
        self._algorithm = _algorithm(record.algorithm)
        scalar = _SCALARS[record.scale]
        self._alpha, self._beta = scalar(record.alpha), scalar(record.beta)

    def launch(self, stream: int, address: Address) -> None:
        """Enqueue the product on `stream` (a cudaStream_t); `address` says where its matrices lie."""
        record, described = self._record, self._described
        if record.bias is not None:
            described.set_bias(address(record.bias))
        workspace = None if record.workspace is None else address(record.workspace)
        status = self._library.calls.cublasLtMatmul(
            self._library.handle,
            described.operation,
            ctypes.byref(self._alpha),
            address(record.a),
            described.a,
            address(record.b),
            described.b,
            ctypes.byref(self._beta),
            address(record.c),
            described.c,
            address(record.d),
            described.d,
            self._algorithm,
            workspace,
            record.workspace_bytes,
            stream,
        )
        self._library.check(status, f"a product of {record.d_layout.rows} x {record.d_layout.columns}")


def _algorithm(text: str) -> "ctypes.Array[ctypes.c_char]":
    """The bytes of cublasLtMatmulAlgo_t from their hexadecimal digits."""
    try:
        data = bytes.fromhex(text)
    except ValueError as error:
        raise PlanError(
            f"The algorithm {text[:16]!r}... of a matrix product is not hexadecimal: build the plan again."
        ) from error
    if len(data) != ALGORITHM_BYTES:
        raise PlanError(
            f"The algorithm of a matrix product has {len(data)} bytes where cuBLASLt's have {ALGORITHM_BYTES}: build "
            "the plan again."
        )
    return (ctypes.c_char * ALGORITHM_BYTES).from_buffer_copy(data)


def _known(table: Mapping[str, int], name: str) -> int:
    try:
        return table[name]
    except KeyError as error:
        raise PlanError(
            f"A matrix product of the plan says {name!r} where this runtime knows {', '.join(table)}: install the "
            "runtime of the version that built the plan."
        ) from error


def _load() -> ctypes.CDLL:
    """The library, from NVIDIA's wheel or the system, its functions declared. Raises PlanError where there is none."""
    try:
        pathfinder = importlib.import_module("cuda.pathfinder")
        library = ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path)
    except (ImportError, OSError, RuntimeError) as error:
        raise PlanError(
            "The plan has matrix products of cuBLASLt, and the library libcublasLt (package nvidia-cublas) is not "
            "installed: run pip install 'enginewright[cuda13]' and try again."
        ) from error
    pointer, integer, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
    long = ctypes.c_int64
    signatures: Mapping[str, tuple[Any, ...]] = {
        "cublasLtCreate": (pointer,),
        "cublasLtDestroy": (pointer,),
        "cublasLtMatmulDescCreate": (pointer, integer, integer),
        "cublasLtMatmulDescDestroy": (pointer,),
        "cublasLtMatmulDescSetAttribute": (pointer, integer, pointer, size),
        "cublasLtMatrixLayoutCreate": (pointer, integer, ctypes.c_uint64, ctypes.c_uint64, long),
        "cublasLtMatrixLayoutDestroy": (pointer,),
        "cublasLtMatrixLayoutSetAttribute": (pointer, integer, pointer, size),
        "cublasLtMatmul": (pointer,) * 14 + (size, pointer),
    }
    for name, arguments in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, integer
    library.cublasLtGetStatusName.argtypes, library.cublasLtGetStatusName.restype = (integer,), ctypes.c_char_p
    library.cublasLtGetVersion.argtypes, library.cublasLtGetVersion.restype = (), size
    return library
