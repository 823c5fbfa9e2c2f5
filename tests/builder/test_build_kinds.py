"""Every kind of ONNX model that the target cpu takes, from the file through a plan to ONNX Runtime's own answers."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from enginewright_builder import build, command_line, measuring
from enginewright_builder.progress import Silent
from enginewright_runtime.engine.engine import Engine

HEAD = '<ir_version: 9, opset_import: ["" : 17, "com.microsoft" : 1, "own" : 1]> g '
SCALES = (
    "float s = {0.05}, float t = {0.02}, float r = {0.1}, uint8 z = {120}, int8 o = {0}, "
    "int8[3,2] w = {1, -2, 3, 100, -128, 7}"
)
X = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)
KINDS = {
    "local functions, of another opset and with attributes": (
        "(float[2,3] x) => (float[2,3] y) { y = own.leak<alpha = 0.25>(x) }"
        '<domain: "own", opset_import: ["" : 16]> leak <alpha> (a) => (b)'
        "{ t = LeakyRelu<alpha: float = @alpha>(a) b = Sub(t, a) }"
    ),
    "a conditional": (
        "(float[2,3] x) => (float[2,3] y) { m = ReduceMax<keepdims = 0>(x) zero = Constant<value = float {0}>()"
        "c = Greater(m, zero) y = If(c) <then_branch = t () => (float[2,3] p) { p = Neg(x) },"
        "else_branch = e () => (float[2,3] q) { q = Abs(x) }> }"
    ),
    "a loop": (
        "(float[2,3] x) => (float[2,3] y) { n = Constant<value = int64 {3}>() c = Constant<value = bool {1}>()"
        "y = Loop(n, c, x) <body = b (int64 i, bool k, float[2,3] p) => (bool l, float[2,3] q)"
        "{ l = Identity(k) q = Add(p, x) }> }"
    ),
    "a scan": (
        "(float[2,3] x) => (float[3] y, float[2,3] z) { s = Constant<value = float[3] {0, 0, 0}>()"
        "y, z = Scan(s, x) <num_scan_inputs = 1, body = b (float[3] p, float[3] r) => (float[3] q, float[3] o)"
        "{ q = Add(p, r) o = Identity(q) }> }"
    ),
    "sequences": (
        "(float[2,3] x) => (float[4,3] y) { n = Neg(x) s = SequenceConstruct(x, n) t = SequenceInsert(s, x)"
        "zero = Constant<value = int64 {0}>() u = SequenceErase(t, zero) y = ConcatFromSequence<axis = 0>(u) }"
    ),
    "optional values": (
        "(float[2,3] x) => (float[2,3] y, bool h) { o = Optional(x) h = OptionalHasElement(o)"
        "e = OptionalGetElement(o) y = Neg(e) }"
    ),
    "quantized and dequantized (QDQ)": (
        f"(float[2,3] x) => (float[2,2] y) <{SCALES}> {{ q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)"
        "v = DequantizeLinear(w, t, o) m = MatMul(d, v) p = QuantizeLinear(m, r, z) y = DequantizeLinear(p, r, z) }"
    ),
    "quantized operators (QOperator)": (
        f"(float[2,3] x) => (float[2,2] y) <{SCALES}> {{ q = QuantizeLinear(x, s, z)"
        "p = QLinearMatMul(q, s, z, w, t, o, r, z) y = DequantizeLinear(p, r, z) }"
    ),
    "ONNX Runtime's own operators (com.microsoft)": (
        "(float[2,3] x) => (float[2,2] y) <float[2,3] v = {1, -2, 3, 4, -5, 6}, float[2] k = {0.5, -0.5}> "
        "{ m = com.microsoft.FusedMatMul<transB = 1, alpha = 0.5>(x, v) y = com.microsoft.BiasGelu(m, k) }"
    ),
    "its layers of transformers": (
        "(float[2,3] x) => (float[1,2,3] y) <int64[1] at = {0}, float[3] g = {1, 2, 3}, float[3] h = {0.1, 0.2, 0.3},"
        "float[3,9] w = {1,2,3,4,5,6,7,8,9,-1,-2,-3,-4,-5,-6,-7,-8,-9,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9},"
        "float[9] b = {0.1,0,0.2,0,0.3,0,0.4,0,0.5}> { u = Unsqueeze(x, at)"
        "a = com.microsoft.Attention<num_heads = 1>(u, w, b)"
        "n = com.microsoft.SkipLayerNormalization<epsilon = 0.00001>(a, u, g, h) y = com.microsoft.FastGelu(n) }"
    ),
    "its quantized operators": (
        f"(float[2,3] x) => (float[2,3] y, float[2,2] p) <{SCALES}> {{ q = QuantizeLinear(x, s, z)"
        "a = com.microsoft.QLinearAdd(q, s, z, q, s, z, r, z) y = DequantizeLinear(a, r, z)"
        "p = com.microsoft.DynamicQuantizeMatMul(x, w, t, o) }"
    ),
    "its weights of four bits": (
        "(float[2,3] x) => (float[2,2] y) <uint8[2,1,8] w = {18,52,86,120,154,188,222,240,1,35,69,103,137,171,205,239},"
        "float[2] s = {0.5, 0.25}> { y = com.microsoft.MatMulNBits<K = 3, N = 2, bits = 4, block_size = 16>(x, w, s) }"
    ),
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency is measured as long as it takes for 20 inferences, no gate asks for it."""
    whole = measuring.latency
    monkeypatch.setattr(measuring, "latency", lambda engine, feed: whole(engine, feed, seconds=0.0))


def planned(model: Path) -> Engine:
    request = command_line.request(
        model=model,
        output=model.with_suffix(".plan"),
        target="cpu",
        shapes=(),
        batches="",
        precisions="",
        calibration=None,
        outputs=(),
        gate_words=(),
        effort="fast",
    )
    build.build(request, progress=Silent(), workdir=model.parent / "work")
    return Engine(model.with_suffix(".plan"))


@pytest.mark.parametrize("kind", KINDS)
def test_answers_as_onnx_runtime_does(kind: str, tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(HEAD + KINDS[kind]), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    wanted = dict(zip((each.name for each in session.get_outputs()), session.run(None, {"x": X}), strict=True))
    with planned(tmp_path / "model.onnx") as engine:
        given = engine.infer({"x": X})
    assert set(given) == set(wanted)
    for name, want in wanted.items():
        np.testing.assert_allclose(given[name], want, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_external_data_above_two_gigabytes_is_built_and_answers(tmp_path: Path) -> None:
    """A table of which only a few rows are on the disk: the file is sparse."""
    rows, width, last = 600_000, 1024, 599_999
    row = np.linspace(-1, 1, width, dtype=np.float32)
    with (tmp_path / "table.bin").open("wb") as file:
        file.seek(last * width * 4)
        file.write(row.tobytes())
    assert os.path.getsize(tmp_path / "table.bin") > 1 << 31
    table = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[rows, width])
    table.data_location = TensorProto.EXTERNAL
    table.external_data.add(key="location", value="table.bin")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["w", "ids"], ["g"]), helper.make_node("Neg", ["g"], ["y"])],
        "table",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, width])],
        [table],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "model.onnx")
    with planned(tmp_path / "model.onnx") as engine:
        given = engine.infer({"ids": np.array([last, 0])})["y"]
    np.testing.assert_array_equal(given, np.stack([-row, np.zeros(width, np.float32)]))
