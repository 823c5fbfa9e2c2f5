"""A GPU that only writes down what it is asked: memory is a bytearray, kernels are Python functions."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from enginewright_runtime.engine.cuda.program import Kernel, TensorMap
from enginewright_runtime.engine.cuda.seam import Borrowed, Bytes, CaptureError, DeviceError, Launch, Shortage
from enginewright_runtime.errors import PlanError

BASE = 0x10000
ALIGNMENT = 512


@dataclass
class FakeBlock:
    address: int
    bytes: int
    driver: "FakeDriver"

    def free(self) -> None:
        self.driver.log.append(f"free {self.bytes}")
        self.driver.free_memory += self.bytes
        self.driver.held -= 1


@dataclass
class FakeFunction:
    name: str
    parameters: tuple[int, ...]
    body: Callable[["FakeDriver", tuple[bytes, ...]], None]
    driver: "FakeDriver"

    def bind(self, record: Kernel, arguments: tuple[bytes, ...]) -> Launch:
        return self.driver.later(f"launch {self.name}", lambda: self.body(self.driver, arguments))


@dataclass
class FakeModule:
    driver: "FakeDriver"

    def function(self, name: str) -> FakeFunction:
        if name not in self.driver.kernels:
            raise DeviceError(f"The GPU did not find the kernel {name!r}.")
        parameters, body = self.driver.kernels[name]
        return FakeFunction(name=name, parameters=parameters, body=body, driver=self.driver)

    def unload(self) -> None:
        self.driver.log.append("unload")
        self.driver.held -= 1


@dataclass
class FakeGraph:
    works: list[tuple[str, Callable[[], None]]]
    driver: "FakeDriver"

    def launch(self, stream: int) -> None:
        self.driver.log.append(f"graph of {len(self.works)}")
        self.driver.at_launch()
        for _, work in self.works:
            work()


@dataclass
class FakeEvent:
    """Half a millisecond after every other; `driver.late` says of those that are asked whether they are done."""

    driver: "FakeDriver"

    def record(self, stream: int) -> None:
        self.driver.log.append("event")

    def done(self) -> bool:
        return bool(self.driver.late and self.driver.late.pop(0))

    def since(self, other: "FakeEvent") -> float:
        return 0.5


@dataclass
class FakeStream:
    handle: int
    driver: "FakeDriver"

    def synchronize(self) -> None:
        self.driver.log.append("synchronize")
        if self.driver.fails:
            raise DeviceError(self.driver.fails)

    def capture(self, work: Callable[[], None]) -> FakeGraph:
        if self.driver.refuses_capture:
            raise CaptureError("The GPU did not capture the steps into a CUDA graph.")
        self.driver.capturing = []
        try:
            work()
            return FakeGraph(works=self.driver.capturing, driver=self.driver)
        finally:
            self.driver.capturing = None

    def close(self) -> None:
        self.driver.held -= 1


@dataclass
class FakeDriver:
    """`log` tells what happened in order; `held` counts blocks, streams and modules that were not given back."""

    free_memory: int = 1 << 20
    refuses_capture: bool = False
    fails: str = ""
    log: list[str] = field(default_factory=list)
    held: int = 0
    streams: int = 0
    late: list[bool] = field(default_factory=list)
    flag: Bytes | None = None  # of the last hold
    at_launch: Callable[[], object] = lambda: None  # what a graph's launch does besides
    kernels: dict[str, Any] = field(default_factory=dict)
    memory: bytearray = field(default_factory=lambda: bytearray(1 << 22))
    top: int = 0
    capturing: list[tuple[str, Callable[[], None]]] | None = None

    def __post_init__(self) -> None:
        self.kernels |= {"add": ((8, 8, 8, 4), add), "twice": ((8, 8, 4), twice)}

    def later(self, words: str, work: Callable[[], None]) -> Launch:
        def launch(stream: int) -> None:
            if self.capturing is not None:
                self.capturing.append((words, work))
                return
            self.log.append(words)
            work()

        return launch

    def use(self) -> None:
        pass

    def stream(self) -> FakeStream:
        self.streams += 1
        self.held += 1
        return FakeStream(handle=self.streams, driver=self)

    def allocate(self, count: int) -> FakeBlock:
        if count > self.free_memory:
            raise Shortage(self.free_memory, 1 << 20)
        self.free_memory -= count
        self.held += 1
        at, self.top = self.top, self.top - (-max(1, count) // ALIGNMENT) * ALIGNMENT
        return FakeBlock(address=BASE + at, bytes=count, driver=self)

    def pinned(self, count: int) -> Bytes:
        return np.zeros(count, np.uint8)

    def load(self, cubin: bytes) -> FakeModule:
        self.log.append(f"load {cubin.decode()}")
        self.held += 1
        return FakeModule(driver=self)

    def encode(self, tensor_map: TensorMap, address: int) -> bytes:
        return struct.pack("<Q", address) + bytes(120)

    def fill(self, address: int, value: int, count: int, stream: int) -> None:
        at = address - BASE
        self.later(
            f"fill {count} with {value}", lambda: self.memory.__setitem__(slice(at, at + count), bytes([value]) * count)
        )(stream)

    def hold(self, flag: Bytes, stream: int) -> None:
        self.flag = flag
        self.log.append(f"hold until {flag.tolist()} is 1")

    def copy(self, target: int, source: int, count: int, stream: int) -> None:
        a, b = target - BASE, source - BASE
        self.later(f"copy {count}", lambda: self.memory.__setitem__(slice(a, a + count), self.memory[b : b + count]))(
            stream
        )

    def upload(self, target: int, source: Any, stream: int) -> None:
        view, at = memoryview(source).cast("B"), target - BASE
        self.later(f"upload {view.nbytes}", lambda: self.memory.__setitem__(slice(at, at + view.nbytes), bytes(view)))(
            stream
        )

    def download(self, target: Bytes, source: int, stream: int) -> None:
        at = source - BASE
        self.later(
            f"download {target.nbytes}",
            lambda: target.__setitem__(slice(None), np.frombuffer(self.memory, np.uint8)[at : at + target.nbytes]),
        )(stream)

    def borrow(self, value: Any, stream: int) -> Borrowed:
        self.log.append("borrow")
        borrowed: Borrowed = value.borrowed
        return borrowed

    def trim(self) -> None:
        self.log.append("trim")

    def event(self) -> FakeEvent:
        return FakeEvent(driver=self)

    def floats(self, address: int, count: int) -> Any:
        return np.frombuffer(self.memory, np.float32, count, address - BASE)


def add(driver: FakeDriver, arguments: tuple[bytes, ...]) -> None:
    """y = x + w for n floats."""
    (x, w, y), (n,) = (struct.unpack("<Q", each)[0] for each in arguments[:3]), struct.unpack("<i", arguments[3])
    driver.floats(y, n)[:] = driver.floats(x, n) + driver.floats(w, n)


def twice(driver: FakeDriver, arguments: tuple[bytes, ...]) -> None:
    """y = 2 x for n floats."""
    (x, y), (n,) = (struct.unpack("<Q", each)[0] for each in arguments[:2]), struct.unpack("<i", arguments[2])
    driver.floats(y, n)[:] = driver.floats(x, n) * 2


class Kept:
    """Blobs in memory."""

    def __init__(self, blobs: Mapping[str, bytes]) -> None:
        self.blobs = dict(blobs)

    def blob(self, name: str) -> memoryview:
        try:
            return memoryview(self.blobs[name])
        except KeyError as error:
            raise PlanError(f"The plan has no blob {name!r}.") from error


@pytest.fixture
def gpu() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def keep() -> type[Kept]:
    return Kept
