"""Runs a device segment: its program captured once into a CUDA graph, then one graph launch an inference.

An executor has one or more lanes: contexts with a stream, an arena and input and output blocks of their own. A run
takes a free lane and waits where all are busy, so an engine may be called from any number of threads. Host arrays go
through page-locked memory, whose copies to and from the device are part of the graph.
"""

import queue
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache

from enginewright_runtime.engine.cuda import validation
from enginewright_runtime.engine.cuda.arrays import DeviceArray, Foreign, foreign
from enginewright_runtime.engine.cuda.bound import BoundProgram, Modules
from enginewright_runtime.engine.cuda.memory import weights_of
from enginewright_runtime.engine.cuda.program import DeviceProgram, Space, Tensor
from enginewright_runtime.engine.cuda.reservation import Reservation, exported
from enginewright_runtime.engine.cuda.seam import Borrowed, Bytes, CaptureError, Driver, Graph
from enginewright_runtime.engine.executor import Blobs, Limits
from enginewright_runtime.engine.values import Array, Value, dtype_of
from enginewright_runtime.errors import PlanError, UsageError
from enginewright_runtime.plan import records
from enginewright_runtime.plan.manifest import Segment


def read_program(segment: Segment, blobs: Blobs) -> DeviceProgram:
    """The program in a segment's blob, checked. Raises PlanError naming what does not hold together."""
    what = f"the device segment {segment.blob!r}"
    text = bytes(blobs.blob(segment.blob))
    program = records.from_json(DeviceProgram, records.parse(text, what=what), what=what)

    @cache  # a plan file hashes a blob whenever it is asked for it, and every pointer asks
    def size(name: str) -> int | None:
        try:
            return blobs.blob(name).nbytes
        except PlanError:
            return None

    validation.check(program, what=what, blob_bytes=size)
    validation.check_segment(program, segment)
    return program


class Lane:
    """One context: what is needed for one inference at a time."""

    def __init__(self, bound: BoundProgram, driver: Driver) -> None:
        """Warm up and capture. Raises DeviceError where a kernel fails on zeroes."""
        self._bound, self._driver = bound, driver
        self.note = ""
        self._borrowed: list[Borrowed] = []
        self._pending = False
        program = bound.program
        self._staged = {tensor.name: driver.pinned(tensor.bytes) for tensor in program.inputs}
        self._fetched = {tensor.name: driver.pinned(tensor.bytes) for tensor in program.outputs}
        self._into = {t.name: _typed(self._staged[t.name], t) for t in program.inputs}
        self._from = {t.name: _typed(self._fetched[t.name], t) for t in program.outputs}
        bound.warm_up()
        self._steps: Graph | None = None
        self._whole: Graph | None = None
        try:
            self._whole = bound.capture(before=self._send, after=self._fetch)
            self._steps = bound.capture()
        except CaptureError as error:
            self._whole = self._steps = None
            self.note = f"The steps are launched one by one: {error}"

    def run(self, tensors: Mapping[str, Value]) -> dict[str, Value]:
        """Host arrays in and out, one graph launch. Arrays on the device are copied there instead."""
        devices = self._stage(tensors)
        if self._whole is not None and not devices:
            self._whole.launch(self._bound.stream.handle)
        else:
            self._enqueue(devices)
            self._fetch()
        self._bound.stream.synchronize()
        self._let_go()
        return {name: view.copy() for name, view in self._from.items()}

    def run_device(self, tensors: Mapping[str, Value]) -> dict[str, DeviceArray]:
        """Outputs where they are, valid until the lane's next run; nothing is waited for."""
        self._enqueue(self._stage(tensors))
        return exported(self._bound, Space.OUTPUT, owner=self)

    def _stage(self, tensors: Mapping[str, Value]) -> dict[str, Foreign]:
        """Host arrays into page-locked memory; those on the device are returned."""
        devices = {name: found for name, value in tensors.items() if (found := foreign(value)) is not None}
        if self._pending:
            self._bound.stream.synchronize()  # a run that nobody waited for may still read what is now written
            self._let_go()
        for name, value in tensors.items():
            if name not in devices:
                self._into[name][...] = value
        return devices

    def _let_go(self) -> None:
        self._pending = False
        self._borrowed.clear()

    def _enqueue(self, devices: Mapping[str, Foreign]) -> None:
        """Inputs and steps, without the one graph that takes all inputs from the host."""
        handle = self._bound.stream.handle
        self._driver.use()
        self._pending = True
        for tensor in self._bound.program.inputs:
            if not tensor.bytes:
                continue
            address = self._bound.inputs[tensor.name].address
            if tensor.name in devices:
                self._borrowed.append(devices[tensor.name].copy_to(address, tensor, self._driver, handle))
            else:
                self._driver.upload(address, self._staged[tensor.name], handle)
        if self._steps is None:
            self._bound.enqueue()
        else:
            self._steps.launch(handle)

    def _send(self) -> None:
        for name, staged in self._staged.items():
            if staged.nbytes:
                self._driver.upload(self._bound.inputs[name].address, staged, self._bound.stream.handle)

    def _fetch(self) -> None:
        for name, fetched in self._fetched.items():
            if fetched.nbytes:
                self._driver.download(fetched, self._bound.outputs[name].address, self._bound.stream.handle)


