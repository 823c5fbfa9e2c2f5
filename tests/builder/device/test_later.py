"""Which launch asks for whose weights ahead of time."""

import struct

from enginewright_builder.device import later, retention
from enginewright_runtime.engine.cuda.program import Argument, Fill, Kernel, Pointer, Space, Step

UNMARKED = retention.argument(first_to_leave=False)
SIZES = {"w0": 5000, "w1": 1 << 20, "b1": 64, "w2": 64 << 20, "w3": 24}


def kernel(*blobs: str, blocks: int = 8) -> Step:
    """A launch that reads these blobs; its arguments ask for nothing and mark nothing."""
    arguments = tuple(Argument(pointer=Pointer(space=Space.BLOB, name=name)) for name in blobs)
    asks = (*later.nothing(Pointer(space=Space.BLOB, name=blobs[0])), UNMARKED)
    record = Kernel(cubin="k", function="k", grid=(blocks // 2, 2, 1), block=(128, 1, 1), arguments=(*arguments, *asks))
    return Step(layer="", kernel=record)


def asked(step: Step) -> tuple[str, int, int]:
    """The blob, its bytes and a block's share."""
    assert step.kernel is not None
    pointer, value, mark = step.kernel.arguments[-3:]
    assert mark == UNMARKED
    assert pointer.pointer is not None
    bytes_, share = struct.unpack("<2I", bytes.fromhex(value.value))
    return pointer.pointer.name, bytes_, share


def arranged(first: Step, target: Step) -> Step:
    between = [kernel("w0")] * (later.DISTANCE - 1)
    return later.with_later([first, *between, target], {0}, SIZES.__getitem__)[0]


def test_a_launch_asks_for_the_largest_blob_of_the_one_some_launches_later() -> None:
    assert asked(arranged(kernel("w0"), kernel("b1", "w1"))) == ("w1", 1 << 20, 1 << 17)


def test_the_shares_of_all_blocks_cover_what_is_asked_for_in_whole_units() -> None:
    _, bytes_, share = asked(arranged(kernel("w1", blocks=6), kernel("w0")))
    assert (bytes_, share) == (4992, 1024)  # multiples of 16 and 256
    assert 6 * share >= bytes_


def test_of_very_large_weights_only_the_beginning_is_asked_for() -> None:
    assert asked(arranged(kernel("w0"), kernel("w2")))[:2] == ("w2", later.MOST_BYTES)


def test_who_cannot_ask_and_the_last_launches_stay_as_they_are() -> None:
    steps = [kernel("w0"), kernel("w1"), kernel("w1"), kernel("w1"), kernel("w1")]
    found = later.with_later(steps, {0, 3, 4}, SIZES.__getitem__)
    assert [one is other for one, other in zip(found, steps, strict=True)] == [False, True, True, True, True]
    fill = Step(layer="", fill=Fill(pointer=Pointer(space=Space.ARENA), bytes=4))
    assert arranged(steps[0], fill) is steps[0]
