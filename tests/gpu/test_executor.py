"""The CUDA executor and engines on a card: what serves, with tiny kernels."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginewright_runtime.engine.cuda import steps
from enginewright_runtime.engine.cuda.program import (
    Copy,
    CudnnGraph,
    DeviceProgram,
    Pointer,
    Space,
    Step,
    Tensor,
)
from enginewright_runtime.engine.cuda.seam import DeviceMemoryError
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.errors import TargetMismatchError

pytestmark = pytest.mark.gpu


def test_a_dependent_kernel_may_come_first_and_last_between_the_hosts_copies(tiny: Any) -> None:
    count = 4 << 20  # 16 MB, so that the copies take a while
    launches = (
        tiny.kernel(
            "twice",
            tiny.at(Space.INPUT, "x"),
            tiny.at(Space.OUTPUT, "y"),
            tiny.number(count),
            blocks=count // 128,
            dependent=True,
        ),
    )
    program = DeviceProgram(
        inputs=(tiny.floats("x", count),), outputs=(tiny.floats("y", count),), arena_bytes=0, steps=launches
    )
    made = tiny.loaded(program, {"tiny": tiny.cubin})
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal(count).astype(np.float32)
        np.testing.assert_array_equal(made.run({"x": x})["y"], x * 2)
    made.close()


def test_a_step_that_cannot_be_captured_is_launched_each_time(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Waiting:
        """A vendor's step that waits for the stream, which no capture allows."""

        version = "1"

        def prepare(self, record: Any, blob: Any, /) -> "Waiting":
            return self

        def launch(self, stream: int, address: Any, /) -> None:
            from enginewright_runtime.engine.cuda import streams

            streams.external(stream).synchronize()

    monkeypatch.setattr(steps, "library", lambda name: Waiting())
    program, blobs, expected = tiny.chain()
    waits = Step(layer="waits", cudnn=CudnnGraph(graph="g", tensors={}))
    program = replace(program, steps=(program.steps[0], waits, program.steps[1]))
    made = tiny.loaded(program, {**blobs, "g": b"graph"})
    assert "The steps are launched one by one: The GPU did not capture" in made.notes[0]
    for scale in (1, 2):
        np.testing.assert_array_equal(made.run({"x": tiny.X * scale})["y"], expected(tiny.X * scale))
    made.close()


def test_an_executor_gives_host_arrays(tiny: Any) -> None:
    made, expected = tiny.executor()
    assert made.notes == ()
    for scale in (1, 2, 3):
        np.testing.assert_array_equal(made.run({"x": tiny.X * scale})["y"], expected(tiny.X * scale))
    made.close()


def test_outputs_of_earlier_runs_stay_as_they_were(tiny: Any) -> None:
    made, expected = tiny.executor()
    first = made.run({"x": tiny.X})["y"]
    made.run({"x": tiny.X * 5})
    np.testing.assert_array_equal(first, expected(tiny.X))
    made.close()


