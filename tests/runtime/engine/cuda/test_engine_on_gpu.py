"""An engine whose plan has device segments: how it is loaded, what it takes and gives, what bench says of it."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginewright_runtime import cli
from enginewright_runtime.commands import gpu_figures
from enginewright_runtime.commands.timing import Timing
from enginewright_runtime.engine import available, loader
from enginewright_runtime.engine.cuda import nvml
from enginewright_runtime.engine.cuda.executor import CudaExecutor
from enginewright_runtime.engine.cuda.program import Copy, DeviceProgram, Pointer, Space, Step, Tensor
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.errors import InputError, MissingExtraError, PlanError, TargetMismatchError, UsageError
from enginewright_runtime.plan import records
from enginewright_runtime.plan.manifest import Binding, Schedule, Segment
from enginewright_runtime.plan.target import Target, TargetKind

X = np.arange(8, dtype=np.float32).reshape(2, 4)
H200 = Target(
    kind=TargetKind.CUDA,
    architecture="x86_64",
    product="H200",
    compute_capability="9.0",
    memory=140 << 30,
    driver="580",
)


def program(batch: int) -> DeviceProgram:
    """y = x."""
    size = 16 * batch
    step = Step(
        layer="copy",
        copy=Copy(
            source=Pointer(space=Space.INPUT, name="x"), target=Pointer(space=Space.OUTPUT, name="y"), bytes=size
        ),
    )
    x, y = (Tensor(name=name, dtype="float32", shape=(batch, 4), bytes=size) for name in "xy")
    return DeviceProgram(inputs=(x,), outputs=(y,), arena_bytes=0, steps=(step,))


def schedule(batch: int) -> Schedule:
    x, y = (Binding(name=name, dtype="float32", shape=(batch, 4)) for name in "xy")
    segment = Segment(executor="cuda", inputs=("x",), outputs=("y",), blob=f"segments/{batch}")
    return Schedule(inputs=(x,), outputs=(y,), segments=(segment,))


@pytest.fixture
def plan(make_plan: Callable[..., Path], gpu: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan for a GPU, on a machine whose GPU is the fake."""
    monkeypatch.setattr(available, "describe", lambda built_for: H200)
    executors = {"cuda": lambda *given: CudaExecutor(*given, driver=gpu), "host": loader.EXECUTORS["host"]}
    monkeypatch.setattr(loader, "EXECUTORS", executors)
    blobs = {f"segments/{batch}": records.canonical(program(batch)) for batch in (2, 3)}
    return make_plan(schedules=[schedule(2), schedule(3)], blobs=blobs, target=H200)


class OnDevice:
    def __init__(self, gpu: Any, value: Any) -> None:
        from enginewright_runtime.engine.cuda.seam import Borrowed

        block = gpu.allocate(value.nbytes)
        gpu.floats(block.address, value.size)[:] = value.ravel()
        self.borrowed = Borrowed(
            address=block.address, dtype=value.dtype.name, shape=value.shape, contiguous=True, keeper=self
        )
        self.shape = value.shape

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


def test_an_engine_runs_its_device_segments(plan: Path) -> None:
    with Engine(plan) as engine:
        np.testing.assert_array_equal(engine.infer(X)["y"], X)
        np.testing.assert_array_equal(engine.infer(np.ones((3, 4), np.float32))["y"], np.ones((3, 4)))


def test_an_engine_closes_what_it_has_on_the_device(plan: Path, gpu: Any) -> None:
    Engine(plan, contexts=2).close()
    assert gpu.held == 0


def test_a_plan_that_fails_to_load_leaves_nothing_on_the_device(plan: Path, gpu: Any) -> None:
    gpu.free_memory = 70  # enough for the first schedule and not for the second
    with pytest.raises(Exception, match="bytes of GPU memory"):
        Engine(plan)
    assert gpu.held == 0


