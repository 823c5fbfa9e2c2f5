"""From networks to bytes: deterministic, each content once, and ONNX Runtime gets back what it needs."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginewright_builder import emit
from enginewright_builder.emit import Blobs
from enginewright_builder.importers import from_onnx
from enginewright_builder.network.network import Network
from enginewright_builder.tuning import trial
from enginewright_builder.tuning.bounds import Arithmetic
from enginewright_runtime.errors import PlanError, UnsupportedError

WEIGHTS = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)


def network(tmp_path: Path, *constants: onnx.TensorProto) -> Network:
    """y = x @ w + w2"""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "w2"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [32, 32]) for name in "xy")
    given = [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(WEIGHTS, "w2"), *constants]
    graph = helper.make_graph(nodes, "g", [x], [y], given)
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return from_onnx.load(path)


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = Blobs(), Blobs()
    assert emit.segment(network(tmp_path).model, one, "s") == emit.segment(network(tmp_path).model, two, "s")
    assert {name: bytes(data) for name, data in one.bytes.items()} == {
        name: bytes(data) for name, data in two.bytes.items()
    }


def test_equal_weights_are_one_blob_and_the_model_holds_none_of_them(tmp_path: Path) -> None:
    blobs = Blobs()
    segment = emit.segment(network(tmp_path).model, blobs, "s")
    weights = segment.options["weights"]
    assert weights["w"] == weights["w2"] == {"blob": "weights/w", "dtype": "float32", "shape": [32, 32]}
    assert blobs.blob("weights/w").tobytes() == WEIGHTS.tobytes()
    assert len(blobs.blob("s")) < 1000


def test_a_segment_runs_with_its_weights_from_blobs(tmp_path: Path) -> None:
    blobs, built = Blobs(), network(tmp_path)
    taken, given = [emit.binding(v) for v in built.inputs], [emit.binding(v) for v in built.outputs]
    with trial.loaded(emit.segment(built.copy().model, blobs, "s"), taken, given, blobs) as run:
        np.testing.assert_allclose(run({"x": np.eye(32, dtype=np.float32)})["y"], WEIGHTS * 2, rtol=1e-5)


def test_a_weight_that_no_layer_reads_is_left_out(tmp_path: Path) -> None:
    blobs = Blobs()
    built = network(tmp_path, numpy_helper.from_array(WEIGHTS + 1, "unread"))
    taken, given = [emit.binding(v) for v in built.inputs], [emit.binding(v) for v in built.outputs]
    segment = emit.segment(built.copy().model, blobs, "s")
    assert "unread" not in segment.options["weights"]
    with trial.loaded(segment, taken, given, blobs) as run:
        run({"x": WEIGHTS})


def test_blobs_of_one_name_and_different_bytes_are_kept_apart() -> None:
    blobs = Blobs()
    first, second, again = blobs.add("w", b"one"), blobs.add("w", b"two"), blobs.add("v", b"one")
    assert (first, again) == ("w", "w")
    assert second.startswith("w.")
    assert list(blobs.only([second, first])) == ["w", second]
    with pytest.raises(PlanError, match="no blob 'gone'"):
        blobs.blob("gone")


@pytest.mark.parametrize(
    ("kind", "container", "shape"),
    [
        (ir.TensorType(ir.DataType.FLOAT), "tensor", (2, -1)),
        (ir.SequenceType(ir.TensorType(ir.DataType.FLOAT)), "sequence", None),
        (ir.OptionalType(ir.SequenceType(ir.TensorType(ir.DataType.FLOAT))), "optional", None),
    ],
)
def test_a_binding_tells_what_an_input_is(kind: ir.TypeProtocol, container: str, shape: object) -> None:
    made = emit.binding(ir.Value(name="x", type=kind, shape=ir.Shape([2, "n"])))
    assert (made.dtype, made.container, made.shape) == ("float32", container, shape)


def test_a_type_that_no_engine_takes_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"'x' is .*INT4.*cast it"):
        emit.binding(ir.Value(name="x", type=ir.TensorType(ir.DataType.INT4)))


def test_outputs_of_like_size_share_a_golden_and_others_do_not() -> None:
    blobs = Blobs()
    outputs = {
        "a": np.array([1.0, 3.0], np.float32),
        "b": np.array([3.1], np.float32),
        "c": np.array([1000.0], np.float32),
        "n": np.array([1], np.int64),
        "s": [np.zeros(1)],
    }
    made = emit.goldens(2, {"x": np.ones(3, np.float32)}, outputs, Arithmetic.FP32, blobs)
    assert [set(golden.outputs) for golden in made] == [{"a", "b"}, {"c"}, {"n"}]
    assert all(golden.schedule == 2 for golden in made)
    assert (made[2].absolute, made[2].relative) == (0.0, 0.0)
    assert made[0].absolute >= 3e-4
