"""Steps on a card, one thing at a time: tiny kernels through the session that the builder times candidates with."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from enginewright_runtime.engine.cuda.program import (
    Argument,
    Copy,
    DeviceProgram,
    Fill,
    Pointer,
    Space,
    Step,
    Tensor,
    TensorMap,
)
from enginewright_runtime.engine.cuda.seam import DeviceError, DeviceMemoryError
from enginewright_runtime.engine.cuda.session import Session
from enginewright_runtime.errors import PlanError

pytestmark = pytest.mark.gpu


def test_a_chain_of_kernels_gives_what_it_should(tiny: Any) -> None:
    program, blobs, expected = tiny.chain()
    with Session(program, blobs) as session:
        np.testing.assert_array_equal(session.run({"x": tiny.X})["y"], expected(tiny.X))


def test_a_replay_equals_the_eager_run(tiny: Any) -> None:
    program, blobs, _ = tiny.chain()
    with Session(program, blobs) as session:
        eager = session.run({"x": tiny.X})["y"]
        np.testing.assert_array_equal(session.run({"x": tiny.X}, graph=True)["y"], eager)


def test_a_dependent_kernel_waits_for_the_one_before_it(tiny: Any) -> None:
    launches = (
        tiny.kernel("slow_fill", tiny.at(Space.ARENA), tiny.number(tiny.COUNT), blocks=1),
        tiny.kernel("twice", tiny.at(Space.ARENA), tiny.at(Space.OUTPUT, "y"), tiny.number(tiny.COUNT), dependent=True),
    )
    program = DeviceProgram(inputs=(), outputs=(tiny.floats("y"),), arena_bytes=4 * tiny.COUNT, steps=launches)
    with Session(program, {"tiny": tiny.cubin}) as session:
        for graph in (False, True):
            np.testing.assert_array_equal(session.run({}, graph=graph)["y"], np.full(tiny.COUNT, 6, np.float32))


@pytest.mark.parametrize("before", ["fill", "copy"])
def test_a_dependent_kernel_waits_for_a_fill_or_copy_before_it(tiny: Any, before: str) -> None:
    size = 128 << 20  # long enough that a reader who does not wait sees the poison
    arena, other = Pointer(space=Space.ARENA), Pointer(space=Space.ARENA, offset=size)
    first = Step(layer="fill", fill=Fill(pointer=arena, bytes=2 * size, value=0x40))
    then = Step(layer="copy", copy=Copy(source=other, target=arena, bytes=size))
    last = size - 4 * tiny.COUNT
    launches = (
        *((first,) if before == "fill" else (first, then)),
        tiny.kernel(
            "twice",
            tiny.at(Space.ARENA, offset=last),
            tiny.at(Space.OUTPUT, "y"),
            tiny.number(tiny.COUNT),
            dependent=True,
        ),
    )
    program = DeviceProgram(inputs=(), outputs=(tiny.floats("y"),), arena_bytes=2 * size, steps=launches)
    expected = np.frombuffer(bytes([0x40] * 4), np.float32)[0] * np.float32(2)
    with Session(program, {"tiny": tiny.cubin}) as session:
        for graph in (False, True, True):
            np.testing.assert_array_equal(session.run({}, graph=graph)["y"], np.full(tiny.COUNT, expected))


def test_a_kernel_that_is_not_dependent_waits_for_one_that_lets_others_start_early(tiny: Any) -> None:
    launches = (
        tiny.kernel("slow_fill", tiny.at(Space.ARENA), tiny.number(tiny.COUNT), blocks=1),
        tiny.kernel(
            "add", tiny.at(Space.ARENA), tiny.at(Space.ARENA), tiny.at(Space.OUTPUT, "y"), tiny.number(tiny.COUNT)
        ),
    )
    program = DeviceProgram(inputs=(), outputs=(tiny.floats("y"),), arena_bytes=4 * tiny.COUNT, steps=launches)
    with Session(program, {"tiny": tiny.cubin}) as session:
        for graph in (False, True):
            np.testing.assert_array_equal(session.run({}, graph=graph)["y"], np.full(tiny.COUNT, 6, np.float32))


def test_a_cluster_launch_has_its_ranks(tiny: Any) -> None:
    output = Tensor(name="y", dtype="int32", shape=(8,), bytes=32)
    launches = (tiny.kernel("cluster_rank", tiny.at(Space.OUTPUT, "y"), blocks=8, cluster=(4, 1, 1)),)
    program = DeviceProgram(inputs=(), outputs=(output,), arena_bytes=0, steps=launches)
    with Session(program, {"tiny": tiny.cubin}) as session:
        assert session.run({})["y"].tolist() == [4, 104, 204, 304] * 2


def test_a_tensor_map_reads_boxes_and_fills_the_rest_with_zeroes(tiny: Any) -> None:
    rows = 30  # the last box of 8 rows has 6
    tensor_map = TensorMap(
        pointer=Pointer(space=Space.INPUT, name="x"), dtype="float32", dims=(32, rows), strides=(128,), box=(32, 8)
    )
    launches = (
        tiny.kernel(
            "tma_copy",
            Argument(tensor_map=tensor_map),
            tiny.at(Space.OUTPUT, "y"),
            blocks=4,
            threads=64,
            shared_bytes=1024,
        ),
    )
    program = DeviceProgram(
        inputs=(tiny.floats("x", 32 * rows),), outputs=(tiny.floats("y", 1024),), arena_bytes=0, steps=launches
    )
    x = np.arange(32 * rows, dtype=np.float32)
    with Session(program, {"tiny": tiny.cubin}) as session:
        y = session.run({"x": x})["y"]
    np.testing.assert_array_equal(y, np.concatenate([x, np.zeros(64, np.float32)]))


def test_more_shared_memory_than_48_kilobytes_is_asked_for(tiny: Any) -> None:
    size = 64 << 10
    launches = (
        tiny.kernel(
            "shared_top", tiny.at(Space.OUTPUT, "y"), tiny.number(size // 4 - 1), blocks=1, threads=1, shared_bytes=size
        ),
    )
    program = DeviceProgram(inputs=(), outputs=(tiny.floats("y", 1),), arena_bytes=0, steps=launches)
    with Session(program, {"tiny": tiny.cubin}) as session:
        assert session.run({})["y"].tolist() == [7]


def test_fills_and_copies_run_in_their_order(tiny: Any) -> None:
    arena, y = Pointer(space=Space.ARENA), Pointer(space=Space.OUTPUT, name="y")
    launches = (
        Step(layer="fill", fill=Fill(pointer=arena, bytes=16, value=1)),
        Step(layer="copy", copy=Copy(source=arena, target=y, bytes=16)),
        Step(layer="again", fill=Fill(pointer=Pointer(space=Space.OUTPUT, name="y", offset=8), bytes=8, value=2)),
    )
    output = Tensor(name="y", dtype="uint8", shape=(16,), bytes=16)
    program = DeviceProgram(inputs=(), outputs=(output,), arena_bytes=16, steps=launches)
    with Session(program, {}) as session:
        for graph in (False, True):
            assert session.run({}, graph=graph)["y"].tolist() == [1] * 8 + [2] * 8


def test_what_no_kernel_writes_shows_as_poison(tiny: Any) -> None:
    program = DeviceProgram(inputs=(), outputs=(tiny.floats("y"),), arena_bytes=0, steps=())
    with Session(program, {}) as session:
        assert np.isnan(session.run({})["y"]).all()


@pytest.mark.parametrize("cold", [False, True])
def test_replays_are_timed(tiny: Any, cold: bool) -> None:
    program, blobs, _ = tiny.chain()
    with Session(program, blobs) as session:
        taken = session.time(samples=9, repeats=3, cold=cold)
    assert 3 <= len(taken) <= 9
    assert all(0 < each < 1 for each in taken)


def test_parameters_that_do_not_fit_the_kernel_are_refused(tiny: Any) -> None:
    launches = (tiny.kernel("twice", tiny.at(Space.ARENA), tiny.at(Space.OUTPUT, "y")),)
    program = DeviceProgram(inputs=(), outputs=(tiny.floats("y"),), arena_bytes=4 * tiny.COUNT, steps=launches)
    with pytest.raises(
        PlanError, match=r"'twice' .*takes parameters of \[8, 8, 4\] bytes, and the plan gives \[8, 8\]"
    ):
        Session(program, {"tiny": tiny.cubin})


def test_a_cubin_that_is_none_is_refused(tiny: Any) -> None:
    launches = (tiny.kernel("twice", tiny.at(Space.OUTPUT, "y")),)
    program = DeviceProgram(inputs=(), outputs=(tiny.floats("y"),), arena_bytes=0, steps=launches)
    with pytest.raises(DeviceError, match="The layer 'twice' cannot be prepared: The GPU did not load a cubin"):
        Session(program, {"tiny": b"no cubin at all" * 10})


def test_a_cubin_for_another_gpu_is_refused(tiny: Any) -> None:
    other = tiny.compiled(
        'extern "C" __global__ void nothing() {}', 120
    )  # no program runs on both Blackwell and Hopper
    program = DeviceProgram(inputs=(), outputs=(), arena_bytes=0, steps=(tiny.kernel("nothing"),))
    with pytest.raises(DeviceError, match=r"did not load a cubin .*: see the driver's log, and build the plan again"):
        Session(program, {"tiny": other})


def test_too_little_memory_is_said_in_bytes() -> None:
    program = DeviceProgram(inputs=(), outputs=(), arena_bytes=1 << 40, steps=())
    with pytest.raises(DeviceMemoryError, match=r"The arena of .* needs 1099511627776 bytes of GPU memory, and \d+ of"):
        Session(program, {})


def lost(use: Callable[[], None]) -> tuple[int, int]:
    """Bytes that fifty uses leave taken: in the pool of this process, and on the whole device at the least of four
    times, since other processes take and give back theirs meanwhile. What leaks does so every time."""
    from enginewright_runtime.engine.cuda.driver import gpu

    def taken() -> tuple[int, int]:
        gpu().trim()
        return gpu()._pool.total_bytes(), -gpu().free_bytes()

    use()
    pool, on_device = [], []
    for _ in range(4):
        before = taken()
        for _ in range(50):
            use()
        after = taken()
        pool.append(after[0] - before[0])
        on_device.append(after[1] - before[1])
    return sum(pool), min(on_device)


def test_memory_is_given_back(tiny: Any) -> None:
    program, blobs, _ = tiny.chain()

    def use() -> None:
        with Session(program, blobs) as session:
            session.run({"x": tiny.X}, graph=True)

    pool, on_device = lost(use)
    assert pool == 0
    assert on_device < 4 << 20


def test_memory_that_is_not_given_back_shows(tiny: Any) -> None:
    program, blobs, _ = tiny.chain()
    kept: list[Session] = []
    pool, _ = lost(lambda: kept.append(Session(program, blobs)))
    for session in kept:
        session.close()
    assert pool >= 4 * 50 * program.arena_bytes
