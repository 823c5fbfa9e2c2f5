"""What the executor asks of a GPU: the seam behind which driver.py stands, and in tests a fake that records.

Nothing here knows cupy or CUDA's bindings. Streams are plain handles (integers), device memory is an address, host
memory that the device may copy from or to is a NumPy array of bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from enginewright_runtime.engine.cuda.program import Kernel, TensorMap
from enginewright_runtime.errors import EnginewrightError
from enginewright_runtime.plan.outcome import Outcome

Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]
Launch = Callable[[int], None]
"""Puts one step on the stream with this handle and returns at once."""


class DeviceError(EnginewrightError):
    """The GPU or its driver refused what was asked of it, or a kernel failed while it ran."""


class DeviceMemoryError(DeviceError):
    """The GPU has too little free memory for what was asked."""

    outcome = Outcome.OUT_OF_MEMORY


class CaptureError(DeviceError):
    """A step refuses to be captured into a CUDA graph; run eagerly, it may still work."""


class Shortage(Exception):
    """Raised by `Driver.allocate`: `free` and `total` are the device's bytes. memory.py makes a sentence of it."""

    def __init__(self, free: int, total: int) -> None:
        super().__init__(f"{free} of {total} bytes are free")
        self.free = free
        self.total = total


class Block(Protocol):
    """Device memory, aligned to 512 bytes."""

    address: int
    bytes: int

    def free(self) -> None:
        """Give it back. Whoever calls has made sure that no launch uses it any more."""


class Function(Protocol):
    """A kernel of a loaded cubin. `parameters` are its parameters' sizes in bytes."""

    name: str
    parameters: tuple[int, ...]

    def bind(self, record: Kernel, arguments: tuple[bytes, ...]) -> Launch:
        """A launch with these parameters. Raises DeviceError where its shared memory cannot be had."""


class Module(Protocol):
    """A loaded cubin."""

    def function(self, name: str) -> Function:
        """Raises DeviceError where the cubin has no such kernel."""

    def unload(self) -> None:
        """Give it back, as a block is."""


class Graph(Protocol):
    """A captured and instantiated CUDA graph."""

    def launch(self, stream: int) -> None:
        """One launch of all that was captured; returns at once."""


class Event(Protocol):
    """A moment on the device."""

    def record(self, stream: int) -> None:
        """It is when the stream gets here."""

    def done(self) -> bool:
        """Whether it has been, as far as the host can know now."""

    def since(self, other: Self) -> float:
        """Milliseconds from another moment to this one, when both have been."""


class Stream(Protocol):
    """A queue of work on the device."""

    handle: int

    def synchronize(self) -> None:
        """Wait for all that was put on it. Raises DeviceError where a kernel failed."""

    def capture(self, work: Callable[[], None]) -> Graph:
        """The graph of what `work` puts on this stream. Raises CaptureError."""

    def close(self) -> None:
        """Give it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a GPU has for kernels: `capability` 90 for 9.0, multiprocessors, L2 cache, and the shared memory that a
    block may ask for, in bytes."""

    capability: int
    multiprocessors: int
    l2_bytes: int
    shared_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Borrowed:
    """Somebody else's array on the device; `keeper` keeps its memory alive."""

    address: int
    dtype: str
    shape: tuple[int, ...]
    contiguous: bool
    keeper: object


class Driver(Protocol):
    """One GPU."""

    def use(self) -> None:
        """Make it current in the calling thread: every thread must, before it puts anything on a stream but a graph."""

    def stream(self) -> Stream:
        """A new stream, which does not wait for the default stream."""

    def allocate(self, count: int) -> Block:
        """Device memory of `count` bytes (at least 1). Raises Shortage."""

    def pinned(self, count: int) -> Bytes:
        """Page-locked host memory."""

    def load(self, cubin: bytes) -> Module:
        """Raises DeviceError where the cubin is not for this device or is damaged."""

    def encode(self, tensor_map: TensorMap, address: int) -> bytes:
        """The 128 bytes of a TMA descriptor for memory at `address`. Raises DeviceError."""

    def fill(self, address: int, value: int, count: int, stream: int) -> None:
        """`count` bytes become `value`, in the stream's order."""

    def hold(self, flag: Bytes, stream: int) -> None:
        """What comes behind on the stream waits until the first of these four bytes, page-locked, is 1 (others 0)."""

    def copy(self, target: int, source: int, count: int, stream: int) -> None:
        """Device to device, in the stream's order."""

    def upload(self, target: int, source: Any, stream: int) -> None:
        """Host to device, in the stream's order; `source` is any contiguous buffer. Pageable memory is read at once."""

    def download(self, target: Bytes, source: int, stream: int) -> None:
        """Device to host, in the stream's order; `target` is pinned, or the copy may wait."""

    def borrow(self, value: Any, stream: int) -> Borrowed:
        """An array of another library, without a copy; `stream` waits for what its maker still has running."""

    def trim(self) -> None:
        """Give free memory that is kept for later back to the device."""

    def event(self) -> Event:
        """A new one."""
