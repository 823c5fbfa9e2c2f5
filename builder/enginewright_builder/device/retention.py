"""How the L2 cache keeps a program's weights: where they do not fit, they are marked as the first to leave it. Pure.

An inference reads its weights one after the other, and the next inference reads them all again. A cache that drops what
was used longest ago has then always dropped what is wanted next, and keeps nothing of them. Marked weights drop each
other instead, so that a part stays, and so do the activations. A kernel that can (Implementation.fetches_later) is told
by its last argument. ResNet-50 at batch 1 (51 MB of weights, an L2 of 50 MB): 109.0 us where it took 116.5.
"""

import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from enginewright_runtime.engine.cuda.program import Argument, Space, Step
from enginewright_runtime.engine.cuda.validation import pointers

FITS = 5 / 8  # of the L2: to mark 28 MB of ResNet-50's weights gains nothing on an H200, 41 MB 2 %, 50 MB 5 %


def argument(*, first_to_leave: bool) -> Argument:
    """A kernel's last one, as kernels/latency.cuh reads it."""
    return Argument(value=struct.pack("<i", first_to_leave).hex())


def with_marks(
    steps: Sequence[Step], able: Collection[int], blob_bytes: Callable[[str], int], l2_bytes: int | None
) -> tuple[Step, ...]:
    """The steps of a program, those whose numbers are in `able` with their weights marked if all do not fit into the L2
    of this size (None: whatever it is, they do)."""
    names = {each.name for step in steps for each in pointers(step) if each.space is Space.BLOB}
    if l2_bytes is None or sum(map(blob_bytes, names)) <= FITS * l2_bytes:
        return tuple(steps)
    return tuple(_marking(step) if number in able else step for number, step in enumerate(steps))


def _marking(step: Step) -> Step:
    kernel = step.kernel
    assert kernel is not None, f"the step of {step.layer} is no kernel, so it cannot mark its weights"
    return replace(step, kernel=replace(kernel, arguments=(*kernel.arguments[:-1], argument(first_to_leave=True))))
