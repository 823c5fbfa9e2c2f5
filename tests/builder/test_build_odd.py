"""Builds of odd networks: control flow, sequences, text, and results that nothing but the reference gives."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import enginewright_runtime
from enginewright_builder import build as builder
from enginewright_builder import identities, measuring
from enginewright_builder.progress import Silent
from enginewright_builder.tuning import timer
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.plan.recipe import Effort, Recipe
from enginewright_runtime.plan.request import BuildRequest
from enginewright_runtime.plan.target import TargetKind, TargetRequirement
from enginewright_runtime.storage import uris


def built(tmp_path: Path, graph: onnx.GraphProto) -> Engine:
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    recipe = Recipe(
        model=identities.of(path),
        target=TargetRequirement(kind=TargetKind.CPU),
        builder=enginewright_runtime.__version__,
        effort=Effort.FAST,
    )
    destination = uris.from_path(tmp_path / "out" / "engine.plan")
    request = BuildRequest(recipe=recipe, model=uris.from_path(path), destination=destination)
    builder.build(request, progress=Silent(), workdir=tmp_path / "work")
    engine = Engine(tmp_path / "out" / "engine.plan")
    engine.replay_goldens()
    return engine


def tensor(name: str, kind: int, shape: list[object]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def test_an_output_whose_shape_depends_on_the_data_is_bound_as_free(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("NonZero", ["x"], ["y"])],
        "g",
        [tensor("x", TensorProto.FLOAT, [4])],
        [tensor("y", TensorProto.INT64, [1, "found"])],
    )
    with built(tmp_path, graph) as engine:
        assert engine.outputs[0].shape == (1, -1)
        np.testing.assert_array_equal(engine.infer(np.array([0, 1, 0, 2], np.float32))["y"], [[1, 3]])


def test_a_sequence_output_is_built_and_kept_out_of_the_goldens(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x", "x"], ["s"]), helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [tensor("x", TensorProto.FLOAT, [2])],
        [
            helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [2]),
            tensor("y", TensorProto.FLOAT, [2]),
        ],
    )
    with built(tmp_path, graph) as engine:
        assert engine.outputs[0].container == "sequence"
        assert [set(golden.outputs) for golden in engine.manifest.goldens] == [{"y"}]
        assert len(engine.infer(np.ones(2, np.float32))["s"]) == 2


def test_text_goes_through_a_plan(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [tensor("x", TensorProto.STRING, [2])],
        [tensor("y", TensorProto.STRING, [2])],
    )
    with built(tmp_path, graph) as engine:
        assert list(engine.infer({"x": ["a", "ü"]})["y"]) == ["a", "ü"]


def test_a_large_weight_that_only_a_body_reads_and_one_of_the_body_itself_survive(tmp_path: Path) -> None:
    outer = np.arange(600, dtype=np.float32)
    inner = outer * 2
    branches = {
        name: helper.make_graph(
            [helper.make_node("Add", ["outer", f"inner_{name}"], [f"r_{name}"])],
            name,
            [],
            [tensor(f"r_{name}", TensorProto.FLOAT, [600])],
            [numpy_helper.from_array(inner * factor, f"inner_{name}")],
        )
        for name, factor in (("yes", 1), ("no", -1))
    }
    node = helper.make_node("If", ["c"], ["y"], then_branch=branches["yes"], else_branch=branches["no"])
    graph = helper.make_graph(
        [node],
        "g",
        [tensor("c", TensorProto.BOOL, [])],
        [tensor("y", TensorProto.FLOAT, [600])],
        [numpy_helper.from_array(outer, "outer")],
    )
    with built(tmp_path, graph) as engine:
        np.testing.assert_array_equal(engine.infer({"c": np.array(True)})["y"], outer * 3)
        np.testing.assert_array_equal(engine.infer({"c": np.array(False)})["y"], -outer)


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_an_output_that_is_a_constant_is_given(large: bool, tmp_path: Path) -> None:
    value = np.arange(600 if large else 3, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["y"]), helper.make_node("Relu", ["x"], ["z"])],
        "g",
        [tensor("x", TensorProto.FLOAT, [2])],
        [tensor("y", TensorProto.FLOAT, [len(value)]), tensor("z", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(value, "c")],
    )
    with built(tmp_path, graph) as engine:
        np.testing.assert_array_equal(engine.infer(np.ones(2, np.float32))["y"], value)


def test_the_same_recipe_choices_and_measurements_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latency = measuring.Latency(p50=1.0, p90=2.0, p99=3.0, samples=4)
    monkeypatch.setattr(measuring, "latency", lambda *_: latency)
    monkeypatch.setattr(timer, "measure", lambda runs, _budget: {name: [1.0] for name in runs})
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "c"], ["s"]), helper.make_node("Relu", ["s"], ["y"])],
        "g",
        [tensor("x", TensorProto.FLOAT, [600])],
        [tensor("y", TensorProto.FLOAT, [600])],
        [numpy_helper.from_array(np.arange(600, dtype=np.float32), "c")],
    )
    plans = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        built(tmp_path / name, graph).close()
        plans.append((tmp_path / name / "out" / "engine.plan").read_bytes())
    assert plans[0] == plans[1]
