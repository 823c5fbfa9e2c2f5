"""Streams, events and graphs, through cupy: in what order the GPU runs things. Seam: seam.Stream, Event, Graph."""

from collections.abc import Callable
from typing import Any

import cupy
from cuda.bindings import driver as cuda

from enginewright_runtime.engine.cuda.cubins import failed
from enginewright_runtime.engine.cuda.seam import CaptureError, DeviceError
from enginewright_runtime.errors import EnginewrightError


class CudaGraph:
    """An instantiated graph. Its first launch brings it to the device: one that is there and was never launched makes
    each launch of all other graphs of the process slower, by 0.12 us on an H200 (docs/performance.md)."""

    def __init__(self, native: Any, stream: Any) -> None:
        self._native = native
        self._streams = {int(stream.ptr): stream}

    def launch(self, stream: int) -> None:
        """Raises DeviceError."""
        known = self._streams.get(stream)
        if known is None:
            known = self._streams[stream] = external(stream)
        try:
            self._native.launch(known)
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise DeviceError(failed("launch a CUDA graph", str(error))) from error


class CudaEvent:
    """An event with a time."""

    def __init__(self) -> None:
        self._native = cupy.cuda.Event()

    def record(self, stream: int) -> None:
        """Put it on a stream."""
        cupy.cuda.runtime.eventRecord(self._native.ptr, stream)

    def done(self) -> bool:
        """Whether the device is past it."""
        return bool(self._native.done)

    def since(self, other: "CudaEvent") -> float:
        """Milliseconds, to half a microsecond."""
        return float(cupy.cuda.get_elapsed_time(other._native, self._native))


class CudaStream:
    """A stream that does not wait for the legacy default stream: one of `idle` if there is any, to which it goes back.
    Each weight that is uploaded asks for one, and making them took seconds of a build (docs/performance.md)."""

    def __init__(self, idle: list[Any]) -> None:
        """Raises DeviceError: also where a kernel that ran before has made the GPU unusable for this process."""
        self._idle = idle
        try:
            self._native = idle.pop()
        except IndexError:
            self._native = self._made()
        self.handle = int(self._native.ptr)

    def synchronize(self) -> None:
        """Wait, without holding Python's lock. Raises DeviceError where a kernel failed."""
        try:
            self._native.synchronize()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise DeviceError(failed("run the steps", str(error))) from error

    def capture(self, work: Callable[[], None]) -> CudaGraph:
        """Raises CaptureError where something in `work` cannot be captured; the stream stays usable."""
        self._native.begin_capture()
        try:
            work()
        except (EnginewrightError, cupy.cuda.runtime.CUDARuntimeError) as error:
            self._abandon()
            raise CaptureError(failed("capture the steps into a CUDA graph", str(error))) from error
        except BaseException:
            self._abandon()
            raise
        try:
            return CudaGraph(self._native.end_capture(), self._native)
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise CaptureError(failed("capture the steps into a CUDA graph", str(error))) from error

    def close(self) -> None:
        """Back to those that nobody uses."""
        native, self._native = self._native, None
        if native is not None:
            self._idle.append(native)

    @staticmethod
    def _made() -> Any:
        try:
            return cupy.cuda.Stream(non_blocking=True)
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise DeviceError(failed("make a stream", str(error))) from error

    def _abandon(self) -> None:
        # Ended whatever comes of it: a stream in capture would refuse all further work.
        code, graph = cuda.cuStreamEndCapture(self.handle)
        if code == cuda.CUresult.CUDA_SUCCESS:
            cuda.cuGraphDestroy(graph)


class _Handle:
    """A stream's handle as cupy takes it: by the protocol that NVIDIA's cuda.core defines."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return (0, self._handle)  # version 0 of the protocol


def external(handle: int) -> Any:
    """cupy's view of a stream that somebody else made, by its handle."""
    return cupy.cuda.Stream.from_external(_Handle(handle))
