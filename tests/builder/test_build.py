"""The whole build on small models: from a request to a plan that is proven and stored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import enginewright_runtime
from enginewright_builder import build as builder
from enginewright_builder import identities
from enginewright_builder.gates import GatesFailedError
from enginewright_builder.progress import Silent
from enginewright_builder.tuning.allowance import NO_TIME
from enginewright_runtime.engine import available
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.errors import (
    EnginewrightError,
    InputError,
    ModelChangedError,
    ModelError,
    StorageDeniedError,
    TargetMismatchError,
    UnsupportedError,
    UsageError,
)
from enginewright_runtime.plan.container import PlanFile
from enginewright_runtime.plan.manifest import Manifest
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.recipe import AccuracyGate, Effort, Gates, LatencyGate, Metric, Precision, Recipe
from enginewright_runtime.plan.request import BuildRequest, BuildResult
from enginewright_runtime.plan.target import TargetKind, TargetRequirement
from enginewright_runtime.storage import folder, uris

RNG = np.random.default_rng(7)
WEIGHTS = RNG.standard_normal((16, 64)).astype(np.float32)


def save(path: Path, nodes: list[onnx.NodeProto], inputs: dict[str, list[object]], outputs: list[str]) -> Path:
    """A model of these nodes; initializers are w [16, 64] and b [64]."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    outs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in outputs]
    constants = [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(np.ones(64, np.float32), "b")]
    graph = helper.make_graph(nodes, "g", infos, outs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """x [batch, 16] -> hidden -> y [batch, 64]"""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="matmul"),
        helper.make_node("Add", ["m", "b"], ["hidden"], name="add"),
        helper.make_node("Relu", ["hidden"], ["y"], name="relu"),
    ]
    return save(tmp_path / "model.onnx", nodes, {"x": ["batch", 16]}, ["y"])


def request(model: Path, tmp_path: Path, /, **changes: object) -> BuildRequest:
    recipe = Recipe(
        model=identities.of(model),
        target=TargetRequirement(kind=TargetKind.CPU),
        builder=enginewright_runtime.__version__,
        effort=Effort.FAST,
    )
    return BuildRequest(
        recipe=replace(recipe, **changes),
        model=uris.from_path(model),
        destination=uris.from_path(tmp_path / "out" / "engine.plan"),
    )


def run(ordered: BuildRequest, tmp_path: Path, name: str = "work") -> BuildResult:
    return builder.build(ordered, progress=Silent(), workdir=tmp_path / name)


def manifest(tmp_path: Path) -> Manifest:
    with PlanFile(tmp_path / "out" / "engine.plan") as plan:
        plan.verify()
        return plan.manifest


def test_a_model_becomes_a_plan_that_computes_the_same(model: Path, tmp_path: Path) -> None:
    result = run(request(model, tmp_path, batch_sizes=(1, 4)), tmp_path)
    assert result.outcome == Outcome.DONE.name
    x = RNG.standard_normal((4, 16)).astype(np.float32)
    with Engine(tmp_path / "out" / "engine.plan") as engine:
        engine.replay_goldens()
        np.testing.assert_allclose(engine.infer(x)["y"], np.maximum(x @ WEIGHTS + 1, 0), rtol=1e-4, atol=1e-5)


def test_the_result_names_the_digest_and_the_plans_bytes(model: Path, tmp_path: Path) -> None:
    ordered = request(model, tmp_path)
    result = run(ordered, tmp_path)
    data = (tmp_path / "out" / "engine.plan").read_bytes()
    assert result.digest == ordered.recipe.digest
    assert result.plan_bytes == len(data)
    assert f"sha256:{result.plan_sha256}" == identities.of(tmp_path / "out" / "engine.plan")
    assert result.layers_before == 3
    assert 0 < result.latency_ms["p50"] <= result.latency_ms["p99"]


def test_shapes_share_their_weights_in_the_plan(model: Path, tmp_path: Path) -> None:
    run(request(model, tmp_path, batch_sizes=(1, 2, 4)), tmp_path)
    found = manifest(tmp_path)
    weights = [name for name in found.blobs if name.startswith("weights/")]
    assert len(found.schedules) == 3
    assert len(weights) == 1
    assert found.blobs[weights[0]].bytes == WEIGHTS.nbytes