class CudaExecutor:
    """One device segment of one schedule on the process's GPU. Safe to run from several threads."""

    def __init__(self, segment: Segment, blobs: Blobs, limits: Limits, *, driver: Driver | None = None) -> None:
        """Load the segment. Raises PlanError, DeviceError, DeviceMemoryError."""
        if driver is None:
            from enginewright_runtime.engine.cuda.driver import gpu

            driver = gpu()
        program = read_program(segment, blobs)
        self._driver = driver

        def blob(name: str) -> bytes:
            return bytes(blobs.blob(name))

        with ExitStack() as undo:
            modules = Modules(driver, blob)
            undo.callback(modules.close)

            def bind() -> BoundProgram:
                return BoundProgram(
                    program,
                    driver=driver,
                    weights=weights_of(blobs, driver),
                    modules=modules,
                    blob=blob,
                    what=f"the device segment {segment.blob!r}",
                )

            self._bind = bind
            self._lanes: queue.Queue[Lane | None] = queue.Queue()
            self._all: list[Lane] = []
            for _ in range(limits.contexts):
                bound = bind()
                undo.callback(bound.close)
                lane = Lane(bound, driver)
                self._all.append(lane)
                self._lanes.put(lane)
            self._release = undo.pop_all()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person may want to know: why steps are not replayed as a graph."""
        return tuple(sorted({lane.note for lane in self._all if lane.note}))

    def run(self, tensors: Mapping[str, Value]) -> dict[str, Value]:
        """Outputs by name as NumPy arrays; inputs are NumPy arrays or arrays on the device."""
        with self._free_lane() as lane:
            return lane.run(tensors)

    def run_device(self, tensors: Mapping[str, Value]) -> dict[str, DeviceArray]:
        """Outputs on the device, valid until the next run of the same context; nothing is waited for.

        With one context (the default) that is the executor's next run.
        """
        with self._free_lane() as lane:
            return lane.run_device(tensors)

    def reserve(self) -> Reservation:
        """A context more, for one caller alone. Close it before the executor. Raises DeviceMemoryError."""
        bound = self._bind()
        try:
            return Reservation(bound)
        except BaseException:
            bound.close()
            raise

    def close(self) -> None:
        """Wait for the runs in progress, then free all."""
        for _ in self._all:
            self._lanes.get()
        self._lanes.put(None)  # whoever waits for a lane now learns that there will be none
        self._driver.use()
        self._release.close()
        self._all.clear()
        self._driver.trim()

    @contextmanager
    def _free_lane(self) -> Iterator[Lane]:
        lane = self._lanes.get()
        try:
            if lane is None:
                raise UsageError("The engine was closed before this run could begin: load the plan again.")
            yield lane
        finally:
            self._lanes.put(lane)


def _typed(data: Bytes, tensor: Tensor) -> Array:
    return data.view(dtype_of(tensor.dtype)).reshape(tensor.shape)