def test_two_engines_and_several_contexts_run_at_once(tiny: Any) -> None:
    makers = [tiny.executor(contexts=3, scale=1.0), tiny.executor(contexts=2, scale=5.0)]
    wrong: list[str] = []

    def work(which: int, seed: int) -> None:
        made, expected = makers[which]
        generator = np.random.default_rng(seed)
        for _ in range(200):
            x = generator.standard_normal(tiny.COUNT).astype(np.float32)
            if not np.array_equal(made.run({"x": x})["y"], expected(x)):
                wrong.append(f"engine {which}, seed {seed}")

    workers = [threading.Thread(target=work, args=(seed % 2, seed)) for seed in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
    for made, _ in makers:
        made.close()


def test_arrays_of_cupy_go_in_without_the_host(tiny: Any) -> None:
    cupy = pytest.importorskip("cupy")
    made, expected = tiny.executor()
    np.testing.assert_array_equal(made.run({"x": cupy.asarray(tiny.X)})["y"], expected(tiny.X))
    made.close()


def test_outputs_on_the_device_are_read_by_cupy_both_ways(tiny: Any) -> None:
    cupy = pytest.importorskip("cupy")
    made, expected = tiny.executor()
    y = made.run_device({"x": tiny.X})["y"]
    np.testing.assert_array_equal(cupy.asnumpy(cupy.from_dlpack(y)), expected(tiny.X))
    np.testing.assert_array_equal(cupy.asnumpy(cupy.asarray(y)), expected(tiny.X))
    assert cupy.asarray(y).data.ptr == y.address
    made.close()


def test_tensors_of_torch_go_in_and_out_without_the_host(tiny: Any) -> None:
    torch = pytest.importorskip("torch")
    made, expected = tiny.executor()
    for scale in (1.0, 2.0):
        x = torch.from_numpy(tiny.X).cuda() * scale
        y = torch.from_dlpack(made.run_device({"x": x})["y"])
        np.testing.assert_array_equal(y.cpu().numpy(), expected(tiny.X * np.float32(scale)))
    made.close()


def test_bfloat16_goes_in_and_out_through_dlpack(tiny: Any) -> None:
    torch = pytest.importorskip("torch")
    x, y = Pointer(space=Space.INPUT, name="x"), Pointer(space=Space.OUTPUT, name="y")
    tensors = [Tensor(name=name, dtype="bfloat16", shape=(2, 8), bytes=32) for name in "xy"]
    launches = (Step(layer="copy", copy=Copy(source=x, target=y, bytes=32)),)
    program = DeviceProgram(inputs=(tensors[0],), outputs=(tensors[1],), arena_bytes=0, steps=launches)
    made = tiny.loaded(program, {})
    given = torch.arange(16, dtype=torch.bfloat16, device="cuda").reshape(2, 8)
    assert torch.equal(torch.from_dlpack(made.run_device({"x": given})["y"]), given)
    made.close()


def test_any_thread_may_run_with_arrays_on_the_device(tiny: Any) -> None:
    cupy = pytest.importorskip("cupy")
    made, expected = tiny.executor()
    given, found = cupy.asarray(tiny.X), []
    worker = threading.Thread(target=lambda: found.append(made.run({"x": given})["y"]))
    worker.start()
    worker.join()
    np.testing.assert_array_equal(found[0], expected(tiny.X))
    made.close()


def test_an_engine_runs_a_plan_on_the_gpu(tiny: Any, tmp_path: Path) -> None:
    with Engine(tiny.plan(tmp_path)) as engine:
        np.testing.assert_array_equal(engine.infer(tiny.X)["y"], tiny.chain()[2](tiny.X))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"compute_capability": "7.5"}, r"compute capability: built for 7\.5, this machine has \d+\.\d"),
        ({"product": "Tesla-T4"}, r"product: built for Tesla-T4, this machine has "),
        ({"mig_profile": "9g.999gb"}, r"MIG profile: built for 9g\.999gb, this machine has "),
        ({"memory": 1 << 50}, r"memory: built for 1048576\.0 GiB, this machine has \d+\.\d GiB"),
        ({"driver": "9999.1"}, r"driver: built with 9999\.1, this machine has the older \d+"),
        ({"program": {"libraries": {"cudnn": "1.0"}}}, r"version of cudnn: built for 1\.0, this machine has \d+"),
    ],
)
def test_a_plan_for_another_device_is_refused_with_the_difference_in_words(
    tiny: Any, tmp_path: Path, other: dict[str, Any], words: str
) -> None:
    with pytest.raises(TargetMismatchError, match=words):
        Engine(tiny.plan(tmp_path, **other))


def test_an_engine_that_does_not_fit_says_what_is_missing_and_what_to_change(tiny: Any, tmp_path: Path) -> None:
    words = r"needs 1099511627776 bytes of GPU memory, and \d+ of \d+ are free, so \d+ are missing: .*smaller batch"
    with pytest.raises(DeviceMemoryError, match=words):
        Engine(tiny.plan(tmp_path, program={"arena_bytes": 1 << 40}))
    with Engine(tiny.plan(tmp_path)) as engine:  # and the GPU is as usable as before
        np.testing.assert_array_equal(engine.infer(tiny.X)["y"], tiny.chain()[2](tiny.X))


def test_an_engine_leaves_outputs_on_the_device(tiny: Any, tmp_path: Path) -> None:
    cupy = pytest.importorskip("cupy")
    with Engine(tiny.plan(tmp_path)) as engine:
        y = cupy.from_dlpack(engine.infer_on_device(cupy.asarray(tiny.X))["y"])
        np.testing.assert_array_equal(cupy.asnumpy(y), tiny.chain()[2](tiny.X))


def test_a_fresh_process_answers_and_loads_no_compiler(tiny: Any, tmp_path: Path) -> None:
    script = (
        "import sys, numpy; from enginewright_runtime.engine.engine import Engine; "
        f"print(Engine({str(tiny.plan(tmp_path))!r}).infer(numpy.zeros({tiny.COUNT}, numpy.float32))['y'][1]); "
        "print([name for name in ('triton', 'torch', 'onnx', 'cuda.bindings.nvrtc') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split("\n")[:2] == ["2.0", "[]"]


def test_a_reserved_context_runs_in_place_on_the_callers_stream(tiny: Any, tmp_path: Path) -> None:
    cupy = pytest.importorskip("cupy")
    with Engine(tiny.plan(tmp_path)) as engine, engine.reserve() as own:
        stream = cupy.cuda.Stream(non_blocking=True)
        x, y = cupy.from_dlpack(own.inputs["x"]), cupy.from_dlpack(own.outputs["y"])
        with stream:
            for scale in (1, 2, 3):
                x[...] = cupy.asarray(tiny.X) * scale
                own.run(stream.ptr)
                np.testing.assert_array_equal(cupy.asnumpy(y), tiny.chain()[2](tiny.X * scale))
        stream.synchronize()
