"""A device program bound to memory: its own stream, arena and input and output blocks, its steps as launches.

What serves (executor.py) and what the builder checks and times (session.py) are both made of it, so a kernel is timed
on the very path that serves.
"""

from collections.abc import Callable
from contextlib import ExitStack

from enginewright_runtime.engine.cuda import memory, steps
from enginewright_runtime.engine.cuda.memory import Weights
from enginewright_runtime.engine.cuda.program import DeviceProgram, Pointer, Space
from enginewright_runtime.engine.cuda.seam import Block, Driver, Graph, Launch, Module


class Modules:
    """The loaded cubins of one owner, each loaded once."""

    def __init__(self, driver: Driver, blob: Callable[[str], bytes]) -> None:
        self._driver, self._blob = driver, blob
        self._loaded: dict[str, Module] = {}

    def get(self, name: str) -> Module:
        """Raises DeviceError where the cubin is not for this GPU."""
        if name not in self._loaded:
            self._loaded[name] = self._driver.load(self._blob(name))
        return self._loaded[name]

    def close(self) -> None:
        """Unload all; no launch may use them any more."""
        for module in self._loaded.values():
            module.unload()
        self._loaded.clear()


class BoundProgram:
    """One context of a program. Not safe for use by several threads at once: its owner holds a lock."""

    def __init__(
        self,
        program: DeviceProgram,
        *,
        driver: Driver,
        weights: Weights,
        modules: Modules,
        blob: Callable[[str], bytes],
        what: str,
    ) -> None:
        """Allocate and bind. The program must have been checked. Raises DeviceMemoryError, DeviceError, PlanError."""
        self.program, self.driver = program, driver
        driver.use()
        with ExitStack() as undo:
            self.stream = driver.stream()
            undo.callback(self.stream.close)
            self._addresses: dict[tuple[Space, str], int] = {}
            for name in blobs_of(program):
                self._addresses[Space.BLOB, name] = weights.acquire(name)
                undo.callback(weights.release, name)
            self.arena = _block(driver, program.arena_bytes, f"The arena of {what}", undo)
            self._addresses[Space.ARENA, ""] = self.arena.address
            self.inputs = _blocks(self._addresses, Space.INPUT, program, driver, what, undo)
            self.outputs = _blocks(self._addresses, Space.OUTPUT, program, driver, what, undo)
            self._launches: tuple[Launch, ...] = tuple(
                steps.bind(step, driver=driver, module=modules.get, blob=blob, address=self.address)
                for step in program.steps
            )
            self._release = undo.pop_all()

    def address(self, pointer: Pointer) -> int:
        """Where a pointer of the program points. Raises KeyError for one that the check did not see."""
        name = "" if pointer.space is Space.ARENA else pointer.name
        return self._addresses[pointer.space, name] + pointer.offset

    def clear_inputs(self) -> None:
        """Zero every input: a warm-up on whatever lies there could gather from anywhere."""
        for block in self.inputs.values():
            if block.bytes:
                self.driver.fill(block.address, 0, block.bytes, self.stream.handle)

    def poison(self) -> None:
        """Every byte of the arena and the outputs becomes 0xFF, NaN in all floats: what is unwritten shows.

        No program may count on what an earlier run left in its arena; what must be zero is filled by a step.
        """
        for block in (self.arena, *self.outputs.values()):
            if block.bytes:
                self.driver.fill(block.address, 0xFF, block.bytes, self.stream.handle)

    def warm_up(self) -> None:
        """Run once on zeroes and wait: libraries load code when they are first called, which no capture allows."""
        self.clear_inputs()
        self.enqueue()
        self.stream.synchronize()

    def enqueue(self, stream: int | None = None) -> None:
        """Put all steps on the stream (by default its own), one after the other."""
        handle = self.stream.handle if stream is None else stream
        for launch in self._launches:
            launch(handle)

    def capture(self, before: Callable[[], None] = lambda: None, after: Callable[[], None] = lambda: None) -> Graph:
        """One graph of the steps, and of what is to come before and after them. Raises CaptureError."""

        def work() -> None:
            before()
            self.enqueue()
            after()

        return self.stream.capture(work)

    def close(self) -> None:
        """Wait for what is running and free all."""
        try:
            self.stream.synchronize()
        finally:
            self._launches = ()
            self._release.close()


def blobs_of(program: DeviceProgram) -> list[str]:
    """The blobs that a program's steps point to, by name."""
    from enginewright_runtime.engine.cuda.validation import pointers

    found = {p.name: None for step in program.steps for p in pointers(step) if p.space is Space.BLOB}
    return list(found)


def _block(driver: Driver, count: int, what: str, undo: ExitStack) -> Block:
    block = memory.allocate(driver, count, what)
    undo.callback(block.free)
    return block


def _blocks(
    addresses: dict[tuple[Space, str], int],
    space: Space,
    program: DeviceProgram,
    driver: Driver,
    what: str,
    undo: ExitStack,
) -> dict[str, Block]:
    blocks = {}
    for tensor in program.inputs if space is Space.INPUT else program.outputs:
        block = _block(driver, tensor.bytes, f"The {space} {tensor.name!r} of {what}", undo)
        blocks[tensor.name] = block
        addresses[space, tensor.name] = block.address
    return blocks
