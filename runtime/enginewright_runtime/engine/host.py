"""Runs a segment on the CPU through ONNX Runtime. The only module, beside available.py, that imports it.

The segment's blob is an ONNX model. Its large initializers lie in blobs of their own and are handed over from the
plan's mapping without a copy, so that schedules share them and pages that are never read cost nothing.
"""

import ctypes
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from enginewright_runtime.engine.executor import Blobs, ExecutionError, Limits
from enginewright_runtime.engine.host_options import read_weights, session_settings
from enginewright_runtime.engine.values import DTYPES, SMALL_FLOATS, Array, Value, from_bytes, name_of
from enginewright_runtime.errors import InputError, PlanError
from enginewright_runtime.plan.manifest import Segment

# onnx.proto, TensorProto.DataType: what ONNX Runtime must be told where NumPy's dtype cannot say it.
ELEMENT_TYPES: Mapping[str, int] = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "uint32": 12,
    "uint64": 13,
    "complex64": 14,
    "complex128": 15,
    "bfloat16": 16,
    "float8_e4m3fn": 17,
    "float8_e4m3fnuz": 18,
    "float8_e5m2": 19,
    "float8_e5m2fnuz": 20,
}
# ONNX Runtime's own names of the dtypes that its Python interface cannot take or give as NumPy's.
RAW_TYPES: Mapping[str, str] = {f"tensor({name.replace('_', '')})": name for name in SMALL_FLOATS}

FAILURES = (
    native.EPFail,
    native.EngineError,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.NoModel,
    native.NoSuchFile,
    native.NotImplemented,
    native.RuntimeException,
    RuntimeError,  # what pybind11 makes of a C++ exception that has no class of its own
)
SILENT = 4  # ONNX Runtime's severity "fatal": what goes wrong is raised, and so needs no line in the log


class HostExecutor:
    """One InferenceSession, made from a segment's blob and options. Safe to run from several threads."""

    def __init__(self, segment: Segment, blobs: Blobs, limits: Limits) -> None:
        """Load the segment. Raises PlanError for options or a model that this runtime does not take."""
        self._what = f"the host segment {segment.blob!r}"
        self._weights = _weights(segment, blobs, self._what)  # not copied: they must outlive the session
        options = _session_options(segment.options, limits, self._what)
        values = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, ELEMENT_TYPES[name_of(array.dtype)])
            for name, array in self._weights.items()
        }
        options.add_external_initializers(list(values), list(values.values()))
        try:
            self._session = onnxruntime.InferenceSession(
                bytes(blobs.blob(segment.blob)), options, providers=["CPUExecutionProvider"]
            )
        except FAILURES as error:
            raise PlanError(
                f"ONNX Runtime {onnxruntime.__version__} does not take {self._what}: {_reason(error)}; "
                "build the plan again with this version."
            ) from error
        self._outputs = list(segment.outputs)
        # The session's own run without the Python around it, which checks names once more: 1.5 us of a 20 us network.
        self._run = self._session._sess.run
        self._check_names(segment)
        types = {value.name: value.type for value in self._session.get_outputs()}
        self._raw_inputs = {v.name for v in self._session.get_inputs() if v.type in RAW_TYPES}
        self._raw_outputs = any(types[name] in RAW_TYPES for name in self._outputs)
        self._raw = bool(self._raw_inputs or self._raw_outputs)

    def run(self, tensors: Mapping[str, Value]) -> dict[str, Value]:
        """Outputs by name. Raises InputError where the values are such that a layer refuses them."""
        outputs = self._outputs
        try:
            if self._raw:
                return self._run_raw(tensors)
            return dict(zip(outputs, self._run(outputs, tensors, None)))  # noqa: B905 (hot; as many as were asked for)
        except native.InvalidArgument as error:
            raise InputError(f"The inputs have values that the model refuses: {_reason(error)}.") from error
        except FAILURES as error:
            raise ExecutionError(f"ONNX Runtime failed in {self._what}: {_reason(error)}.") from error

    def close(self) -> None:
        """Does nothing: session and weights go with the last reference, so runs in progress end well."""

    def _run_raw(self, tensors: Mapping[str, Value]) -> dict[str, Value]:
        feed = {name: self._wrapped(name, value) for name, value in tensors.items()}
        if not self._raw_outputs:
            return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))
        every = {n: v if isinstance(v, onnxruntime.OrtValue) else _plain(v) for n, v in feed.items()}
        results = self._session.run_with_ort_values(self._outputs, every)
        return {name: _unwrapped(result) for name, result in zip(self._outputs, results, strict=True)}

    def _wrapped(self, name: str, value: Value) -> Any:
        if name not in self._raw_inputs or not isinstance(value, np.ndarray):
            return value
        array = np.ascontiguousarray(value).reshape(value.shape)
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, ELEMENT_TYPES[array.dtype.name])

    def _check_names(self, segment: Segment) -> None:
        inputs = {value.name for value in self._session.get_inputs()}
        outputs = {value.name for value in self._session.get_outputs()}
        if inputs != set(segment.inputs) or not set(segment.outputs) <= outputs:
            raise PlanError(
                f"The manifest gives {self._what} the inputs {sorted(segment.inputs)} and outputs "
                f"{sorted(segment.outputs)}, and its model has {sorted(inputs)} and {sorted(outputs)}: build it again."
            )


