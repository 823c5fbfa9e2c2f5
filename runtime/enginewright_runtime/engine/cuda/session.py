"""A device program on its own, for whoever checks and times kernels: run once, compare, capture, time replays.

The builder's tuner makes hundreds of these in one process, on the path that serves. Before the run that is checked
the arena and the outputs are poisoned, so a kernel that leaves something unwritten, or reads what nobody wrote, shows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np

from enginewright_runtime.engine.cuda import memory, validation
from enginewright_runtime.engine.cuda.bound import BoundProgram, Modules, blobs_of
from enginewright_runtime.engine.cuda.memory import Weights
from enginewright_runtime.engine.cuda.program import DeviceProgram
from enginewright_runtime.engine.cuda.seam import Block, Bytes, Driver, Graph
from enginewright_runtime.engine.values import Array, dtype_of
from enginewright_runtime.errors import InputError

FLUSH_BYTES = 256 << 20  # more than any GPU's L2: written before each cold sample
# How often that block is written first, while samples are put on the stream (64 us a time on an H200): at each try of a
# measurement, where the host was too slow for most samples of the one before.
AHEAD = (1, 16, 256)
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
        themselves take about a microsecond. `cold` overwrites the L2 cache before every sample. All samples are put
        on the stream before the first is waited for, behind work that takes the device longer than that takes the host.
        Processors that are busy with something else may still leave the device without work in the middle of one: then
        it is given more to do first, and such a sample counts only where most are so to the last, or where `every` one
        is asked for. Raises CaptureError.
        """
        self._driver.use()
        replay = self._graph(repeats)
        flush = memory.allocate(self._driver, FLUSH_BYTES, "The block that overwrites the L2 cache")
        try:
            for ahead in AHEAD:
                taken = self._samples(replay, samples, flush, ahead, cold=cold)
                steady = [milliseconds for milliseconds, waited in taken if every or not waited]
                if len(steady) * 3 >= samples:
                    return [each / repeats for each in steady]
            return [each / repeats for each, _ in taken]
        finally:
            self._bound.stream.synchronize()
            flush.free()

    def _samples(
        self, replay: Graph, samples: int, flush: Block, ahead: int, *, cold: bool
    ) -> list[tuple[float, bool]]:
        """Milliseconds of each, and whether the device may have waited for the host in it."""
        handle = self._bound.stream.handle
        pairs = [(self._driver.event(), self._driver.event()) for _ in range(samples)]
        before = self._driver.event()
        for _ in range(ahead):  # busy while the samples are put on the stream
            self._driver.fill(flush.address, 0, FLUSH_BYTES, handle)
        replay.launch(handle)
        before.record(handle)
        waited = []
        for start, end in pairs:
            if cold:
                self._driver.fill(flush.address, 0, FLUSH_BYTES, handle)
            start.record(handle)
            replay.launch(handle)
            end.record(handle)
            waited.append(before.done())  # else all of this sample was there before the device could begin it
            before = end
        self._bound.stream.synchronize()
        return [(end.since(start), late) for (start, end), late in zip(pairs, waited, strict=True)]

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
