"""The executor, the session and the memory over a GPU that only writes down what it is asked."""

import gc
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from enginewright_runtime.engine.cuda import memory, steps
from enginewright_runtime.engine.cuda import session as sessions
from enginewright_runtime.engine.cuda.arrays import DeviceArray, foreign
from enginewright_runtime.engine.cuda.executor import CudaExecutor
from enginewright_runtime.engine.cuda.program import (
    Argument,
    Copy,
    CudnnGraph,
    DeviceProgram,
    Fill,
    Kernel,
    Pointer,
    Space,
    Step,
    Tensor,
    TensorMap,
)
from enginewright_runtime.engine.cuda.seam import Borrowed, CaptureError, DeviceError, DeviceMemoryError
from enginewright_runtime.engine.cuda.session import Loaded, Session
from enginewright_runtime.engine.executor import Limits
from enginewright_runtime.errors import InputError, PlanError, UsageError
from enginewright_runtime.plan import records
from enginewright_runtime.plan.manifest import Segment
from enginewright_runtime.plan.outcome import Outcome

COUNT = 6
X = np.arange(COUNT, dtype=np.float32)
W = np.array([5, 4, 3, 2, 1, 0], np.float32)
EXPECTED = (X + W) * 2


def at(space: Space, name: str = "", offset: int = 0) -> Argument:
    return Argument(pointer=Pointer(space=space, name=name, offset=offset))


def number(value: int) -> Argument:
    return Argument(value=struct.pack("<i", value).hex())


def kernel(function: str, *arguments: Argument) -> Step:
    record = Kernel(cubin="k", function=function, grid=(1, 1, 1), block=(32, 1, 1), arguments=arguments)
    return Step(layer=f"the {function}", kernel=record)


def tensor(name: str) -> Tensor:
    return Tensor(name=name, dtype="float32", shape=(COUNT,), bytes=4 * COUNT)


STEPS = (
    kernel("add", at(Space.INPUT, "x"), at(Space.BLOB, "w"), at(Space.ARENA, offset=8), number(COUNT)),
    kernel("twice", at(Space.ARENA, offset=8), at(Space.OUTPUT, "y"), number(COUNT)),
)
PROGRAM = DeviceProgram(inputs=(tensor("x"),), outputs=(tensor("y"),), arena_bytes=64, steps=STEPS)
BLOBS = {"k": b"cubin", "w": W.tobytes()}
SEGMENT = Segment(executor="cuda", inputs=("x",), outputs=("y",), blob="p")


@pytest.fixture
def load(gpu: Any, keep: Any) -> Callable[..., CudaExecutor]:
    """An executor of a program, on the fake GPU."""

    def make(program: DeviceProgram = PROGRAM, *, contexts: int = 1, blobs: Any = None) -> CudaExecutor:
        kept = blobs or keep({**BLOBS, "p": records.canonical(program)})
        return CudaExecutor(SEGMENT, kept, Limits(threads=1, contexts=contexts), driver=gpu)

    return make


class OnDevice:
    """What cupy or torch would hand in."""

    def __init__(self, gpu: Any, value: Any, *, contiguous: bool = True) -> None:
        block = gpu.allocate(value.nbytes)
        gpu.floats(block.address, value.size)[:] = value.ravel()
        self.borrowed = Borrowed(
            address=block.address, dtype=value.dtype.name, shape=value.shape, contiguous=contiguous, keeper=self
        )
        self.shape = value.shape

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


def test_a_segment_computes_what_its_steps_say(load: Any) -> None:
    np.testing.assert_array_equal(load().run({"x": X})["y"], EXPECTED)


def test_a_run_is_one_graph_launch_with_the_copies_in_it(load: Any, gpu: Any) -> None:
    executor = load()
    gpu.log.clear()
    executor.run({"x": X})
    assert gpu.log == ["graph of 4", "synchronize"]


def test_the_warm_up_runs_on_zeroes(load: Any, gpu: Any) -> None:
    load()
    warm_up = gpu.log[gpu.log.index("fill 24 with 0") :]
    assert warm_up[:4] == ["fill 24 with 0", "launch add", "launch twice", "synchronize"]


