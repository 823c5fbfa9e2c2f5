"""The bound of a layer: what is right passes, what has lost one term of a sum does not."""

import numpy as np
import onnx_ir as ir
import pytest

from enginewright_builder.device import checking, layout, lower
from enginewright_builder.network import shapes
from enginewright_builder.network.network import Network


def _layer(text: str, **constants: np.ndarray):
    network = Network(ir.from_onnx_text(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}'))
    for name, array in constants.items():
        value = next(v for v in network.graph.inputs if v.name == name)
        network.graph.inputs.remove(value)
        value.const_value = ir.tensor(array, name=name)
        network.graph.register_initializer(value)
    shapes.infer(network)
    placed = layout.assign(network)
    (layer,) = lower.lower(network, placed.places, placed.free)
    return layer


@pytest.fixture(scope="module")
def convolution():
    weights = np.random.default_rng(0).standard_normal((16, 32, 3, 3)).astype(np.float16)
    return _layer(
        "conv (float16[1, 32, 9, 9] x, float16[16, 32, 3, 3] w) => (float16[1, 16, 9, 9] y) "
        "{ y = Conv <pads = [1, 1, 1, 1]> (x, w) }",
        w=weights,
    )


def test_the_rounded_reference_is_right(convolution):
    check = checking.check(convolution)
    assert check.judge({"y": check.expected["y"].astype(np.float16)})[0] == ""
    assert check.judge({"y": check.expected["y"].astype(np.float16)})[1] < 0.6


def test_one_lost_term_of_a_sum_is_wrong(convolution):
    check = checking.check(convolution)
    y = check.expected["y"].copy()
    x, w = check.feed["x"].astype(np.float32), convolution.constants[1].astype(np.float32)
    y[0, :, 4, 4] -= w[:, 7, 1, 1] * x[0, 7, 4, 4]
    assert "are off)" in check.judge({"y": y.astype(np.float16)})[0]


def test_poison_is_wrong(convolution):
    check = checking.check(convolution)
    y = check.expected["y"].copy()
    y[0, 3, 8, 8] = np.nan
    assert "nan at [0, 3, 8, 8]" in check.judge({"y": y})[0]


@pytest.fixture(scope="module")
def mean():
    return _layer("mean (float[1, 3, 299, 299] x) => (float[1, 3, 1, 1] y) { y = GlobalAveragePool (x) }")


def test_a_long_mean_that_nearly_cancels_is_right_in_any_order(mean):
    check = checking.check(mean)
    exact = check.feed["x"].mean((2, 3), keepdims=True, dtype=np.float64)
    assert check.judge({"y": exact.astype(np.float32)})[0] == ""
    added = check.feed["x"].reshape(1, 3, 1, 1, -1).cumsum(-1, dtype=np.float32)[..., -1] / np.float32(299 * 299)
    assert check.judge({"y": added})[0] == ""


def test_a_mean_that_has_lost_a_row_is_wrong(mean):
    check = checking.check(mean)
    lost = check.feed["x"][:, :, 1:].sum((2, 3), keepdims=True, dtype=np.float64) / 299**2
    assert "are off)" in check.judge({"y": lost.astype(np.float32)})[0]


def test_whole_numbers_agree_exactly_or_not():
    layer = _layer("whole (int64[4] x) => (int64[4] y) { y = Neg (x) }")
    check = checking.check(layer)
    assert check.judge({"y": check.expected["y"]})[0] == ""
    assert "4 of 4 are off" in check.judge({"y": check.expected["y"] + 1})[0]


def test_another_shape_is_said(convolution):
    check = checking.check(convolution)
    assert "has the shape [1, 16, 9]" in check.judge({"y": np.zeros((1, 16, 9), np.float16)})[0]


def test_tf32_may_round_its_operands_and_float32_may_not():
    text = "product (float[8, 256] a, float[256, 8] b) => (float[8, 8] y) { y = MatMul (a, b) }"
    network = Network(ir.from_onnx_text(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}'))
    shapes.infer(network)
    placed = layout.assign(network)
    wrong = {}
    for math in ("", "tf32"):
        (layer,) = lower.lower(network, placed.places, placed.free, math=math)
        check = checking.check(layer)
        a, b = (_tf32(check.feed[name]) for name in ("a", "b"))
        wrong[math] = check.judge({"y": a @ b})[0]
    assert wrong["tf32"] == ""
    assert wrong[""] != ""


def _tf32(array: np.ndarray) -> np.ndarray:
    """Rounded to 10 bits of fraction."""
    bits = array.view(np.uint32)
    return ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)


@pytest.fixture(scope="module")
def batch():
    weights = np.random.default_rng(0).standard_normal((8, 16, 1, 1)).astype(np.float16)
    return _layer(
        "conv (float16[40, 16, 5, 3] x, float16[8, 16, 1, 1] w) => (float16[40, 8, 5, 3] y) { y = Conv (x, w) }",
        w=weights,
    )


def _answers(layer, check) -> np.ndarray:
    """What the layer answers to the check's whole batch, by another way."""
    x, w = check.feed["x"].astype(np.float64), layer.constants[1].astype(np.float64)[:, :, 0, 0]
    return np.einsum("nchw,kc->nkhw", x, w).astype(np.float16)


@pytest.mark.parametrize("strides", [(120, 15, 3, 1), (120, 1, 24, 8)], ids=["C order", "channels last"])
def test_a_batch_is_checked_whole_against_few_pictures(batch, strides):
    check = checking.check(batch).laid_out({"y": strides})
    assert check.feed["x"].shape[0] == 40
    assert check.expected["y"].shape[0] < 20
    right = _answers(batch, check)
    assert check.judge({"y": right})[0] == ""
    for at in ((0, 0, 0, 0), (39, 7, 4, 2), (23, 3, 1, 2)):
        wrong = right.copy()
        wrong[at] += np.float16(1)
        assert f"at {list(at)}, wanted" in check.judge({"y": wrong})[0]
        wrong[at] = np.inf
        assert f"inf at {list(at)}, wanted" in check.judge({"y": wrong})[0]


def test_pictures_that_are_exchanged_are_wrong(batch):
    check = checking.check(batch)
    right = _answers(batch, check)
    for other in (1, 2, 4, 8, 16, 32):  # what a tile of pictures would be off by
        assert "are off)" in check.judge({"y": np.roll(right, other, axis=0)})[0]
