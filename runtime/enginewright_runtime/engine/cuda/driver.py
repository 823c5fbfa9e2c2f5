"""The GPU: memory through cupy, copies through CUDA's driver API. Only this module and streams.py import cupy.

It holds no policy: what is allocated, launched and captured is decided by its callers.
"""

import ctypes
import platform
from collections.abc import Mapping
from functools import cache
from typing import Any

import cupy
import numpy as np
from cuda.bindings import driver as cuda

from enginewright_runtime.engine.cuda import tensor_maps
from enginewright_runtime.engine.cuda.arrays import DeviceArray
from enginewright_runtime.engine.cuda.cubins import CudaModule, check, failed
from enginewright_runtime.engine.cuda.program import TensorMap
from enginewright_runtime.engine.cuda.seam import (
    Borrowed,
    Bytes,
    DeviceError,
    DeviceMemoryError,
    Resources,
    Shortage,
)
from enginewright_runtime.engine.cuda.streams import CudaEvent, CudaStream, external
from enginewright_runtime.engine.values import dtype_of
from enginewright_runtime.errors import InputError
from enginewright_runtime.plan.target import Target, TargetKind, product_of


@cache
def gpu() -> "CudaDriver":
    """The GPU of this process: the first that CUDA_VISIBLE_DEVICES leaves. Raises DeviceError where there is none."""
    return CudaDriver()


class CudaBlock:
    """Device memory of the pool, which keeps what is freed: its block costs microseconds, cudaMalloc's up to 1 ms."""

    def __init__(self, memory: Any, count: int) -> None:
        self._memory = memory
        self.address = int(memory.ptr)
        self.bytes = count

    def free(self) -> None:
        """Back to the pool."""
        self._memory = None


