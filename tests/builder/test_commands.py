"""`enginewright build` and `compare` as a person and as a Job call them."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import enginewright_runtime
from enginewright_builder import build as builder
from enginewright_builder import identities
from enginewright_runtime import cli
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.recipe import Effort, Gates, LatencyGate, Recipe
from enginewright_runtime.plan.request import (
    REQUEST_VARIABLE,
    TERMINATION_VARIABLE,
    BuildRequest,
    BuildResult,
)
from enginewright_runtime.plan.target import TargetKind, TargetRequirement
from enginewright_runtime.storage import uris

RNG = np.random.default_rng(3)


def save(path: Path, weights: np.ndarray) -> Path:
    """x [batch, 4] times weights [4, 3]"""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "model.onnx", RNG.standard_normal((4, 3)).astype(np.float32))


@pytest.fixture
def plan(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    path = tmp_path / "built.plan"
    assert cli.main(["build", str(model), "-o", str(path), "--effort", "fast"]) == Outcome.DONE
    capfd.readouterr()
    return path


def order(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: Gates | None = None) -> Path:
    """Set the environment of a build Job; returns where its termination message goes."""
    recipe = Recipe(
        model=identities.of(model),
        target=TargetRequirement(kind=TargetKind.CPU),
        builder=enginewright_runtime.__version__,
        effort=Effort.FAST,
        gates=gates or Gates(),
    )
    destination = uris.from_path(tmp_path / "store" / "engine.plan")
    request = BuildRequest(recipe=recipe, model=uris.from_path(model), destination=destination)
    monkeypatch.setenv(REQUEST_VARIABLE, request.to_json())
    monkeypatch.setenv(TERMINATION_VARIABLE, str(tmp_path / "termination"))
    return tmp_path / "termination"


def told(path: Path) -> BuildResult:
    result = BuildResult.from_termination_message(path.read_text(encoding="utf-8"))
    assert result is not None
    return result


def test_a_build_ends_with_a_table_on_standard_output_and_progress_on_the_other(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.plan"
    assert cli.main(["build", str(model), "-o", str(path), "--effort", "fast", "--batch", "1,2"]) == Outcome.DONE
    out, err = capfd.readouterr()
    assert "x [1, 4]" in out
    assert "x [2, 4]" in out
    assert f"enginewright bench {path}" in out
    assert "Trying tactics" in err
    assert "Trying tactics" not in out


def test_json_is_one_object_on_standard_output(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["build", str(model), "-o", str(tmp_path / "x.plan"), "--effort", "fast", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["outcome"] == "DONE"
    assert result["plan_bytes"] == (tmp_path / "x.plan").stat().st_size


def test_a_plan_of_before_is_replaced(model: Path, plan: Path) -> None:
    plan.write_bytes(b"old")
    assert cli.main(["build", str(model), "-o", str(plan), "--effort", "fast"]) == Outcome.DONE
    assert plan.stat().st_size > 1000


@pytest.mark.parametrize("suffix", ["html", "json"])
def test_a_report_is_written_as_its_suffix_says(suffix: str, model: Path, tmp_path: Path) -> None:
    path = tmp_path / f"report.{suffix}"
    words = ["build", str(model), "-o", str(tmp_path / "x.plan"), "--effort", "fast", "--report", str(path)]
    assert cli.main(words) == Outcome.DONE
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") if suffix == "html" else json.loads(text)["report"]["schedules"]


@pytest.mark.parametrize(
    ("words", "outcome", "sentence"),
    [
        (["--target", "tpu"], Outcome.USAGE, "--target must be one of cpu, cuda, got 'tpu'"),
        (["--shape", "x=1xfour"], Outcome.USAGE, "--shape must look like image=1x3x224x224, got 'x=1xfour'"),
        (["--shape", "image=1x4"], Outcome.USAGE, "no input 'image'"),
        (["--shape", "x=1x5"], Outcome.USAGE, "does not fit input 'x'"),
        (["--batch", "one"], Outcome.USAGE, "--batch must look like 1,8"),
        (["--batch", "2", "--shape", "x=1x4"], Outcome.USAGE, "exclude each other"),
        (["--output", "z"], Outcome.UNSUPPORTED, "no layer with the output 'z'"),
        (["--precision", "fp12"], Outcome.USAGE, "--precision must be one of"),
        (["--effort", "much"], Outcome.USAGE, "--effort must be one of fast, balanced, thorough, got 'much'"),
        (["--gate", "speed=1"], Outcome.USAGE, "--gate must be accuracy="),
        (["--gate", "latency=soon"], Outcome.USAGE, "A latency must look like 7ms"),
        (["--gate", "memory=lots"], Outcome.USAGE, "An amount of memory must look like 2Gi"),
        (["--gate", "accuracy=gone.npz"], Outcome.USAGE, "gone.npz does not exist"),
        (["--calibration", "gone.npz"], Outcome.USAGE, "gone.npz does not exist"),
        (["--report", "r.pdf"], Outcome.USAGE, "--report must end in .html or .json"),
        (["--gate", "latency=0.000001us"], Outcome.GATE_FAILED, "latency gate: p99"),
    ],
)
def test_a_word_that_does_not_fit_ends_with_its_outcome_and_a_sentence(
    words: list[str],
    outcome: Outcome,
    sentence: str,
    model: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "x.plan"
    assert cli.main(["build", str(model), "-o", str(path), "--effort", "fast", *words]) == outcome
    assert sentence in " ".join(capfd.readouterr().err.split())
    assert not path.exists()


def test_a_missing_model_or_plan_is_a_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["build", str(tmp_path / "gone.onnx"), "-o", str(tmp_path / "x.plan")]) == Outcome.BAD_MODEL
    assert "gone.onnx does not exist" in capfd.readouterr().err
    assert cli.main(["build"]) == Outcome.USAGE
    assert "enginewright build MODEL -o X.plan" in capfd.readouterr().err


def test_a_job_writes_its_result_as_the_termination_message(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    termination = order(model, tmp_path, monkeypatch)
    assert cli.main(["build", "--request-from-environment"]) == Outcome.DONE
    result = told(termination)
    assert result.outcome == "DONE"
    assert result.plan_bytes == (tmp_path / "store" / "engine.plan").stat().st_size


def test_a_job_that_fails_writes_its_outcome_and_sentence(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    termination = order(model, tmp_path, monkeypatch)
    model.write_bytes(b"replaced")
    assert cli.main(["build", "--request-from-environment"]) == Outcome.MODEL_CHANGED
    assert told(termination).outcome == "MODEL_CHANGED"
    assert "order the build again" in told(termination).message


def test_a_job_whose_gate_fails_writes_the_verdicts(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    termination = order(model, tmp_path, monkeypatch, Gates(latency=LatencyGate(p99_ms=1e-9)))
    assert cli.main(["build", "--request-from-environment"]) == Outcome.GATE_FAILED
    (verdict,) = told(termination).gates
    assert (verdict.gate, verdict.passed) == ("latency", False)


@pytest.mark.parametrize("text", ["", "{", '{"model": 1}'])
def test_a_job_without_a_readable_request_says_so(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUEST_VARIABLE, text)
    monkeypatch.setenv(TERMINATION_VARIABLE, str(tmp_path / "termination"))
    assert cli.main(["build", "--request-from-environment"]) == Outcome.USAGE
    assert REQUEST_VARIABLE in told(tmp_path / "termination").message


def test_a_job_without_any_request_says_so(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(REQUEST_VARIABLE, raising=False)
    assert cli.main(["build", "--request-from-environment"]) == Outcome.USAGE
    assert "is not set" in capfd.readouterr().err


def test_a_build_that_is_ended_by_its_node_says_so_and_may_be_tried_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    termination = order(model, tmp_path, monkeypatch)
    monkeypatch.setattr(builder, "build", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["build", "--request-from-environment"]) == Outcome.INTERRUPTED
    assert told(termination).outcome == "INTERRUPTED"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_defect_of_ours_is_told_as_internal_and_raised(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    termination = order(model, tmp_path, monkeypatch)
    monkeypatch.setattr(builder, "build", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["build", "--request-from-environment"])
    assert told(termination).outcome == "INTERNAL"
    assert "ZeroDivisionError" in told(termination).message


def test_compare_finds_a_plan_and_its_model_alike(model: Path, plan: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", str(model), str(plan), "--samples", "3", "--json"]) == Outcome.DONE
    found = json.loads(capfd.readouterr().out)
    (difference,) = found["differences"]
    assert difference["output"] == "y"
    assert difference["top1"] == 1.0
    assert difference["cosine"] == pytest.approx(1.0)
    assert found["feeds"] == 3


def test_compare_takes_a_persons_own_input(
    model: Path, plan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.ones((1, 4), np.float32))
    assert cli.main(["compare", str(model), str(plan), "--input", f"x={tmp_path / 'x.npy'}"]) == Outcome.DONE
    assert "the given inputs" in capfd.readouterr().out


def test_compare_with_another_model_ends_badly_and_names_the_output(
    plan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = save(tmp_path / "other.onnx", RNG.standard_normal((4, 3)).astype(np.float32))
    assert cli.main(["compare", str(other), str(plan)]) == Outcome.BAD_PLAN
    assert "output 'y' is outside the bound of fp32" in capfd.readouterr().err
    assert cli.main(["compare", str(other), str(plan), "--json"]) == Outcome.BAD_PLAN
    assert json.loads(capfd.readouterr().out)["error"]["outcome"] == "BAD_PLAN"


@pytest.mark.parametrize("word", ["x", "x=", "=f.npy"])
def test_compare_refuses_an_input_that_is_no_pair(
    word: str, model: Path, plan: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", str(model), str(plan), "--input", word]) == Outcome.USAGE
    assert "--input must look like name=file.npy" in capfd.readouterr().err


def test_compare_refuses_an_input_file_that_is_none(
    model: Path, plan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.npy").write_bytes(b"no array")
    assert cli.main(["compare", str(model), str(plan), "--input", f"x={tmp_path / 'x.npy'}"]) == Outcome.USAGE
    assert "cannot be read as .npy" in capfd.readouterr().err
