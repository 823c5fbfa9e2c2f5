"""What counts as right, by arithmetic."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from enginewright_builder.importers import from_onnx
from enginewright_builder.tuning import bounds
from enginewright_builder.tuning.bounds import Arithmetic


def network_of(tmp_path: Path, kind: int, op: str = "Relu") -> bounds.Network:
    inputs = [helper.make_tensor_value_info("x", kind, [2])]
    outputs = [helper.make_tensor_value_info("y", kind, [2])]
    nodes = [helper.make_node(op, ["x"], ["y"], name="n")]
    if op == "Quantize":
        outputs = [helper.make_tensor_value_info("y", TensorProto.UINT8, [2])]
        scale = helper.make_tensor("s", TensorProto.FLOAT, [], [0.1])
        nodes = [helper.make_node("QuantizeLinear", ["x", "s"], ["y"], name="q")]
        graph = helper.make_graph(nodes, "g", inputs, outputs, [scale])
    else:
        graph = helper.make_graph(nodes, "g", inputs, outputs)
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return from_onnx.load(path)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (TensorProto.DOUBLE, Arithmetic.FP64),
        (TensorProto.FLOAT, Arithmetic.FP32),
        (TensorProto.FLOAT16, Arithmetic.FP16),
        (TensorProto.BFLOAT16, Arithmetic.BF16),
    ],
)
def test_the_arithmetic_is_that_of_the_coarsest_tensor(tmp_path: Path, kind: int, wanted: Arithmetic) -> None:
    assert bounds.arithmetic(network_of(tmp_path, kind)) is wanted


def test_a_quantized_network_has_the_bound_of_its_steps(tmp_path: Path) -> None:
    assert bounds.arithmetic(network_of(tmp_path, TensorProto.FLOAT, "Quantize")) is Arithmetic.INT8


def test_a_float_within_rounding_agrees_and_one_beyond_does_not() -> None:
    wanted = {"y": np.array([1000.0, 0.001], np.float32)}
    near = {"y": np.array([1000.5, 0.05], np.float32)}
    far = {"y": np.array([1000.0, 0.5], np.float32)}
    assert bounds.disagreement(near, wanted, Arithmetic.FP32) == ""
    assert "output 'y': 1 of 2 elements differ" in bounds.disagreement(far, wanted, Arithmetic.FP32)


def test_the_bound_grows_with_the_output_and_not_below_it() -> None:
    small = {"y": np.array([1e-6, 2e-6], np.float32)}
    off = {"y": np.array([1e-6, 2.1e-6], np.float32)}
    assert bounds.disagreement(off, small, Arithmetic.FP32)


def test_integers_agree_exactly_but_for_a_step_of_a_quantized_network() -> None:
    wanted, off = {"y": np.array([3, 4], np.uint8)}, {"y": np.array([3, 5], np.uint8)}
    assert bounds.disagreement(off, wanted, Arithmetic.FP32)
    assert not bounds.disagreement(off, wanted, Arithmetic.INT8)
    assert bounds.disagreement({"y": np.array([3, 5], np.int64)}, {"y": np.array([3, 4], np.int64)}, Arithmetic.INT8)


def test_nan_where_the_model_has_none_is_wrong_and_nan_with_nan_is_right() -> None:
    nan, one = {"y": np.array([np.nan], np.float32)}, {"y": np.array([1.0], np.float32)}
    assert bounds.disagreement(nan, one, Arithmetic.FP32)
    assert not bounds.disagreement(nan, nan, Arithmetic.FP32)


def test_another_shape_a_missing_output_and_another_dtype_are_wrong() -> None:
    wanted = {"y": np.zeros((2, 1), np.float32)}
    assert bounds.disagreement({"y": np.zeros((1, 2), np.float32)}, wanted, Arithmetic.FP32)
    assert bounds.disagreement({}, wanted, Arithmetic.FP32)
    assert bounds.disagreement({"y": np.zeros((2, 1), np.float64)}, wanted, Arithmetic.FP32)


def test_sequences_are_compared_element_by_element() -> None:
    wanted = {"y": [np.array([1.0], np.float32), np.array([2.0], np.float32)]}
    assert not bounds.disagreement({"y": list(wanted["y"])}, wanted, Arithmetic.FP32)
    assert bounds.disagreement({"y": wanted["y"][:1]}, wanted, Arithmetic.FP32)
    assert bounds.disagreement({"y": [wanted["y"][0], wanted["y"][0]]}, wanted, Arithmetic.FP32)


def test_the_worst_error_is_relative_to_the_largest_value() -> None:
    got, wanted = {"y": np.array([100.0, 1.0])}, {"y": np.array([100.0, 0.0])}
    assert bounds.worst([got], [wanted]) == pytest.approx(0.01)


def test_bfloat16_outputs_have_a_bound() -> None:
    wanted = np.array([1.0, -2.0], ml_dtypes.bfloat16)
    assert bounds.bound(wanted, Arithmetic.BF16).absolute == pytest.approx(0.08)