def test_every_schedule_has_goldens_and_a_report_of_its_candidates(model: Path, tmp_path: Path) -> None:
    run(request(model, tmp_path, batch_sizes=(1, 4)), tmp_path)
    found = manifest(tmp_path)
    assert {golden.schedule for golden in found.goldens} == {0, 1}
    for schedule in found.report["schedules"]:
        assert sum(bool(each.get("chosen")) for each in schedule["candidates"]) == 1
        assert schedule["checked_with"].startswith("random inputs")


def test_batch_1_is_built_where_only_the_batch_is_free_and_the_report_says_so(model: Path, tmp_path: Path) -> None:
    run(request(model, tmp_path), tmp_path)
    found = manifest(tmp_path)
    assert found.schedules[0].inputs[0].shape == (1, 16)
    assert any("built for batch 1" in note for note in found.report["notes"])


def test_a_named_output_of_a_layer_is_what_the_plan_computes(model: Path, tmp_path: Path) -> None:
    run(request(model, tmp_path, outputs=("hidden",)), tmp_path)
    assert [binding.name for binding in manifest(tmp_path).schedules[0].outputs] == ["hidden"]


def test_an_unknown_output_is_refused_with_those_that_there_are(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"'hiden'.*'hidden'"):
        run(request(model, tmp_path, outputs=("hiden",)), tmp_path)


