"""Weights that are asked for before their layer runs: which launch has whose brought into the L2 cache. Pure.

A network's weights seldom stay in the L2 from one inference to the next (of ResNet-50's 47 MB most do not), and a layer
at a small batch is too short to wait for device memory. So a kernel that can (Implementation.fetches_later) asks for
the weights of the launch DISTANCE after it, each of its blocks for a share. What is asked for is constant, so a wrong
guess costs time only.
"""

import math
import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space, Step
from enginewright_runtime.engine.cuda.validation import pointers

DISTANCE = 3  # launches: with 1 to 6 ResNet-50 at batch 1 was as fast, within 0.5 %
MOST_BYTES = 8 << 20  # of one launch's weights: more would drive out what is needed sooner
_UNIT = 256  # bytes of which a share is a multiple; the instruction wants multiples of 16


def nothing(pointer: Pointer) -> tuple[Argument, Argument]:
    """A kernel's two arguments before its last, where its launch stands alone. `pointer` has to point somewhere."""
    return _arguments(pointer, 0, 0)


def with_later(steps: Sequence[Step], able: Collection[int], blob_bytes: Callable[[str], int]) -> tuple[Step, ...]:
    """The steps of a program, those whose numbers are in `able` with a stretch of later weights to ask for."""
    return tuple(
        _fetching(step, steps[number + DISTANCE], blob_bytes)
        if number in able and number + DISTANCE < len(steps)
        else step
        for number, step in enumerate(steps)
    )


def _fetching(step: Step, later: Step, blob_bytes: Callable[[str], int]) -> Step:
    kernel = step.kernel
    assert kernel is not None, f"the step of {step.layer} is no kernel, so it cannot ask for later weights"
    sizes = {each.name: blob_bytes(each.name) for each in pointers(later) if each.space is Space.BLOB}
    name = max(sizes, key=lambda each: sizes[each], default="")
    count = min(sizes.get(name, 0), MOST_BYTES) // 16 * 16
    if not count:
        return step
    return replace(step, kernel=_asking(kernel, Pointer(space=Space.BLOB, name=name), count))


def _asking(kernel: Kernel, pointer: Pointer, count: int) -> Kernel:
    share = -(-count // (math.prod(kernel.grid) * _UNIT)) * _UNIT
    return replace(kernel, arguments=(*kernel.arguments[:-3], *_arguments(pointer, count, share), kernel.arguments[-1]))


def _arguments(pointer: Pointer, count: int, share: int) -> tuple[Argument, Argument]:
    """As kernels/latency.cuh reads them: where, and struct Later."""
    return (Argument(pointer=pointer), Argument(value=struct.pack("<2I", count, share).hex()))
