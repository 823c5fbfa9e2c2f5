"""The host executor: options, weights without a copy, and dtypes that NumPy has no name for."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from enginewright_runtime.engine import available
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.engine.executor import Limits
from enginewright_runtime.engine.host import HostExecutor
from enginewright_runtime.engine.host_options import session_settings
from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan.manifest import Segment

MakePlan = Callable[..., Path]
F = TensorProto.FLOAT
WEIGHTS = np.arange(16, dtype=np.float32).reshape(4, 4)


class Bytes(dict[str, bytes]):
    """Blobs without a plan."""

    def blob(self, name: str) -> memoryview:
        return memoryview(self[name])


def external_model(*, dims: tuple[int, ...] = (4, 4)) -> onnx.ModelProto:
    """y = x + w, where w is external data named `weights`, as the builder emits it."""
    weight = TensorProto(name="w", data_type=F, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "weights"), ("offset", "0"), ("length", "64")):
        weight.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "external",
        [helper.make_tensor_value_info("x", F, [4, 4])],
        [helper.make_tensor_value_info("y", F, [4, 4])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def weights(shape: list[int], dtype: str = "float32") -> dict[str, Any]:
    return {"weights": {"w": {"blob": "weights/w", "dtype": dtype, "shape": shape}}}


def test_weights_come_from_their_blob(make_plan: MakePlan) -> None:
    plan = make_plan(external_model(), options=weights([4, 4]), blobs={"weights/w": WEIGHTS.tobytes()})
    with Engine(plan) as engine:
        np.testing.assert_array_equal(engine.infer(np.ones((4, 4), np.float32))["y"], WEIGHTS + 1)


def test_weights_are_not_copied() -> None:
    blobs = Bytes(m=external_model().SerializeToString(), **{"weights/w": WEIGHTS.tobytes()})
    segment = Segment(executor="host", inputs=("x",), outputs=("y",), blob="m", options=weights([4, 4]))
    executor = HostExecutor(segment, blobs, Limits(threads=1))
    held = np.frombuffer(blobs["weights/w"], np.float32)
    assert np.shares_memory(executor._weights["w"], held)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (weights([4, 5]), "does not fit its blob 'weights/w': float32 \\[4, 5\\] takes 80 bytes, got 64"),
        (weights([4, -4]), "negative dimension"),
        (weights([4, 4], "string"), "has the dtype 'string', which only a model can hold"),
        ({"speed": "high"}, "has the unknown field 'speed'"),
        ({"graph_optimization": "most"}, "must be one of disabled, basic, extended, all, got 'most'"),
        ({"intra_op_threads": -1}, "must be 0 or more, got -1"),
        ({"parallel": "yes"}, "parallel must be true or false"),
        ({}, "ONNX Runtime .* does not take the host segment 'segments/0.onnx'"),
    ],
)
def test_options_that_do_not_fit_are_refused(make_plan: MakePlan, options: dict[str, Any], sentence: str) -> None:
    plan = make_plan(external_model(), options=options, blobs={"weights/w": WEIGHTS.tobytes()})
    with pytest.raises(PlanError, match=sentence):
        Engine(plan)


def test_bytes_that_are_no_model_are_refused() -> None:
    segment = Segment(executor="host", inputs=("x",), outputs=("y",), blob="m")
    with pytest.raises(PlanError, match="does not take the host segment 'm'"):
        HostExecutor(segment, Bytes(m=b"\x08nonsense"), Limits(threads=1))


def test_a_segment_whose_names_are_not_its_models_is_refused(models: Any) -> None:
    segment = Segment(executor="host", inputs=("other",), outputs=("scores",), blob="m")
    with pytest.raises(PlanError, match=r"the inputs \['other'\] .* its model has \['x'\]"):
        HostExecutor(segment, Bytes(m=models.small().SerializeToString()), Limits(threads=1))


def test_tuned_threads_are_cut_to_what_there_is() -> None:
    settings = session_settings({"intra_op_threads": 16}, Limits(threads=2), "x")
    assert settings.intra_op_threads == 2
    assert session_settings({"intra_op_threads": 1}, Limits(threads=2), "x").intra_op_threads == 1
    assert session_settings({}, Limits(threads=3), "x").intra_op_threads == 3


@pytest.mark.parametrize(
    ("options", "limits", "bound_to"),
    [
        ({"bound": True}, Limits(threads=3, cores=(0, 2, 5)), "3;6"),  # ONNX Runtime counts CPUs from 1
        ({"bound": True}, Limits(threads=2, cores=(0, 2, 5)), None),  # the others may be busy with something else
        ({"bound": True}, Limits(threads=3), None),
        ({"bound": True, "intra_op_threads": 1}, Limits(threads=1, cores=(0,)), None),
        ({}, Limits(threads=3, cores=(0, 2, 5)), None),
    ],
)
def test_threads_are_bound_where_they_are_as_many_as_cores(
    options: dict[str, Any], limits: Limits, bound_to: str | None
) -> None:
    entries = session_settings(options, limits, "x").entries
    assert entries.get("session.intra_op_thread_affinities") == bound_to


def test_a_bound_thread_stays_on_its_core(make_plan: MakePlan, models: Any) -> None:
    cores = available.cores()
    if len(cores) < 2:
        pytest.skip("one CPU, or a part of several")
    before = set(os.listdir("/proc/self/task"))
    with Engine(make_plan(models.small(), options={"bound": True})) as engine:
        engine.infer(np.ones((2, 4), np.float32))
        begun = set(os.listdir("/proc/self/task")) - before
        assert len(begun) == len(cores) - 1
        until = time.monotonic() + 5  # a thread binds itself as its first act
        while (bound := {min(on) for on in map(os.sched_getaffinity, map(int, begun)) if len(on) == 1}) != {*cores[1:]}:
            assert time.monotonic() < until, bound


@pytest.mark.parametrize("name", ["disabled", "basic", "extended", "all"])
def test_every_option_is_taken(make_plan: MakePlan, models: Any, name: str) -> None:
    options = {
        "graph_optimization": name,
        "intra_op_threads": 1,
        "inter_op_threads": 1,
        "parallel": True,
        "allow_spinning": False,
        "mem_pattern": False,
        "arena": False,
        "denormals": False,
    }
    with Engine(make_plan(models.small(), options=options)) as engine:
        assert engine.infer(np.ones((2, 4), np.float32))["scores"].tolist() == [[0, 2, 6]] * 2


@pytest.mark.parametrize(
    ("code", "dtype"),
    [
        (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
        (TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
        (TensorProto.FLOAT8E5M2, ml_dtypes.float8_e5m2),
        (TensorProto.FLOAT16, np.float16),
    ],
)
def test_small_floats_go_in_and_come_out(make_plan: MakePlan, models: Any, code: int, dtype: Any) -> None:
    value = np.array([1, -2, 0.5], dtype)
    for plan, given in (
        (models.one_node("Cast", {"x": (F, [3])}, {"y": (code, [3])}, to=code), value.astype(np.float32)),
        (models.one_node("Identity", {"x": (code, [3])}, {"y": (code, [3])}), value),
    ):
        with Engine(make_plan(plan)) as engine:
            got = engine.infer(given)["y"]
            assert got.dtype == value.dtype
            assert got.tobytes() == value.tobytes()
    with Engine(make_plan(models.one_node("Cast", {"x": (code, [3])}, {"y": (F, [3])}, to=F))) as engine:
        assert engine.infer(value)["y"].tolist() == [1, -2, 0.5]


def test_sequences_and_empty_optionals_pass_through(make_plan: MakePlan) -> None:
    sequence = helper.make_tensor_sequence_value_info("s", F, None)
    at = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    graph = helper.make_graph(
        [helper.make_node("SequenceAt", ["s", "i"], ["y"])],
        "sequence",
        [sequence, at],
        [helper.make_tensor_value_info("y", F, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with Engine(make_plan(model)) as engine:
        parts = [np.zeros(2, np.float32), np.ones(3, np.float32)]
        assert engine.infer({"s": parts, "i": np.array(1)})["y"].tolist() == [1, 1, 1]

    optional = helper.make_optional_type_proto(helper.make_tensor_type_proto(F, [2]))
    graph = helper.make_graph(
        [helper.make_node("OptionalHasElement", ["o"], ["y"])],
        "optional",
        [helper.make_value_info("o", optional)],
        [helper.make_tensor_value_info("y", TensorProto.BOOL, [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with Engine(make_plan(model)) as engine:
        assert not engine.infer({"o": None})["y"]