def test_a_model_that_was_replaced_is_refused_with_both_identities(model: Path, tmp_path: Path) -> None:
    ordered = request(model, tmp_path)
    with model.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelChangedError, match=r"wanted sha256:.*, got sha256:.*order the build again"):
        run(ordered, tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_model_known_by_the_stores_version_is_built(model: Path, tmp_path: Path) -> None:
    version = folder.FolderStore().head(uris.from_path(model)).version
    run(request(model, tmp_path, model=f"version:{version}"), tmp_path)
    with pytest.raises(ModelChangedError):
        run(request(model, tmp_path, model="version:another"), tmp_path, "again")


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x08\x09\x12"])
def test_a_file_that_is_no_model_is_refused_by_name(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"broken\.onnx.*fetch it again"):
        run(request(path, tmp_path), tmp_path)


def test_a_truncated_model_is_refused_by_name(model: Path, tmp_path: Path) -> None:
    model.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.onnx"):
        run(request(model, tmp_path), tmp_path)


def test_a_missing_model_is_the_models_fault_and_not_the_storages(model: Path, tmp_path: Path) -> None:
    ordered = request(model, tmp_path)
    model.unlink()
    with pytest.raises(ModelError, match=r"model\.onnx does not exist") as caught:
        run(ordered, tmp_path)
    assert caught.value.outcome is Outcome.BAD_MODEL


def test_a_destination_that_cannot_be_written_fails_with_its_name(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ordered = replace(request(model, tmp_path), destination=uris.from_path(tmp_path / "file" / "engine.plan"))
    with pytest.raises(EnginewrightError, match=r"engine\.plan"):
        run(ordered, tmp_path)


def test_a_store_that_does_not_answer_fails_as_storage(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object, uri: str, path: Path, *, durable: bool) -> None:
        raise StorageDeniedError(f"{uri} cannot be read: the store refuses.")

    monkeypatch.setattr(folder.FolderStore, "download", refuse)
    with pytest.raises(StorageDeniedError, match="the store refuses"):
        run(request(model, tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        ({"image": (1, 16)}, "no input 'image'.*'x'"),
        ({"x": (1, 17)}, "does not fit input 'x'.*17"),
        ({"x": (1, 16, 1)}, "got 3 dimensions"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(
    shapes: dict[str, tuple[int, ...]], sentence: str, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=sentence):
        run(request(model, tmp_path, shapes=(shapes,)), tmp_path)


def test_free_dimensions_beyond_the_batch_are_named_with_the_flag_to_give(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="relu")]
    path = save(tmp_path / "free.onnx", nodes, {"x": [1, "width"]}, ["y"])
    with pytest.raises(UsageError, match=r"'x' \[1, width\].*--shape x=1x224"):
        run(request(path, tmp_path), tmp_path)


def test_the_first_of_two_builders_wins_and_the_second_succeeds_with_its_plan(model: Path, tmp_path: Path) -> None:
    ordered = request(model, tmp_path)
    first = run(ordered, tmp_path)
    second = run(ordered, tmp_path, "second")
    assert second.outcome == Outcome.DONE.name
    assert "was first" in second.message
    assert (second.plan_sha256, second.layers_before) == (first.plan_sha256, first.layers_before)
    assert second.latency_ms == first.latency_ms


def test_a_builder_that_loses_at_the_very_end_succeeds_too(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered = request(model, tmp_path)
    first = run(ordered, tmp_path)
    monkeypatch.setattr(builder.delivery, "already_there", _once_absent(builder.delivery.already_there))
    second = run(ordered, tmp_path, "second")
    assert "was first" in second.message
    assert second.plan_sha256 == first.plan_sha256


def _once_absent(real: object) -> object:
    calls = []

    def look(*words: object, **named: object) -> object:
        calls.append(words)
        return None if len(calls) == 1 else real(*words, **named)  # type: ignore[operator]

    return look


def test_a_damaged_plan_at_the_destination_is_replaced(model: Path, tmp_path: Path) -> None:
    ordered = request(model, tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "engine.plan").write_bytes(b"half a plan")
    assert run(ordered, tmp_path).outcome == Outcome.DONE.name
    assert manifest(tmp_path).digest == ordered.recipe.digest


def test_a_gate_that_fails_stores_nothing_and_tells_every_verdict(model: Path, tmp_path: Path) -> None:
    gates = Gates(latency=LatencyGate(batch=1, p99_ms=1e-6), memory=8 << 30)
    with pytest.raises(GatesFailedError, match="latency gate: p99 at batch 1 is") as caught:
        run(request(model, tmp_path, gates=gates), tmp_path)
    result = caught.value.result
    assert [(verdict.gate, verdict.passed) for verdict in result.gates] == [("latency", False), ("memory", True)]
    assert BuildResult.from_termination_message(result.to_termination_message()) == result
    assert not (tmp_path / "out").exists()


def test_an_accuracy_gate_passes_on_its_data_with_labels(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "test.npz"
    x = RNG.standard_normal((7, 16)).astype(np.float32)
    np.savez(data, x=x, labels=(x @ WEIGHTS).argmax(axis=1))
    gates = Gates(accuracy=AccuracyGate(data=identities.of(data), max_drop=0.0))
    ordered = replace(request(model, tmp_path, gates=gates, batch_sizes=(4,)), accuracy_data=uris.from_path(data))
    (verdict,) = run(ordered, tmp_path).gates
    assert verdict.passed
    assert "top1 fell by 0 (1 -> 1) on 7 samples" in verdict.message


def test_an_accuracy_gate_that_fails_in_the_models_own_precision_says_that_no_layer_is_coarser(
    model: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data.npz"
    np.savez(data, x=RNG.standard_normal((8, 16)).astype(np.float32))
    gates = Gates(accuracy=AccuracyGate(data=identities.of(data), max_drop=-0.5), memory=1)
    ordered = replace(request(model, tmp_path, gates=gates, batch_sizes=(4,)), accuracy_data=uris.from_path(data))
    with pytest.raises(GatesFailedError, match=r"the limit is -0\.5; no layer is in a lower precision") as caught:
        run(ordered, tmp_path)
    memory = caught.value.result.gates[1].message
    assert "the plan's weights and programs are" in memory
    assert "weights" in memory.split("(")[1]


def test_gate_data_without_the_inputs_is_refused_by_name(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "test.npz"
    np.savez(data, image=np.zeros((2, 16), np.float32))
    gates = Gates(accuracy=AccuracyGate(data=identities.of(data), max_drop=0.0, metric=Metric.COSINE))
    ordered = replace(request(model, tmp_path, gates=gates), accuracy_data=uris.from_path(data))
    with pytest.raises(InputError, match=r"accuracy gate's data.*'image', which is no input.*'x'"):
        run(ordered, tmp_path)


def test_a_latency_gate_for_a_batch_that_is_not_built_is_refused(model: Path, tmp_path: Path) -> None:
    gates = Gates(latency=LatencyGate(batch=3, p99_ms=1000))
    with pytest.raises(UsageError, match="for batch 3, and the plan is built for 1"):
        run(request(model, tmp_path, gates=gates), tmp_path)


def test_calibration_samples_are_what_candidates_are_checked_with(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "calibration.npz"
    np.savez(data, x=RNG.standard_normal((3, 16)).astype(np.float32))
    ordered = replace(request(model, tmp_path, calibration=identities.of(data)), calibration=uris.from_path(data))
    run(ordered, tmp_path)
    assert manifest(tmp_path).report["schedules"][0]["checked_with"] == "calibration samples"


def test_a_model_that_draws_random_numbers_is_left_untouched_and_the_report_says_why(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["r"], name="noise"),
        helper.make_node("Add", ["x", "r"], ["y"], name="add"),
    ]
    path = save(tmp_path / "random.onnx", nodes, {"x": [1, 16]}, ["y"])
    run(request(path, tmp_path), tmp_path)
    found = manifest(tmp_path)
    (schedule,) = found.report["schedules"]
    assert schedule["variant"] == "untouched"
    assert "'noise' (RandomNormalLike) gives other results" in schedule["checked_with"]
    assert not found.goldens


def test_other_targets_machines_builders_and_formats_are_refused_with_a_way_out(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = TargetRequirement(kind=TargetKind.CUDA)
    monkeypatch.setattr(available, "describe_cuda", lambda: None)
    with pytest.raises(TargetMismatchError, match="no NVIDIA GPU here to build for"):
        run(request(model, tmp_path, target=cuda), tmp_path)
    other = TargetRequirement(kind=TargetKind.CPU, architecture="vax")
    with pytest.raises(TargetMismatchError, match="wanted vax"):
        run(request(model, tmp_path, target=other), tmp_path)
    with pytest.raises(UsageError, match=r"for builder 0.0"):
        run(request(model, tmp_path, builder="0.0"), tmp_path)
    with pytest.raises(UsageError, match="names 1 plugins, and the request 0 URIs"):
        run(request(model, tmp_path, plugins=("p",)), tmp_path)


def test_a_precision_without_tactics_is_noted(model: Path, tmp_path: Path) -> None:
    run(request(model, tmp_path, precisions=(Precision.FP32, Precision.INT8)), tmp_path)
    assert any(note.startswith("int8 allowed") for note in manifest(tmp_path).report["notes"])


def test_a_model_with_external_data_is_built_from_storage(model: Path, tmp_path: Path) -> None:
    proto = onnx.load(model)
    (tmp_path / "big").mkdir()
    path = tmp_path / "big" / "big.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="big.data", size_threshold=0)
    run(request(path, tmp_path), tmp_path)
    assert any(name.startswith("weights/") for name in manifest(tmp_path).blobs)
    (tmp_path / "big" / "big.data").unlink()
    (tmp_path / "out" / "engine.plan").unlink()
    with pytest.raises(ModelError, match=r"'big\.data', which is not beside it"):
        run(request(path, tmp_path), tmp_path, "again")


def test_a_model_whose_data_lies_outside_its_folder_is_refused(model: Path, tmp_path: Path) -> None:
    proto = onnx.load(model)
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    model.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="leaves the model's folder"):
        run(request(model, tmp_path), tmp_path)


def test_a_small_budget_still_builds_a_right_plan_and_the_report_says_what_was_cut(model: Path, tmp_path: Path) -> None:
    run(replace(request(model, tmp_path, batch_sizes=(1, 2)), budget_seconds=0.001), tmp_path)
    found = manifest(tmp_path).report
    assert len([note for note in found["notes"] if note.startswith("Time ran out for x [")]) == 2
    for schedule in found["schedules"]:
        assert [each["dropped"] for each in schedule["candidates"][1:]] == [NO_TIME] * (len(schedule["candidates"]) - 1)


def test_a_deadline_that_is_nearly_over_still_builds_a_right_plan(model: Path, tmp_path: Path) -> None:
    run(replace(request(model, tmp_path), deadline_seconds=0.01), tmp_path)
    assert any(note.startswith("Time ran out for x [") for note in manifest(tmp_path).report["notes"])


def test_a_deadline_that_is_far_cuts_nothing(model: Path, tmp_path: Path) -> None:
    run(replace(request(model, tmp_path), deadline_seconds=3600.0), tmp_path)
    assert not any(note.startswith("Time ran out") for note in manifest(tmp_path).report["notes"])
