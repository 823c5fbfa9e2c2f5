"""Cubins and the launches of their kernels, through CUDA's driver API.

Sections "Module Management" and "Execution Control" of its reference. Beside driver.py the only module of ours that
imports cuda.bindings.
"""

import ctypes
from typing import Any

from cuda.bindings import driver as cuda

from enginewright_runtime.engine.cuda.program import Kernel
from enginewright_runtime.engine.cuda.seam import DeviceError, DeviceMemoryError, Launch

PORTABLE_CLUSTER = 8  # blocks that every GPU with clusters takes; more must be asked for (CUDA programming guide)
_ATTRIBUTE = cuda.CUlaunchAttributeID
_FUNCTION = cuda.CUfunction_attribute


class CudaFunction:
    """A kernel, with the sizes of its parameters as the cubin has them."""

    def __init__(self, module: Any, name: str) -> None:
        self.name = name
        self.native = check(cuda.cuModuleGetFunction(module, name.encode()), f"find the kernel {name!r} in its cubin")
        self.parameters = _parameters(self.native)

    def bind(self, record: Kernel, arguments: tuple[bytes, ...]) -> Launch:
        """Raises DeviceError."""
        _prepare(self, record)
        config = _config(record)
        buffers = [ctypes.create_string_buffer(each, len(each)) for each in arguments]
        pointers = (ctypes.c_void_p * max(1, len(buffers)))(*(ctypes.addressof(each) for each in buffers))
        at, native, what = ctypes.addressof(pointers), self.native, f"launch the kernel {self.name!r}"
        kept = (buffers, pointers)  # alive as long as the launch, which only has their addresses

        def launch(stream: int, _kept: object = kept) -> None:
            config.hStream = stream
            check(cuda.cuLaunchKernelEx(config, native, at, 0), what)

        return launch


class CudaModule:
    """A loaded cubin; its functions are looked up once each."""

    def __init__(self, cubin: bytes) -> None:
        self._native = check(cuda.cuModuleLoadData(cubin), "load a cubin")
        self._functions: dict[str, CudaFunction] = {}

    def function(self, name: str) -> CudaFunction:
        """Raises DeviceError where the cubin has no such kernel."""
        if name not in self._functions:
            self._functions[name] = CudaFunction(self._native, name)
        return self._functions[name]

    def unload(self) -> None:
        """Give the code's memory back."""
        check(cuda.cuModuleUnload(self._native), "unload a cubin")


def check(result: tuple[Any, ...], what: str) -> Any:
    """The value of a driver call, without its result code. Raises DeviceError saying what was asked."""
    code, *values = result
    if code != cuda.CUresult.CUDA_SUCCESS:
        _, text = cuda.cuGetErrorString(code)
        reason = text.decode() if isinstance(text, bytes) else str(code)
        kind = DeviceMemoryError if code == cuda.CUresult.CUDA_ERROR_OUT_OF_MEMORY else DeviceError
        raise kind(failed(what, f"{cuda.CUresult(code).name}: {reason}"))
    return values[0] if values else None


def failed(what: str, reason: str) -> str:
    return (
        f"The GPU did not {what} ({reason.rstrip('. ')}): see the driver's log, and build the plan again for this GPU."
    )


def _prepare(function: CudaFunction, record: Kernel) -> None:
    if record.shared_bytes:
        limit = _FUNCTION.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        result = cuda.cuFuncSetAttribute(function.native, limit, record.shared_bytes)
        check(result, f"give the kernel {function.name!r} {record.shared_bytes} bytes of shared memory")
    if record.dependent:  # neighbours that overlap must want the same split of L1 and shared memory, else one waits
        split = _FUNCTION.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT
        check(cuda.cuFuncSetAttribute(function.native, split, 100), f"keep shared memory for {function.name!r}")
    if record.cluster and record.cluster[0] * record.cluster[1] * record.cluster[2] > PORTABLE_CLUSTER:
        wide = _FUNCTION.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
        check(
            cuda.cuFuncSetAttribute(function.native, wide, 1), f"allow {function.name!r} clusters of {record.cluster}"
        )


def _config(record: Kernel) -> Any:
    config = cuda.CUlaunchConfig()
    config.gridDimX, config.gridDimY, config.gridDimZ = record.grid
    config.blockDimX, config.blockDimY, config.blockDimZ = record.block
    config.sharedMemBytes = record.shared_bytes
    attributes = []
    if record.cluster:
        cluster = cuda.CUlaunchAttribute()
        cluster.id = _ATTRIBUTE.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
        extents = cluster.value.clusterDim
        extents.x, extents.y, extents.z = record.cluster
        attributes.append(cluster)
    if record.dependent:
        dependent = cuda.CUlaunchAttribute()
        dependent.id = _ATTRIBUTE.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
        dependent.value.programmaticStreamSerializationAllowed = 1
        attributes.append(dependent)
    config.attrs = attributes
    config.numAttrs = len(attributes)
    return config


def _parameters(function: Any) -> tuple[int, ...]:
    sizes: list[int] = []
    while True:
        code, _, size = cuda.cuFuncGetParamInfo(function, len(sizes))
        if code != cuda.CUresult.CUDA_SUCCESS:
            return tuple(sizes)  # the driver says CUDA_ERROR_INVALID_VALUE behind the last
        sizes.append(int(size))