class CudaDriver:
    """The current process's GPU; see seam.Driver."""

    def __init__(self) -> None:
        try:
            self._device = cupy.cuda.Device(0)
            self.use()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise DeviceError(f"No NVIDIA GPU can be used here ({error}): check nvidia-smi and the driver.") from error
        self._pool = cupy.cuda.MemoryPool()
        self._library = ctypes.CDLL("libcuda.so.1")
        self._idle: list[Any] = []  # streams

    def use(self) -> None:
        """Make the GPU's context current in the calling thread, which the driver API asks of every thread."""
        self._device.use()

    def stream(self) -> CudaStream:
        """A new stream."""
        self.use()
        return CudaStream(self._idle)

    def allocate(self, count: int) -> CudaBlock:
        """Raises Shortage."""
        try:
            return CudaBlock(self._pool.malloc(max(1, count)), count)
        except cupy.cuda.memory.OutOfMemoryError as error:
            free, total = cupy.cuda.runtime.memGetInfo()
            raise Shortage(free + self._pool.free_bytes(), total) from error
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise DeviceError(failed(f"allocate {count} bytes", str(error))) from error

    def pinned(self, count: int) -> Bytes:
        """Page-locked memory from cupy's pool; it goes back with the last view of it."""
        try:
            return np.frombuffer(cupy.cuda.alloc_pinned_memory(max(1, count)), np.uint8, count)
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise DeviceMemoryError(
                f"The machine has no {count} bytes of page-locked memory for an input or output ({error}): give the "
                "process more memory."
            ) from error

    def load(self, cubin: bytes) -> CudaModule:
        """Raises DeviceError."""
        self.use()
        return CudaModule(cubin)

    def encode(self, tensor_map: TensorMap, address: int) -> bytes:
        """Raises DeviceError."""
        code, descriptor = tensor_maps.encode(self._library, tensor_map, address)
        if code:
            check((cuda.CUresult(code),), f"encode the tensor map {tensor_map}")
        return descriptor

    def fill(self, address: int, value: int, count: int, stream: int) -> None:
        """Raises DeviceError."""
        check(cuda.cuMemsetD8Async(address, value, count, stream), "fill device memory")

    def hold(self, flag: Bytes, stream: int) -> None:
        """Nothing waits where the GPU cannot (cuStreamWaitValue32). Raises DeviceError."""
        equal = cuda.CUstreamWaitValue_flags.CU_STREAM_WAIT_VALUE_EQ
        (code,) = cuda.cuStreamWaitValue32(stream, flag.ctypes.data, 1, equal)  # where the host has it the GPU has it
        if code != cuda.CUresult.CUDA_ERROR_NOT_SUPPORTED:
            check((code,), "hold a stream")

    def copy(self, target: int, source: int, count: int, stream: int) -> None:
        """Raises DeviceError."""
        check(cuda.cuMemcpyDtoDAsync(target, source, count, stream), "copy on the device")

    def upload(self, target: int, source: Any, stream: int) -> None:
        """Raises DeviceError."""
        view = np.frombuffer(source, np.uint8)
        check(cuda.cuMemcpyHtoDAsync(target, view.ctypes.data, view.nbytes, stream), "copy to the device")

    def download(self, target: Bytes, source: int, stream: int) -> None:
        """Raises DeviceError."""
        check(cuda.cuMemcpyDtoHAsync(target.ctypes.data, source, target.nbytes, stream), "copy from the device")

    def borrow(self, value: Any, stream: int) -> Borrowed:
        """Raises InputError where the array is of a dtype that the exchange does not know."""
        try:
            with external(stream):
                array = cupy.from_dlpack(value) if hasattr(value, "__dlpack__") else cupy.asarray(value)
        except (BufferError, TypeError, ValueError) as error:
            raise InputError(f"The array on the device cannot be read ({error}): give it as a NumPy array.") from error
        return Borrowed(
            address=int(array.data.ptr),
            dtype=array.dtype.name,
            shape=tuple(array.shape),
            contiguous=bool(array.flags.c_contiguous),
            keeper=array,
        )

    def capsule(self, array: DeviceArray, stream: int | None, options: Mapping[str, Any]) -> Any:
        """The DLPack capsule of one of our arrays. Raises InputError for a dtype that the exchange does not know."""
        count = int(np.prod(array.shape, dtype=np.int64)) * dtype_of(array.dtype).itemsize
        memory = cupy.cuda.UnownedMemory(array.address, count, array.owner)
        view = cupy.ndarray(array.shape, dtype_of(array.dtype), cupy.cuda.MemoryPointer(memory, 0))
        with external(array.stream):
            return view.__dlpack__(stream=stream, **options)

    def free_bytes(self) -> int:
        """Device memory that nobody has."""
        free, _ = cupy.cuda.runtime.memGetInfo()
        return int(free)

    def describe(self) -> Target:
        """The GPU as a target, without libraries and driver, which are not the GPU's own."""
        found = cupy.cuda.runtime.getDeviceProperties(0)
        product, profile = product_of(found["name"].decode())
        return Target(
            kind=TargetKind.CUDA,
            architecture=platform.machine(),
            product=product,
            mig_profile=profile,
            compute_capability=f"{found['major']}.{found['minor']}",
            memory=int(found["totalGlobalMem"]),
        )

    def resources(self) -> Resources:
        """What kernels are chosen by."""
        found = cupy.cuda.runtime.getDeviceProperties(0)
        return Resources(
            capability=10 * found["major"] + found["minor"],
            multiprocessors=int(found["multiProcessorCount"]),
            l2_bytes=int(found["l2CacheSize"]),
            shared_bytes=int(found["sharedMemPerBlockOptin"]),
        )

    def bus(self) -> str:
        """The GPU's PCI bus address, by which the management library knows it."""
        return str(self._device.pci_bus_id)

    def cuda_version(self) -> str:
        """The newest CUDA that the driver speaks, as in 13.0."""
        number = int(cupy.cuda.runtime.driverGetVersion())
        return f"{number // 1000}.{number % 1000 // 10}"

    def trim(self) -> None:
        """Free blocks of the pool back to the device."""
        self._pool.free_all_blocks()

    def event(self) -> CudaEvent:
        """A new one."""
        return CudaEvent()