def test_outputs_of_one_run_are_not_those_of_the_next(load: Any) -> None:
    executor = load()
    first = executor.run({"x": X})["y"]
    executor.run({"x": X * 9})
    np.testing.assert_array_equal(first, EXPECTED)


def test_any_memory_order_of_an_input_is_taken(load: Any) -> None:
    np.testing.assert_array_equal(load().run({"x": np.repeat(X, 2)[::2]})["y"], EXPECTED)


def test_where_nothing_can_be_captured_the_steps_run_one_by_one(load: Any, gpu: Any) -> None:
    gpu.refuses_capture = True
    executor = load()
    gpu.log.clear()
    np.testing.assert_array_equal(executor.run({"x": X})["y"], EXPECTED)
    assert [each for each in gpu.log if each != "synchronize"] == [
        "upload 24", "launch add", "launch twice", "download 24",
    ]  # fmt: skip
    assert executor.notes == (
        "The steps are launched one by one: The GPU did not capture the steps into a CUDA graph.",
    )


def test_an_array_on_the_device_is_copied_there(load: Any, gpu: Any) -> None:
    executor = load()
    given = OnDevice(gpu, X)
    gpu.log.clear()
    np.testing.assert_array_equal(executor.run({"x": given})["y"], EXPECTED)
    assert "copy 24" in gpu.log
    assert not any(each.startswith("upload") for each in gpu.log)


@pytest.mark.parametrize(
    ("value", "contiguous", "sentence"),
    [
        (X[:4], True, r"The input 'x' must be float32 \[6\], got float32 \[4\] on the device."),
        (X.astype(np.int32), True, r"The input 'x' must be float32 \[6\], got int32 \[6\] on the device."),
        (X, False, "The input 'x' lies on the device with gaps or in another order: make it contiguous first."),
    ],
)
def test_an_array_on_the_device_that_does_not_fit_is_refused(
    load: Any, gpu: Any, value: Any, contiguous: bool, sentence: str
) -> None:
    executor = load()
    with pytest.raises(InputError, match=sentence):
        executor.run({"x": OnDevice(gpu, value, contiguous=contiguous)})
    np.testing.assert_array_equal(executor.run({"x": X})["y"], EXPECTED)  # and the executor still works


def test_outputs_may_stay_on_the_device(load: Any, gpu: Any) -> None:
    y = load().run_device({"x": X})["y"]
    assert isinstance(y, DeviceArray)
    np.testing.assert_array_equal(gpu.floats(y.address, COUNT), EXPECTED)
    assert y.__cuda_array_interface__ == {
        "shape": (COUNT,), "typestr": "<f4", "data": (y.address, False), "version": 3, "strides": None, "stream": 1,
    }  # fmt: skip
    assert y.__dlpack_device__() == (2, 0)


def test_schedules_of_one_plan_share_their_weights(load: Any, gpu: Any, keep: Any) -> None:
    blobs = keep({**BLOBS, "p": records.canonical(PROGRAM)})
    first, second = load(blobs=blobs), load(blobs=blobs)
    assert gpu.log.count("upload 24") == 1
    first.close()
    np.testing.assert_array_equal(second.run({"x": X})["y"], EXPECTED)
    second.close()
    assert gpu.held == 0


def test_weights_of_a_plan_go_with_the_plan(load: Any, keep: Any, gpu: Any) -> None:
    blobs = keep({**BLOBS, "p": records.canonical(PROGRAM)})
    load(blobs=blobs).close()
    shared = len(memory._SHARED)
    del blobs
    gc.collect()
    assert len(memory._SHARED) < shared


def test_contexts_have_memory_of_their_own_and_run_at_once(load: Any, gpu: Any) -> None:
    executor = load(contexts=2)
    assert gpu.streams == 3  # one of them uploaded the weights
    inside, leave = threading.Barrier(3, timeout=120), threading.Event()
    for lane in executor._all:
        lane._whole.works[1] = ("launch add", lambda a=lane._whole.works[1][1]: (inside.wait(), leave.wait(120), a()))
    results: list[Any] = []
    workers = [
        threading.Thread(target=lambda k=k: results.append((k, executor.run({"x": X * k})["y"]))) for k in (1, 2)
    ]
    for worker in workers:
        worker.start()
    inside.wait()  # passes only when both are in their kernels
    leave.set()
    for worker in workers:
        worker.join()
    assert {k: y.tolist() for k, y in results} == {k: ((X * k + W) * 2).tolist() for k in (1, 2)}


