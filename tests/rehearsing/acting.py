"""A rehearsing child without a GPU: a Fill's value says what a candidate does to the process that runs it.

python acting.py FILE_DESCRIPTOR
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from enginewright_builder.rehearsal import child
from enginewright_runtime.engine.cuda.program import DeviceProgram
from enginewright_runtime.engine.cuda.seam import DeviceError
from enginewright_runtime.errors import PlanError

Arrays = Mapping[str, np.ndarray[Any, Any]]


class Act(IntEnum):
    """What a candidate does."""

    FINE = 1
    NAN = 2  # runs, and gives no numbers
    ABORTS = 3
    HANGS = 4
    RAISES = 5
    STICKS = 6  # an error that stays with the process
    SHOUTS = 7  # prints where answers might be taken for it
    CHECKS = 8  # looks at what it was sent


def act_of(program: DeviceProgram) -> Act:
    step = program.steps[0]
    assert step.fill is not None
    return Act(step.fill.value)


class Stage:
    """A bench on which everything happens as the program says. Its state is the process's: an error sticks."""

    def __init__(self) -> None:
        self.stuck = False

    @contextmanager
    def opened(self, program: DeviceProgram, blobs: Mapping[str, bytes]) -> Iterator["_Acting"]:
        yield _Acting(self, program, blobs)


@dataclass
class _Acting:
    stage: Stage
    program: DeviceProgram
    blobs: Mapping[str, bytes]

    def run(self, feed: Arrays) -> Arrays:
        if self.stage.stuck:
            raise DeviceError("The GPU did not run the steps (an error of before).")
        match act_of(self.program):
            case Act.ABORTS:
                os.abort()
            case Act.HANGS:
                time.sleep(1000)
            case Act.RAISES:
                raise PlanError("the graph is refused.")
            case Act.STICKS:
                self.stage.stuck = True
                raise DeviceError("The GPU did not run the steps (an illegal memory access).")
            case Act.SHOUTS:
                os.write(1, b"noise" * 1000)
            case Act.CHECKS:
                said = {name: (str(array.dtype), array.shape, float(array.sum())) for name, array in feed.items()}
                raise PlanError(f"{said} {[(name, len(data)) for name, data in self.blobs.items()]}")
            case _:
                pass
        return {}

    def microseconds(self, repeats: int, *, cold: bool = False) -> float:
        return float(repeats)


if __name__ == "__main__":
    with child.connected(int(sys.argv[1])) as connection:
        child.serve(connection, Stage())
