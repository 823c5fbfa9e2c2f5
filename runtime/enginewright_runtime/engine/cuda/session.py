"""A device program on its own, for whoever checks and times kernels: run once, compare, capture, time replays.

The builder's tuner makes hundreds of these in one process, on the path that serves. Before the run that is checked
the arena and the outputs are poisoned, so a kernel that leaves something unwritten, or reads what nobody wrote, shows.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Self

import numpy as np

from enginewright_runtime.engine.cuda import memory, validation
from enginewright_runtime.engine.cuda.bound import BoundProgram, Modules, blobs_of
from enginewright_runtime.engine.cuda.memory import Weights
from enginewright_runtime.engine.cuda.program import DeviceProgram
from enginewright_runtime.engine.cuda.seam import Block, Bytes, Driver, Event, Graph
from enginewright_runtime.engine.values import Array, dtype_of
from enginewright_runtime.errors import InputError

FLUSH_BYTES = 256 << 20  # more than any GPU's L2: written before each cold sample
TRIES = 3  # of a measurement, where the host was too slow for most samples
HELD_SECONDS = 0.25  # that the device waits for the host at most: a queue that were full would wait for the device
KEPT_BYTES = 1 << 30  # of weights that wait on the device for the next session


class Loaded:
    """Weights and cubins that sessions which come one after the other find on the device, each brought there once."""

    def __init__(self, driver: Driver, blob: Callable[[str], bytes]) -> None:
        self.weights, self.modules = Weights(driver, blob), Modules(driver, blob)
        self._kept: set[str] = set()

    def keep(self, names: Iterable[str]) -> None:
        """Have these weights, which a session holds, stay when it closes; the others need not if there are too many."""
        wanted = set(names)
        if self.weights.bytes > KEPT_BYTES:
            self._release(self._kept - wanted)
        for name in wanted - self._kept:
            self.weights.acquire(name)
            self._kept.add(name)

    def close(self) -> None:
        """Free all; no session may use it any more."""
        self._release(set(self._kept))
        self.modules.close()

    def _release(self, names: Iterable[str]) -> None:
        for name in names:
            self._kept.discard(name)
            self.weights.release(name)


class Session:
    """A bound program. Use it in a `with`, or close it; `driver` is the process's GPU unless a test gives another, and
    `loaded` what other sessions have brought to that GPU."""

    def __init__(
        self,
        program: DeviceProgram,
        blobs: Mapping[str, bytes],
        *,
        driver: Driver | None = None,
        loaded: Loaded | None = None,
        what: str = "the program",
    ) -> None:
        """Check, allocate and bind. Raises PlanError, DeviceError, DeviceMemoryError."""
        if driver is None:
            from enginewright_runtime.engine.cuda.driver import gpu

            driver = gpu()
        validation.check(program, what=what, blob_bytes={name: len(data) for name, data in blobs.items()}.get)
        self._driver = driver
        self._own = Loaded(driver, blobs.__getitem__) if loaded is None else None
        on_device = loaded or self._own
        assert on_device is not None
        try:
            self._bound = BoundProgram(
                program,
                driver=driver,
                weights=on_device.weights,
                modules=on_device.modules,
                blob=blobs.__getitem__,
                what=what,
            )
        except BaseException:
            self._give_back()
            raise
        if loaded is not None:
            loaded.keep(blobs_of(program))
        self.program = program
        self._graphs: dict[int, Graph] = {}
        self._flag = driver.pinned(4)

    def set_inputs(self, inputs: Mapping[str, Array]) -> None:
        """Copy each input to the device: dtype and shape as the program says. Raises InputError."""
        self._driver.use()
        for tensor in self.program.inputs:
            given = inputs[tensor.name]
            if given.dtype != dtype_of(tensor.dtype) or given.shape != tensor.shape:
                raise InputError(
                    f"The input {tensor.name!r} must be {tensor.dtype} {list(tensor.shape)}, got {given.dtype.name} "
                    f"{list(given.shape)}."
                )
            if tensor.bytes:
                data = np.ascontiguousarray(given).reshape(-1).view(np.uint8)
                self._driver.upload(self._bound.inputs[tensor.name].address, data, self._bound.stream.handle)
        self._bound.stream.synchronize()

    def run(self, inputs: Mapping[str, Array] | None = None, *, graph: bool = False) -> dict[str, Array]:
        """Poison, run once (eagerly, or as a graph) and return the outputs. Raises DeviceError where a kernel fails."""
        if inputs is not None:
            self.set_inputs(inputs)
        self._driver.use()
        replay = self._graph(1) if graph else None
        self._bound.poison()
        if replay is None:
            self._bound.enqueue()
        else:
            replay.launch(self._bound.stream.handle)
        return self.outputs()

    def outputs(self) -> dict[str, Array]:
        """What lies in the outputs now, after all that was launched."""
        found: dict[str, Array] = {}
        for tensor in self.program.outputs:
            data: Bytes = np.empty(tensor.bytes, np.uint8)
            if tensor.bytes:
                self._driver.download(data, self._bound.outputs[tensor.name].address, self._bound.stream.handle)
            found[tensor.name] = data.view(dtype_of(tensor.dtype)).reshape(tensor.shape)
        self._bound.stream.synchronize()
        return found

    def time(self, samples: int = 20, *, repeats: int = 1, cold: bool = False, every: bool = False) -> Sequence[float]:
        """Milliseconds of one pass over the steps, at most `samples` times, as graph replays between two events.

        `repeats` passes stand in one graph and their time is divided by it: short kernels need it, since the events
        themselves take about a microsecond. `cold` overwrites the L2 cache before every sample. The device waits until
        all samples are on the stream: processors that are busy with something else would leave it without work in the
        middle of one. Where it may have been so nonetheless a sample counts only if most are such, after some tries.
        With `every` nothing waits, and every sample counts. Raises CaptureError.
        """
        self._driver.use()
        replay = self._graph(repeats)
        flush = memory.allocate(self._driver, FLUSH_BYTES, "The block that overwrites the L2 cache")
        try:
            for _ in range(TRIES):
                with nullcontext() if every else self._held():
                    taken = self._put(replay, samples, flush, cold=cold)
                self._bound.stream.synchronize()
                steady = [end.since(start) for start, end, waited in taken if every or not waited]
                if len(steady) * 3 >= samples:
                    return [each / repeats for each in steady]
            return [end.since(start) / repeats for start, end, _ in taken]
        finally:
            self._bound.stream.synchronize()
            flush.free()

    def _put(self, replay: Graph, samples: int, flush: Block, *, cold: bool) -> list[tuple[Event, Event, bool]]:
        """Samples on the stream: their begins and ends, and whether the device may have waited for the host in each."""
        handle = self._bound.stream.handle
        pairs = [(self._driver.event(), self._driver.event()) for _ in range(samples)]
        before = self._driver.event()
        self._driver.fill(flush.address, 0, FLUSH_BYTES, handle)  # busy while the samples are put on the stream
        replay.launch(handle)
        before.record(handle)
        taken = []
        for start, end in pairs:
            if cold:
                self._driver.fill(flush.address, 0, FLUSH_BYTES, handle)
            start.record(handle)
            replay.launch(handle)
            end.record(handle)
            taken.append((start, end, before.done()))  # else all of it was there before the device could begin it
            before = end
        return taken

    @contextmanager
    def _held(self) -> Iterator[None]:
        """What the block puts on the stream begins when it ends, or after HELD_SECONDS."""

        def go() -> None:
            self._flag[0] = 1

        self._flag[0] = 0
        limit = threading.Timer(HELD_SECONDS, go)
        limit.start()
        try:
            self._driver.hold(self._flag, self._bound.stream.handle)
            yield
        finally:
            limit.cancel()
            go()

    def close(self) -> None:
        """Free all."""
        self._driver.use()
        self._graphs.clear()
        try:
            self._bound.close()
        finally:
            self._give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _give_back(self) -> None:
        if self._own is not None:
            self._own.close()

    def _graph(self, repeats: int) -> Graph:
        if repeats not in self._graphs:

            def again() -> None:
                for _ in range(repeats - 1):
                    self._bound.enqueue()

            self._graphs[repeats] = self._bound.capture(after=again)
        return self._graphs[repeats]
