"""Whether a bench still runs anything at all: an error of a kernel may stick to its process for good."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from enginewright_runtime.engine.cuda.program import DeviceProgram, Fill, Pointer, Space, Step
from enginewright_runtime.engine.cuda.seam import DeviceError, DeviceMemoryError

_FILL = Step(layer="probe", fill=Fill(pointer=Pointer(space=Space.ARENA), bytes=4, value=0))
PROGRAM = DeviceProgram(inputs=(), outputs=(), arena_bytes=4, steps=(_FILL,))


class Probed(Protocol):
    """As much of a device.trial.Bench as is needed, whose module takes seconds to import."""

    def opened(self, program: DeviceProgram, blobs: Mapping[str, bytes]) -> AbstractContextManager[Any]:
        """The program, ready to run."""


def run(bench: Probed) -> None:
    """Touch the GPU. Raises DeviceError where it cannot be used."""
    with bench.opened(PROGRAM, {}) as running:
        running.run({})


def stuck(bench: Probed, failure: Exception) -> bool:
    """Whether after this failure of a candidate nothing else will run in this process either."""
    if not isinstance(failure, DeviceError) or isinstance(failure, DeviceMemoryError):
        return False
    try:
        run(bench)
    except DeviceError:
        return True
    return False