def test_closing_gives_everything_back(load: Any, gpu: Any) -> None:
    load(contexts=3).close()
    assert gpu.held == 0
    assert gpu.free_memory == 1 << 20
    assert gpu.log[-1] == "trim"


@pytest.mark.parametrize("free", [10, 30, 100, 130])
def test_too_little_memory_is_said_in_bytes_and_leaves_nothing_behind(load: Any, gpu: Any, free: int) -> None:
    gpu.free_memory = free
    with pytest.raises(DeviceMemoryError) as caught:
        load(replace(PROGRAM, arena_bytes=100))
    assert caught.value.outcome is Outcome.OUT_OF_MEMORY
    assert gpu.held == 0
    assert gpu.free_memory == free


def test_the_sentence_about_memory_says_what_is_missing(load: Any, gpu: Any) -> None:
    gpu.free_memory = 1000
    with pytest.raises(DeviceMemoryError) as caught:
        load(replace(PROGRAM, arena_bytes=5000))
    assert str(caught.value) == (
        "The arena of the device segment 'p' needs 5000 bytes of GPU memory, and 976 of 1048576 are free, so 4024 are "
        "missing: give the engine a GPU with more memory or one to itself, or build the plan with a smaller batch or "
        "fewer shapes."
    )


def test_a_kernel_that_fails_is_an_error_of_the_run(load: Any, gpu: Any) -> None:
    executor = load()
    gpu.fails = "The GPU did not run the steps (an illegal address)."
    with pytest.raises(DeviceError, match="illegal address"):
        executor.run({"x": X})


def test_parameters_that_the_kernel_does_not_take_are_refused(load: Any, gpu: Any) -> None:
    short = kernel("twice", at(Space.ARENA), at(Space.OUTPUT, "y"))
    with pytest.raises(PlanError, match=r"'twice' of the layer 'the twice' takes parameters of \[8, 8, 4\] bytes, and"):
        load(replace(PROGRAM, steps=(short,)))
    assert gpu.held == 0


def test_a_program_that_does_not_hold_together_touches_no_gpu(load: Any, gpu: Any) -> None:
    bad = kernel("twice", at(Space.ARENA, offset=65), at(Space.OUTPUT, "y"), number(COUNT))
    with pytest.raises(PlanError, match="points to offset 65 of the arena"):
        load(replace(PROGRAM, steps=(bad,)))
    assert gpu.log == []


def test_a_program_of_another_segment_is_refused(load: Any) -> None:
    with pytest.raises(PlanError, match=r"its program has \['z'\]"):
        load(replace(PROGRAM, inputs=(tensor("z"),), steps=()))


def test_a_blob_that_is_no_program_is_refused(load: Any, keep: Any) -> None:
    with pytest.raises(PlanError, match="the device segment 'p' is not valid JSON"):
        load(blobs=keep({"p": b"{"}))


def test_arguments_are_packed_as_the_kernel_reads_them(gpu: Any) -> None:
    def address(pointer: Pointer) -> int:
        return 0x1122334455667700 + pointer.offset

    described = TensorMap(pointer=Pointer(space=Space.ARENA), dtype="float32", dims=(4,), strides=(), box=(4,))
    assert steps.packed(at(Space.ARENA, offset=8), gpu, address) == bytes.fromhex("0877665544332211")
    assert steps.packed(Argument(value="0000803f"), gpu, address) == struct.pack("<f", 1.0)
    assert len(steps.packed(Argument(tensor_map=described), gpu, address)) == 128


