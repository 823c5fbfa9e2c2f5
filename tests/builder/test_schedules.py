"""Which shapes are built."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from enginewright_builder import schedules
from enginewright_builder.importers import from_onnx
from enginewright_builder.network.network import Network
from enginewright_runtime.errors import UsageError
from enginewright_runtime.plan.recipe import Recipe
from enginewright_runtime.plan.target import TargetKind, TargetRequirement


def network(tmp_path: Path, **inputs: list[object]) -> Network:
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    nodes = [helper.make_node("Relu", [name], [f"{name}_out"], name=name) for name in inputs]
    outs = [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    graph = helper.make_graph(nodes, "g", infos, outs)
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return from_onnx.load(path)


def recipe(**changes: object) -> Recipe:
    target = TargetRequirement(kind=TargetKind.CPU)
    return Recipe(model="sha256:0", target=target, builder="0", **changes)  # type: ignore[arg-type]


def test_exact_inputs_make_one_schedule_and_decide_nothing(tmp_path: Path) -> None:
    assert schedules.wanted(network(tmp_path, a=[1, 2]), recipe()) == (({},), "")


def test_a_free_batch_becomes_1_and_a_sentence_says_so(tmp_path: Path) -> None:
    shapes, decided = schedules.wanted(network(tmp_path, a=["n", 2], b=["n", 3]), recipe())
    assert shapes == ({"a": (1, 2), "b": (1, 3)},)
    assert "--batch 1,8" in decided


def test_batch_sizes_make_a_schedule_each_and_repeats_count_once(tmp_path: Path) -> None:
    shapes, _ = schedules.wanted(network(tmp_path, a=["n", 2]), recipe(batch_sizes=(1, 8, 1)))
    assert shapes == ({"a": (1, 2)}, {"a": (8, 2)})


def test_a_size_given_for_one_input_holds_for_the_same_name_in_another(tmp_path: Path) -> None:
    shapes, _ = schedules.wanted(network(tmp_path, a=["n", "s"], b=["n", "s"]), recipe(shapes=({"a": (2, 7)},)))
    assert shapes == ({"a": (2, 7), "b": (2, 7)},)


def test_a_free_input_that_no_shape_reaches_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'b' \[m, 3\]; give exact shapes, for example --shape b=1x3"):
        schedules.wanted(network(tmp_path, a=["n", 2], b=["m", 3]), recipe(shapes=({"a": (1, 2)},)))


def test_a_batch_where_none_is_free_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"leaves no batch free \(a \[1, 2\]\)"):
        schedules.wanted(network(tmp_path, a=[1, 2]), recipe(batch_sizes=(8,)))


def test_a_batch_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be 1 or more, got 0"):
        schedules.wanted(network(tmp_path, a=["n", 2]), recipe(batch_sizes=(0,)))


def test_shapes_and_batches_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        schedules.wanted(network(tmp_path, a=["n", 2]), recipe(batch_sizes=(1,), shapes=({"a": (1, 2)},)))
