"""Device memory of engines: weights once an engine, whatever the number of its schedules and contexts.

What does not fit is said in one sentence with the bytes wanted, free and missing.
"""

import threading
import weakref
from collections.abc import Callable

from enginewright_runtime.engine.cuda.seam import Block, DeviceMemoryError, Driver, Shortage
from enginewright_runtime.engine.executor import Blobs


def allocate(driver: Driver, count: int, what: str) -> Block:
    """`count` bytes for `what`. Raises DeviceMemoryError with what is missing and what to change."""
    try:
        return driver.allocate(count)
    except Shortage as short:
        raise DeviceMemoryError(
            f"{what} needs {count} bytes of GPU memory, and {short.free} of {short.total} are free, so "
            f"{max(0, count - short.free)} are missing: give the engine a GPU with more memory or one to itself, "
            "or build the plan with a smaller batch or fewer shapes."
        ) from short


class Weights:
    """The blobs of one plan that lie on the device, each uploaded by the first who asks and freed by the last."""

    def __init__(self, driver: Driver, blob: Callable[[str], memoryview | bytes]) -> None:
        self._driver = driver
        self._blob = blob
        self._held: dict[str, tuple[Block, int]] = {}
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """On the device now."""
        with self._lock:
            return sum(block.bytes for block, _ in self._held.values())

    def acquire(self, name: str) -> int:
        """The address of a blob on the device. Every call needs its `release`."""
        with self._lock:
            block, users = self._held.get(name) or (self._upload(name), 0)
            self._held[name] = (block, users + 1)
            return block.address

    def release(self, name: str) -> None:
        """Give a blob back; nothing that is still running may use it."""
        with self._lock:
            block, users = self._held.pop(name)
            if users > 1:
                self._held[name] = (block, users - 1)
            else:
                block.free()

    def _upload(self, name: str) -> Block:
        data = self._blob(name)
        count = memoryview(data).nbytes
        block = allocate(self._driver, count, f"The weights {name!r}")
        if count:
            stream = self._driver.stream()
            self._driver.upload(block.address, data, stream.handle)
            stream.synchronize()
            stream.close()
        return block


# By the object that holds a plan's blobs, so that all executors of one engine find the same weights and no others.
_SHARED: "weakref.WeakKeyDictionary[Blobs, Weights]" = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def weights_of(blobs: Blobs, driver: Driver) -> Weights:
    """The weights of a plan, shared by all who ask with the same `blobs`."""
    with _LOCK:
        if blobs not in _SHARED:
            reference = weakref.ref(blobs)  # a strong one in the value would keep the key alive for ever

            def blob(name: str) -> memoryview:
                held = reference()
                assert held is not None, "executors hold the plan's blobs as long as they load"
                return held.blob(name)

            _SHARED[blobs] = Weights(driver, blob)
        return _SHARED[blobs]