def _session_options(options: Mapping[str, Any], limits: Limits, what: str) -> Any:
    settings = session_settings(options, limits, what)
    session = onnxruntime.SessionOptions()
    session.log_severity_level = SILENT
    session.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, settings.optimization)
    session.execution_mode = (
        onnxruntime.ExecutionMode.ORT_PARALLEL if settings.parallel else onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    )
    session.intra_op_num_threads = settings.intra_op_threads
    session.inter_op_num_threads = settings.inter_op_threads
    session.enable_mem_pattern = settings.mem_pattern
    session.enable_cpu_mem_arena = settings.arena
    for key, value in settings.entries.items():
        session.add_session_config_entry(key, value)
    return session


def _weights(segment: Segment, blobs: Blobs, what: str) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for name, weight in read_weights(segment.options, what).items():
        if weight.dtype not in ELEMENT_TYPES:
            raise PlanError(
                f"The weight {name!r} of {what} has the dtype {weight.dtype!r}, which only a model can hold."
            )
        try:
            arrays[name] = from_bytes(blobs.blob(weight.blob), weight.dtype, weight.shape)
        except ValueError as error:
            raise PlanError(f"The weight {name!r} of {what} does not fit its blob {weight.blob!r}: {error}.") from error
    return arrays


def _plain(value: Value) -> Any:
    if not isinstance(value, np.ndarray):
        raise ExecutionError(
            "A host segment with bfloat16 or 8-bit float outputs takes tensors only, and it was given a sequence or an "
            "empty optional: build the plan with float32 outputs."
        )
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value).reshape(value.shape))


def _unwrapped(result: Any) -> Value:
    name = RAW_TYPES.get(result.data_type())
    if name is None:
        return result.numpy()  # type: ignore[no-any-return]
    # ONNX Runtime gives these as integers or not at all, so their bytes are copied from where it put them.
    size = result.tensor_size_in_bytes()
    data = ctypes.string_at(result.data_ptr(), size) if size else b""
    return np.frombuffer(bytearray(data), DTYPES[name]).reshape(result.shape())


def _reason(error: BaseException) -> str:
    """ONNX Runtime's message as the end of a sentence, without its codes and source paths."""
    text = str(error).split(" : ", 2)[-1]
    text = re.sub(r"\S*/onnxruntime/\S+\s*", "", text)
    return " ".join(text.split()).rstrip(". ") or type(error).__name__