def test_vendors_are_asked_with_the_record_and_the_streams_handle(
    gpu: Any, load: Any, keep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    class Prepared:
        def launch(self, stream: int, address: Callable[[Pointer], int], /) -> None:
            seen.append((stream, address(Pointer(space=Space.ARENA, offset=4)) % 512))

    class Vendor:
        version = "9.9"

        def prepare(self, record: Any, blob: Callable[[str], bytes], /) -> Prepared:
            seen.append((record.graph, blob(record.graph)))
            return Prepared()

    monkeypatch.setattr(steps, "library", lambda name: {"cudnn": Vendor()}[name])
    step = Step(layer="conv", cudnn=CudnnGraph(graph="g", tensors={"1": Pointer(space=Space.ARENA)}))
    program = replace(PROGRAM, steps=(step,))
    load(program, blobs=keep({**BLOBS, "g": b"graph", "p": records.canonical(program)}))
    assert seen[0] == ("g", b"graph")
    assert set(seen[1:]) == {(1, 4)}


def test_a_session_runs_on_poison(gpu: Any) -> None:
    with Session(replace(PROGRAM, steps=()), {}, driver=gpu) as session:
        assert np.isnan(session.run({"x": X})["y"]).all()
    assert gpu.held == 0


def test_a_session_computes_eagerly_and_as_a_graph(gpu: Any) -> None:
    with Session(PROGRAM, BLOBS, driver=gpu) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], EXPECTED)
        np.testing.assert_array_equal(session.run(graph=True)["y"], EXPECTED)


def test_a_session_times_repeats_in_one_graph(gpu: Any) -> None:
    gpu.free_memory, gpu.log = 1 << 30, []
    with Session(PROGRAM, BLOBS, driver=gpu) as session:
        assert list(session.time(3, repeats=5)) == [0.1] * 3
    assert gpu.log.count("graph of 10") == 4  # one of them warms up
    assert gpu.held == 0


@pytest.mark.parametrize(
    ("late", "counted", "tries"),
    [
        ([], 6, 1),
        ([True] * 3 + [False] * 3, 3, 1),  # the others may have waited for the host
        ([True] * 6 + [False] * 6, 6, 2),
        ([True] * 18, 6, 3),  # the host is never quick enough: as good as it gets
    ],
)
def test_samples_for_which_the_gpu_may_have_waited_count_only_where_most_are_such(
    gpu: Any, late: list[bool], counted: int, tries: int
) -> None:
    gpu.free_memory, gpu.log, gpu.late = 1 << 30, [], late
    with Session(PROGRAM, BLOBS, driver=gpu) as session:
        assert len(session.time(6)) == counted
    assert gpu.log.count("graph of 2") == tries * 7
    assert gpu.log.count("hold until [0, 0, 0, 0] is 1") == tries


def test_the_device_goes_on_when_all_samples_are_there(gpu: Any) -> None:
    gpu.free_memory, gpu.log = 1 << 30, []
    with Session(PROGRAM, BLOBS, driver=gpu) as session:
        session.time(2)
        assert gpu.log.index("hold until [0, 0, 0, 0] is 1") < gpu.log.index("graph of 2")
        assert gpu.flag.tolist() == [1, 0, 0, 0]


def test_the_device_does_not_wait_for_a_host_that_waits_for_it(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "HELD_SECONDS", 0.01)

    def full() -> None:  # the queue, until the device goes on
        until = time.monotonic() + 10
        while gpu.flag[0] == 0 and time.monotonic() < until:
            time.sleep(0.001)
        assert gpu.flag[0] == 1

    gpu.free_memory, gpu.at_launch = 1 << 30, full
    with Session(PROGRAM, BLOBS, driver=gpu) as session:
        assert len(session.time(2)) == 2


def test_the_device_goes_on_where_a_launch_fails(gpu: Any) -> None:
    def fails() -> None:
        raise DeviceError("no launch")

    gpu.free_memory, gpu.at_launch = 1 << 30, fails
    with Session(PROGRAM, BLOBS, driver=gpu) as session, pytest.raises(DeviceError, match="no launch"):
        session.time(2)
    assert gpu.flag[0] == 1


def test_every_sample_counts_where_that_is_asked_for(gpu: Any) -> None:
    gpu.free_memory, gpu.log, gpu.late = 1 << 30, [], [True] * 6
    with Session(PROGRAM, BLOBS, driver=gpu) as session:
        assert len(session.time(6, every=True)) == 6
    assert gpu.log.count("graph of 2") == 7
    assert gpu.flag is None  # nothing waits