def test_arrays_on_the_device_go_in_by_shape(plan: Path, gpu: Any) -> None:
    with Engine(plan) as engine:
        np.testing.assert_array_equal(engine.infer({"x": OnDevice(gpu, X)})["y"], X)


def test_an_array_on_the_device_of_no_schedules_shape_is_refused(plan: Path, gpu: Any) -> None:
    with Engine(plan) as engine, pytest.raises(InputError, match=r"got x \[5, 4\], and there are: x \[2, 4\]; x"):
        engine.infer({"x": OnDevice(gpu, np.ones((5, 4), np.float32))})


def test_outputs_may_stay_on_the_device(plan: Path, gpu: Any) -> None:
    with Engine(plan) as engine:
        y = engine.infer_on_device(X)["y"]
        np.testing.assert_array_equal(gpu.floats(y.address, 8), X.ravel())


def test_outputs_stay_on_the_device_only_where_a_gpu_runs_the_whole_plan(
    make_plan: Callable[..., Path], models: Any
) -> None:
    with Engine(make_plan(models.small())) as engine, pytest.raises(UsageError, match="as a whole: use infer, which"):
        engine.infer_on_device(X)


def test_arrays_on_the_device_go_only_where_a_gpu_runs_the_whole_plan(
    make_plan: Callable[..., Path], models: Any, gpu: Any
) -> None:
    with Engine(make_plan(models.small())) as engine, pytest.raises(InputError, match="'x' lies on a GPU, and not all"):
        engine.infer({"x": OnDevice(gpu, X)})


def test_contexts_below_one_are_refused(plan: Path) -> None:
    with pytest.raises(UsageError, match="contexts of 1 or more, got 0"):
        Engine(plan, contexts=0)


