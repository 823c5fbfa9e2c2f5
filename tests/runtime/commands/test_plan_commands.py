"""inspect, infer and bench: what they print, as text and as JSON, and what they refuse."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginewright_runtime import cli
from enginewright_runtime.commands import inspection
from enginewright_runtime.plan.manifest import Arena

MakePlan = Callable[..., Path]
Capture = pytest.CaptureFixture[str]
X = np.ones((2, 4), np.float32)
SCORES = np.array([[0, 2, 6], [0, 2, 6]], np.float32)
REPORT: dict[str, Any] = {
    "notes": ["a note [with brackets]"],
    "weights_bytes": 2048,
    "accuracy": {"model": 0.99, "plan": 0.98, "samples": 100},
    "gates": [{"gate": "latency", "passed": True, "measured": 0.1, "limit": 5.0, "unit": "ms"}],
    "schedules": [
        {
            "layers_before": 24,
            "layers_after": 9,
            "layer_kinds": {"FusedConv": 4},
            "tactic": "threads1",
            "why": "the fastest that is right",
            "latency_ms": {"p50": 0.03, "p99": 0.05},
            "passes": [
                {
                    "name": "fuse-epilogues",
                    "changed": True,
                    "details": ["conv1 takes relu1"],
                    "declined": ["conv2: read twice"],
                },
                {"name": "nothing", "changed": False},
            ],
            "candidates": [
                {"name": "threads1", "median_ms": 0.03, "p99_ms": 0.05, "error": 0.0, "chosen": True},
                {"name": "int8", "error": 0.5, "dropped": "its error is 0.5, and 0.001 is allowed"},
            ],
        }
    ],
}


@pytest.fixture
def plan(make_plan: MakePlan, models: Any) -> Path:
    return make_plan(models.small(), goldens=[(0, {"x": X}, {"scores": SCORES})], report=REPORT)


def run(capsys: Capture, *words: object) -> str:
    assert cli.main([str(word) for word in words]) == 0
    return capsys.readouterr().out


def refusal(capsys: Capture, *words: object) -> str:
    assert cli.main([str(word) for word in words]) != 0
    return capsys.readouterr().err


def test_inspect_tells_what_a_person_wants_to_know(
    capsys: Capture, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    told = run(capsys, "inspect", plan)
    for part in (
        "small.plan",
        "cpu, ",
        "x float32 [2, 4]",
        "scores float32 [2, 3]",
        "24 before, 9 after",
        "conv1 takes relu1",
        "not conv2: read twice",
        "threads1: the fastest that is right",
        "its error is 0.5, and 0.001 is allowed",
        "latency passed: 0.1 ms, limit 5.0 ms",
        "a note [with brackets]",
        "model 0.99, plan 0.98, samples 100",
        "segments/0.onnx",
        "2 KiB, shared by all schedules",
    ):
        assert part in told, part
    assert "nothing" not in told


def test_inspect_fits_80_columns_with_every_sha256_in_one_piece(
    capsys: Capture, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    manifest = json.loads(run(capsys, "inspect", plan, "--json"))
    for options in ((), ("--all",)):
        lines = [line.rstrip() for line in run(capsys, "inspect", plan, *options).splitlines()]
        assert max(map(len, lines)) <= 80
        assert [line.split() for line in lines if line.endswith(manifest["digest"])] == [["digest", manifest["digest"]]]
        assert any(line.endswith(manifest["recipe"]["model"].removeprefix("sha256:")) for line in lines)


def test_inspect_says_what_is_decisive_on_the_first_screen(capsys: Capture, plan: Path) -> None:
    first = "\n".join(run(capsys, "inspect", plan).splitlines()[:24])
    for part in ("digest", "target", "inputs", "24 before", "9 after", "p50 0.03", "latency passed"):
        assert part in first, part


def test_passes_that_did_not_make_what_is_served_are_said_to_be_so(
    capsys: Capture, make_plan: MakePlan, models: Any
) -> None:
    (schedule,) = REPORT["schedules"]
    untouched = make_plan(models.small(), report={"schedules": [{**schedule, "variant": "untouched"}]})
    assert "made the other variant, which was not chosen" in run(capsys, "inspect", untouched)
    fused = make_plan(models.small(), report={"schedules": [{**schedule, "variant": "fused"}]})
    assert "not chosen" not in run(capsys, "inspect", fused)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (1023, "1,023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1 MiB"),
        (1 << 30, "1 GiB"),
        (5 << 40, "5 TiB"),
        (1 << 60, "1,048,576 TiB"),
    ],
)
def test_bytes_in_words(count: int, words: str) -> None:
    assert inspection.size(count) == words


def test_inspect_as_json_is_the_manifest(capsys: Capture, plan: Path) -> None:
    manifest = json.loads(run(capsys, "inspect", plan, "--json"))
    assert manifest["report"] == REPORT
    assert manifest["target"]["kind"] == "cpu"


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"schedules": "none", "gates": 7, "notes": {"a": 1}, "accuracy": [], "weights_bytes": "many"},
        {"schedules": [{"passes": [3], "candidates": ["x"], "latency_ms": 4, "layer_kinds": []}], "gates": [None]},
    ],
)
def test_inspect_bears_any_report(capsys: Capture, make_plan: MakePlan, models: Any, report: dict[str, Any]) -> None:
    assert "Schedule 0" in run(capsys, "inspect", make_plan(models.small(), report=report))


def test_inspect_of_what_is_no_plan_says_so(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "x.plan").write_bytes(b"x" * 100)
    assert "is not a plan: it starts with" in refusal(capsys, "inspect", tmp_path / "x.plan")
    assert "cannot be read: No such file" in refusal(capsys, "inspect", tmp_path / "y.plan")


def test_infer_takes_npy_and_npz_by_name_or_alone(capsys: Capture, plan: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "x.npz", x=X)
    for word in (f"x={tmp_path}/x.npy", f"{tmp_path}/x.npy", f"{tmp_path}/x.npz", f"x={tmp_path}/x.npz"):
        assert run(capsys, "infer", plan, "--input", word) == "scores: float32 [2, 3] [0, 2, 6, 0, 2, 6]\n"


def test_infer_writes_outputs_and_json(capsys: Capture, plan: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    told = json.loads(run(capsys, "infer", plan, "-i", tmp_path / "x.npy", "--output-dir", tmp_path / "out", "--json"))
    scores = told["outputs"]["scores"]
    assert scores["data"] == [0, 2, 6, 0, 2, 6]
    assert scores["shape"] == [2, 3]
    np.testing.assert_array_equal(np.load(scores["file"]), SCORES)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("x={}/none.npy", "cannot be read: No such file"),
        ("x={}/bad.npy", "is not what numpy.save or numpy.savez write"),
        ("x={}/empty.npy", "is not what numpy.save or numpy.savez write"),
        ("x={}/two.npz", "holds a, b: give it without a name"),
        ("y={}/x.npy", "The engine has no input 'y'"),
        ("x={}/double.npy", "must be float32, got float64"),
    ],
)
def test_infer_refuses_what_does_not_fit(capsys: Capture, plan: Path, tmp_path: Path, word: str, sentence: str) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "double.npy", X.astype(float))
    np.savez(tmp_path / "two.npz", a=X, b=X)
    (tmp_path / "bad.npy").write_bytes(b"not an array")
    (tmp_path / "empty.npy").write_bytes(b"")
    assert sentence in refusal(capsys, "infer", plan, "--input", word.format(tmp_path))


def test_pickles_are_never_read(capsys: Capture, plan: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], object), allow_pickle=True)
    assert "is not what numpy.save" in refusal(capsys, "infer", plan, "--input", tmp_path / "p.npy")


def test_bench_times_every_schedule(capsys: Capture, make_plan: MakePlan, models: Any) -> None:
    plan = make_plan(models.small(2), models.small(8))
    told = json.loads(run(capsys, "bench", plan, "--seconds", "0.05", "--threads", "1", "--json"))
    assert [each["shapes"] for each in told["schedules"]] == ["x [2, 4]", "x [8, 4]"]
    for each in told["schedules"]:
        assert 0 < each["p50_ms"] <= each["p90_ms"] <= each["p99_ms"]
        assert each["throughput_per_second"] > 0
    assert told["machine"]["libraries"]["onnxruntime"]


def test_bench_at_once_prints_a_table(capsys: Capture, plan: Path) -> None:
    told = run(capsys, "bench", plan, "--seconds", "0.05", "--concurrency", "2")
    assert "p99 ms" in told
    assert "x [2, 4]" in told
    assert "2 at once" in told


def test_bench_refuses_a_plan_that_is_wrong(capsys: Capture, make_plan: MakePlan, models: Any) -> None:
    plan = make_plan(models.small(), goldens=[(0, {"x": X}, {"scores": SCORES * 2})])
    assert "does not give its golden output" in refusal(capsys, "bench", plan, "--seconds", "0.05")


def test_bench_needs_values_where_shapes_are_free(
    capsys: Capture, make_plan: MakePlan, models: Any, tmp_path: Path
) -> None:
    plan = make_plan(models.one_node("Relu", {"x": (1, ["n"])}, {"y": (1, ["n"])}))
    assert "'x' has no fixed shape: give values for it with --input" in refusal(capsys, "bench", plan)
    np.save(tmp_path / "x.npy", np.ones(3, np.float32))
    assert "x [3]" in run(capsys, "bench", plan, "--seconds", "0.05", "--input", tmp_path / "x.npy")


def test_inspect_names_each_candidate_that_was_dropped_on_a_gpu_and_why(
    capsys: Capture, make_plan: MakePlan, models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    crashed = {"tactic": "cudnn", "name": "engine 3", "dropped": "fails: the process that ran it was ended by SIGABRT."}
    slower = {"tactic": "generated", "name": "rows", "microseconds": 4.5}
    tactic = {
        "layers": ["conv1", "conv2"], "tactic": "hopper gemm", "name": "128x64", "microseconds": 3.2,
        "rivals": [slower, crashed], "more_dropped": 2,
    }  # fmt: skip
    report = {"schedules": [{"layers_before": 2, "layers_after": 1, "tactics": [tactic]}]}
    told = run(capsys, "inspect", make_plan(models.small(), report=report))
    for part in (
        "conv1 and 1 like it",
        "generated 4.5, 3 dropped",
        "not cudnn: engine 3 for conv1: fails: the process that ran it was ended by SIGABRT.",
    ):
        assert part in told, part


def test_inspect_shows_the_arena_beside_what_it_saves_and_what_it_cannot_beat(
    capsys: Capture, make_plan: MakePlan, models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    arena = Arena(bytes=3 << 20, sum_of_tensors=40 << 20, lower_bound=2 << 20)
    schedule = replace(models.schedule(models.small(), "segments/0.onnx"), arena=arena)
    told = run(capsys, "inspect", make_plan(models.small(), schedules=[schedule]))
    assert "3 MiB (40 MiB without sharing, at least 2 MiB)" in told
