"""The whole way on a GPU: a model to a proven plan, to an engine that answers as the model does."""

import json
import time
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from enginewright_builder import build, command_line, comparison
from enginewright_builder.network.definition import Network
from enginewright_builder.plugins import collection
from enginewright_builder.progress import Silent
from enginewright_builder.tuning import caching
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.errors import UnsupportedError
from enginewright_runtime.plan.container import PlanFile

pytestmark = pytest.mark.gpu
DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "model.onnx"
OF_THE_RANGE = {"": 1e-4, "tf32": 1e-2, "fp16": 1e-2, "bf16": 4e-2}  # errors of outputs, by precision
AROUND = 20.0  # seconds of a build that are not trying tactics, and of the trial that is under way when time is up
PLUGINS = DIGITS.parents[1] / "plugins" / "layers.py"
HOST_ONLY = """
<ir_version: 8, opset_import: ["" : 17]>
counting (float[4, 4] x) => (float[4, 4] y, int64[2, n] where)
{
    y = Relu (x)
    where = NonZero (y)
}
"""


@pytest.fixture(autouse=True)
def _own_timings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(caching.VARIABLE, str(tmp_path / "timings"))


def _build(model, plan, workdir, *, precisions="", allow_host=False, batches="", plugins=(), effort="fast", budget=""):
    request = command_line.request(
        model=model,
        output=plan,
        target="cuda",
        shapes=(),
        batches=batches,
        precisions=precisions,
        calibration=None,
        outputs=(),
        gate_words=(),
        effort=effort,
        budget=budget,
        allow_host=allow_host,
        plugins=plugins,
    )
    workdir.mkdir(exist_ok=True)
    return build.build(request, progress=Silent(), workdir=workdir, overwrite=True)


@pytest.mark.parametrize("precisions", ["", "tf32", "fp16", "bf16"])
def test_the_example_is_built_and_answers_as_the_model_does(tmp_path: Path, precisions: str) -> None:
    plan = tmp_path / "digits.plan"
    _build(DIGITS, plan, tmp_path / "work", precisions=precisions, batches="1,8")
    found = comparison.compare(DIGITS, plan, samples=4, given={})
    found.require_within(plan)
    assert max(each.relative for each in found.differences) <= OF_THE_RANGE[precisions]
    with Engine(plan) as engine:
        engine.replay_goldens()


@pytest.mark.parametrize("precisions", ["", "fp16"])
def test_a_plugins_kernel_runs_without_leave_for_its_plan_has_no_python(tmp_path: Path, precisions: str) -> None:
    model, plan = tmp_path / "own.onnx", tmp_path / "own.plan"
    own, network = collection.load([PLUGINS]), Network("own")
    weights = np.random.default_rng(0).standard_normal((16, 3, 3, 3))
    x = network.add_convolution(network.add_input("x", (2, 3, 32, 32)), 16, 3, weights, padding=1)
    for name in ("com.example.Swish", "com.example.Reorg"):
        (x,) = network.add_plugin(own[name], [x])
    network.mark_output(x, "y")
    network.save(model)
    _build(model, plan, tmp_path / "work", precisions=precisions, plugins=[PLUGINS])
    with Engine(plan) as engine:
        engine.replay_goldens()
    comparison.compare(model, plan, samples=2, given={}, plugins=[PLUGINS]).require_within(plan)


def _choices(plan: Path) -> tuple[str, str]:
    """The tactics as text, and the sha256 of the device program that was made of them."""
    with PlanFile(plan) as file:
        (schedule,) = file.manifest.schedules
        told = file.manifest.report["schedules"][0]["tactics"]
        return json.dumps(told), file.manifest.blobs[schedule.segments[0].blob].sha256


def test_a_second_build_measures_nothing_and_chooses_the_same_to_the_byte(tmp_path: Path) -> None:
    plans = [tmp_path / "first.plan", tmp_path / "second.plan"]
    for plan in plans:
        _build(DIGITS, plan, tmp_path / "work", precisions="fp16")
    assert _choices(plans[0]) == _choices(plans[1])


def test_a_second_builder_that_shares_the_cache_chooses_the_same_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(caching.VARIABLE, (tmp_path / "shared").as_uri())
    plans = [tmp_path / "first.plan", tmp_path / "second.plan"]
    seconds = []
    for plan in plans:
        monkeypatch.setattr(caching, "HERE", str(tmp_path / plan.stem))  # a machine of its own
        started = time.monotonic()
        _build(DIGITS, plan, tmp_path / "work", precisions="fp16")
        seconds.append(time.monotonic() - started)
    assert _choices(plans[0]) == _choices(plans[1])
    assert seconds[1] < seconds[0] / 2


def test_a_budget_is_kept_and_the_plan_is_right(tmp_path: Path) -> None:
    plan, started = tmp_path / "digits.plan", time.monotonic()
    _build(DIGITS, plan, tmp_path / "work", precisions="fp16", effort="thorough", budget="4s")
    assert time.monotonic() - started < 4 + AROUND
    with PlanFile(plan) as file:
        assert any(note.startswith("Time ran out") for note in file.manifest.report["notes"])
    comparison.compare(DIGITS, plan, samples=2, given={}).require_within(plan)


def test_what_the_gpu_cannot_run_is_named_or_runs_on_the_host(tmp_path: Path) -> None:
    model = tmp_path / "counting.onnx"
    ir.save(ir.from_onnx_text(HOST_ONLY), model)
    with pytest.raises(UnsupportedError, match=r"NonZero .*--allow-host"):
        _build(model, tmp_path / "x.plan", tmp_path / "work")
    _build(model, tmp_path / "x.plan", tmp_path / "work", allow_host=True)
    x = np.arange(16, dtype=np.float32).reshape(4, 4) - 8
    with Engine(tmp_path / "x.plan") as engine:
        given = engine.infer({"x": x})
    np.testing.assert_array_equal(given["y"], np.maximum(x, 0))
    np.testing.assert_array_equal(given["where"], np.nonzero(np.maximum(x, 0)))
