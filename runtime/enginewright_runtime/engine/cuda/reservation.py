"""A context of a device segment for one caller alone, whose inputs and outputs lie on the device and are never copied.

with engine.reserve() as own:
    torch.from_dlpack(own.inputs["image"]).copy_(image)
    own.run(torch.cuda.current_stream().cuda_stream)
    scores = torch.from_dlpack(own.outputs["scores"])
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from enginewright_runtime.engine.cuda.arrays import DeviceArray
from enginewright_runtime.engine.cuda.bound import BoundProgram
from enginewright_runtime.engine.cuda.program import Space
from enginewright_runtime.engine.cuda.seam import CaptureError, Graph


class Reservation:
    """A bound program whose blocks the caller writes and reads. For one thread at a time."""

    inputs: Mapping[str, DeviceArray]
    outputs: Mapping[str, DeviceArray]

    def __init__(self, bound: BoundProgram) -> None:
        """Warm up and capture. Takes the bound program over."""
        bound.warm_up()
        self._bound = bound
        self.inputs = exported(bound, Space.INPUT, owner=self)
        self.outputs = exported(bound, Space.OUTPUT, owner=self)
        self._graph: Graph | None
        try:
            self._graph = bound.capture()
        except CaptureError:
            self._graph = None  # launched one by one

    def run(self, stream: int | None = None) -> None:
        """From `inputs` to `outputs`, put on `stream` (a cudaStream_t) without waiting.

        Where no stream is given the inputs must have been written already, and it returns when the outputs are.
        Raises DeviceError.
        """
        handle = self._bound.stream.handle if stream is None else stream
        self._bound.driver.use()
        if self._graph is None:
            self._bound.enqueue(handle)
        else:
            self._graph.launch(handle)
        if stream is None:
            self._bound.stream.synchronize()

    def close(self) -> None:
        """Free all. What was put on a stream of the caller's must have ended."""
        self._bound.driver.use()
        self._graph = None
        self._bound.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def exported(bound: BoundProgram, space: Space, *, owner: object) -> dict[str, DeviceArray]:
    """The inputs or outputs as arrays that other libraries read and write in place."""
    tensors, blocks = (
        (bound.program.inputs, bound.inputs) if space is Space.INPUT else (bound.program.outputs, bound.outputs)
    )
    return {
        tensor.name: DeviceArray(
            address=blocks[tensor.name].address,
            dtype=tensor.dtype,
            shape=tensor.shape,
            stream=bound.stream.handle,
            owner=owner,
        )
        for tensor in tensors
    }