def test_a_plan_for_a_gpu_is_refused_where_there_is_none(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(available, "has_gpu", lambda: False)
    with pytest.raises(TargetMismatchError, match="kind of target: built for cuda, this machine has cpu"):
        Engine(plan)


def test_another_gpu_is_refused_in_words(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a10 = replace(H200, product="A10", compute_capability="8.6", memory=24 << 30)
    monkeypatch.setattr(available, "describe", lambda built_for: a10)
    with pytest.raises(TargetMismatchError, match=r"9\.0, .* 8\.6; product: .* A10; memory: built for 140\.0 GiB"):
        Engine(plan)


def test_a_plan_depends_on_the_libraries_that_its_programs_call_and_no_others(
    make_plan: Callable[..., Path], gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = replace(H200, libraries={"cudnn": "9.2", "cublaslt": "13.1"})
    monkeypatch.setattr(available, "describe", lambda built_for: here)
    monkeypatch.setattr(loader, "EXECUTORS", {"cuda": lambda *given: CudaExecutor(*given, driver=gpu)})

    def load(called: dict[str, str]) -> None:
        blobs = {"segments/2": records.canonical(replace(program(2), libraries=called))}
        # What else the builder's machine had is no business of the plan's.
        built_for = replace(H200, libraries={"cudnn": "9.1", "cublaslt": "12.0"})
        Engine(make_plan(schedules=[schedule(2)], blobs=blobs, target=built_for)).close()

    load({})
    load({"cudnn": "9.2"})
    with pytest.raises(TargetMismatchError, match=r"\(version of cudnn: built for 9\.1, this machine has 9\.2\)"):
        load({"cudnn": "9.1"})


def test_libraries_that_are_no_names_and_versions_are_refused(make_plan: Callable[..., Path]) -> None:
    blobs = {"segments/2": b'{"libraries":[1]}'}
    with pytest.raises(
        PlanError, match="The device segment 'segments/2' has libraries that must be names with versions"
    ):
        Engine(make_plan(schedules=[schedule(2)], blobs=blobs, target=H200))


def test_a_gpu_without_its_packages_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "has_gpu", lambda: True)
    monkeypatch.setitem(sys.modules, "cupy", None)
    for name in [name for name in sys.modules if name.startswith("enginewright_runtime.engine.cuda.d")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("enginewright_runtime.engine.cuda.describing", raising=False)
    with pytest.raises(MissingExtraError, match=r"'cupy'.*pip install 'enginewright\[cuda13\]'"):
        available.describe_cuda()


def test_nothing_of_cuda_is_loaded_for_a_plan_of_a_cpu() -> None:
    program = (
        "import sys; from enginewright_runtime.engine import engine; import enginewright_runtime.commands.gpu_figures; "
        "print([m for m in ('cupy', 'cuda', 'pynvml', 'cudnn') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def sample(watts: float | None, megahertz: int | None, reasons: int = 0) -> nvml.Sample:
    return nvml.Sample(watts=watts, megahertz=megahertz, reasons=reasons)


TIMING = Timing(shapes="x [2, 4]", p50=1.0, p90=1.0, p99=1.0, mean=1.0, throughput=1000.0, samples=50)


def test_joules_come_from_the_energy_counter_where_there_is_one() -> None:
    watch = nvml.Watch(samples=[sample(100.0, 1980)], joules=25.0, seconds=1.0)
    assert gpu_figures.to_json(watch, TIMING) == {
        "joules_per_inference": 0.5,
        "clocks_mhz": {"lowest": 1980, "highest": 1980},
        "throttled": {},
    }


def test_joules_come_from_the_power_where_there_is_no_counter() -> None:
    watch = nvml.Watch(samples=[sample(100.0, 1980), sample(300.0, 1700)], seconds=2.0)
    assert watch.energy() == 400.0
    assert watch.clocks() == (1700, 1980)


def test_what_the_gpu_does_not_tell_is_left_out() -> None:
    assert gpu_figures.to_json(nvml.Watch(), TIMING) == {}
    assert list(gpu_figures.lines([nvml.Watch()], [TIMING])) == []
    assert nvml.Watch(samples=[sample(None, None)]).energy() is None


def test_a_figure_that_was_taken_while_throttled_says_so() -> None:
    watch = nvml.Watch(samples=[sample(700.0, 1500, 0x4), sample(600.0, 1980, 0x1)], joules=10.0, seconds=1.0)
    assert list(gpu_figures.lines([watch], [TIMING])) == [
        "x [2, 4]: 0.2 J an inference, clocks 1500 to 1980 MHz",
        "x [2, 4]: timed while the GPU was throttled (power limit in 50% of the samples), so it can be faster.",
    ]


def test_bench_prints_joules_and_clocks_of_each_schedule(
    plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from contextlib import contextmanager

    @contextmanager
    def watching(built_for: Target, watches: Any) -> Any:
        @contextmanager
        def watched(index: int) -> Any:
            yield
            watches[index].samples.append(sample(100.0 * (index + 1), 1980))
            watches[index].seconds += 0.01

        yield watched

    monkeypatch.setattr(gpu_figures, "watching", watching)
    assert cli.main(["bench", str(plan), "--seconds", "0.05", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["machine"]["product"] == "H200"
    for index, each in enumerate(told["schedules"]):
        assert each["joules_per_inference"] * each["samples"] == pytest.approx(10 * (index + 1))
        assert each["throttled"] == {}


def test_an_engine_reserves_a_context_of_a_schedule(plan: Path, gpu: Any) -> None:
    with Engine(plan) as engine, engine.reserve(1) as own:
        gpu.floats(own.inputs["x"].address, 12)[:] = np.arange(12)
        own.run()
        np.testing.assert_array_equal(gpu.floats(own.outputs["y"].address, 12), np.arange(12))


def test_there_is_nothing_to_reserve_on_a_cpu(make_plan: Callable[..., Path], models: Any) -> None:
    with Engine(make_plan(models.small())) as engine:
        with pytest.raises(UsageError, match="does not run on a GPU as a whole"):
            engine.reserve()
        with pytest.raises(UsageError, match="has no schedule 1: it has 1, counted from 0"):
            engine.reserve(1)