def test_sessions_that_share_what_is_loaded_bring_it_to_the_device_once(gpu: Any) -> None:
    gpu.log = []
    loaded = Loaded(gpu, BLOBS.__getitem__)
    for _ in range(2):
        with Session(PROGRAM, BLOBS, driver=gpu, loaded=loaded) as session:
            np.testing.assert_array_equal(session.run({"x": X})["y"], EXPECTED)
    assert gpu.log.count("load cubin") == 1
    assert gpu.log.count(f"upload {W.nbytes}") == 3  # the weights once, the input twice
    loaded.close()
    assert gpu.held == 0


@pytest.mark.parametrize("value", [X.astype(np.float64), X[:3]])
def test_a_session_takes_no_other_dtype_or_shape(gpu: Any, value: Any) -> None:
    with Session(PROGRAM, BLOBS, driver=gpu) as session, pytest.raises(InputError, match="'x' must be float32"):
        session.run({"x": value})


def test_a_session_that_cannot_be_captured_says_so(gpu: Any) -> None:
    gpu.refuses_capture = True
    with Session(PROGRAM, BLOBS, driver=gpu) as session, pytest.raises(CaptureError):
        session.run({"x": X}, graph=True)


def test_fills_and_copies_happen_in_order(gpu: Any) -> None:
    arena, y = Pointer(space=Space.ARENA), Pointer(space=Space.OUTPUT, name="y")
    moves = (
        Step(layer="fill", fill=Fill(pointer=arena, bytes=24, value=0)),
        Step(layer="copy", copy=Copy(source=arena, target=y, bytes=12)),
    )
    with Session(replace(PROGRAM, steps=moves), {}, driver=gpu) as session:
        assert session.run({"x": X})["y"].tolist()[:3] == [0, 0, 0]


@pytest.mark.parametrize("value", [X, 3, "text", None, [1.0]])
def test_what_lies_on_the_host_is_not_foreign(value: Any) -> None:
    assert foreign(value) is None


def test_cudas_array_interface_alone_is_enough() -> None:
    class Exported:
        @property
        def __cuda_array_interface__(self) -> Mapping[str, Any]:
            return {}

    assert foreign(Exported()) is not None


def test_a_run_waits_for_the_one_before_it_that_nobody_waited_for(load: Any, gpu: Any) -> None:
    executor = load()
    executor.run_device({"x": X})
    gpu.log.clear()
    executor.run({"x": X * 2})
    assert gpu.log == ["synchronize", "graph of 4", "synchronize"]


def test_what_was_borrowed_is_kept_until_the_copy_has_happened(load: Any, gpu: Any) -> None:
    executor = load()
    executor.run_device({"x": OnDevice(gpu, X)})
    (lane,) = executor._all
    assert len(lane._borrowed) == 1
    executor.run({"x": X})
    assert lane._borrowed == []


def test_a_kernel_that_the_cubin_does_not_have_is_named_with_its_layer(load: Any) -> None:
    with pytest.raises(DeviceError, match="The layer 'the lost' cannot be prepared: The GPU did not find the kernel"):
        load(replace(PROGRAM, steps=(kernel("lost"),)))


def test_a_reserved_context_runs_in_place(load: Any, gpu: Any) -> None:
    executor = load()
    with executor.reserve() as own:
        gpu.floats(own.inputs["x"].address, COUNT)[:] = X
        gpu.log.clear()
        own.run(stream=77)
        assert gpu.log == ["graph of 2"]
        np.testing.assert_array_equal(gpu.floats(own.outputs["y"].address, COUNT), EXPECTED)
    executor.close()
    assert gpu.held == 0


def test_a_reserved_context_waits_where_no_stream_is_given(load: Any, gpu: Any) -> None:
    gpu.refuses_capture = True
    with load().reserve() as own:
        gpu.log.clear()
        own.run()
        assert gpu.log == ["launch add", "launch twice", "synchronize"]


def test_a_run_after_the_end_is_refused_and_does_not_wait_for_ever(load: Any) -> None:
    executor = load()
    executor.close()
    for _ in range(2):
        with pytest.raises(UsageError, match="The engine was closed before this run could begin"):
            executor.run({"x": X})
