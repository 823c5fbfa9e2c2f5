"""Operators that ONNX defines by others are replaced by their bodies, and loops of known length by their steps."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from enginewright_builder.device.expand_functions import expand_functions
from enginewright_builder.device.operators.table import OPERATORS
from enginewright_builder.importers import from_onnx
from enginewright_builder.network.network import Network

ATTENTION = """<ir_version: 10, opset_import: ["" : 23]>
agraph (float[1,2,3,4] q, float[1,2,5,4] k, float[1,2,5,4] v) => (float[1,2,3,4] y) {
    y = Attention<is_causal = 1>(q, k, v)
}"""
SCAN = """<ir_version: 8, opset_import: ["" : 17]>
agraph (float[2] start, float[3,2] xs) => (float[2] last, float[3,2] all) {
    last, all = Scan<num_scan_inputs = 1, scan_input_directions = [1], body = step (float[2] s, float[2] x)
        => (float[2] t, float[2] u) { t = Add(s, x) u = Mul(t, x) }>(start, xs)
}"""


def network_of(text: str, tmp_path: Path) -> tuple[Network, onnx.ModelProto]:
    model = onnx.parser.parse_model(text)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return from_onnx.load(path), model


def run(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def some(model: onnx.ModelProto) -> dict[str, Any]:
    generator = np.random.default_rng(4)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("text", [ATTENTION, SCAN], ids=["attention", "scan"])
def test_what_is_expanded_computes_the_same(tmp_path, text):
    network, model = network_of(text, tmp_path)
    assert expand_functions(network) > 0
    assert {"Attention", "Scan"}.isdisjoint(node.op_type for node in network.layers())
    feeds = some(model)
    for got, want in zip(run(ir.to_proto(network.model), feeds), run(model, feeds), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("text", [ATTENTION, SCAN], ids=["attention", "scan"])
def test_outputs_keep_their_names(tmp_path, text):
    network, _ = network_of(text, tmp_path)
    before = [value.name for value in network.outputs]
    expand_functions(network)
    assert [value.name for value in network.outputs] == before


def test_an_operator_with_a_lowering_stays_though_it_has_a_body(tmp_path):
    head = '<ir_version: 8, opset_import: ["" : 18]> agraph '
    network, _ = network_of(head + "(float[2,3] x) => (float[2,3] y) { y = Softmax(x) }", tmp_path)
    assert ("", "Softmax") in OPERATORS
    assert expand_functions(network) == 0


def test_an_operator_with_neither_stays(tmp_path):
    head = '<ir_version: 8, opset_import: ["" : 18]> agraph '
    network, _ = network_of(head + "(float[2,3] x) => (int64[2,n] y) { y = NonZero(x) }", tmp_path)
    assert expand_functions(network) == 0
    assert [node.op_type for node in network.layers()] == ["NonZero"]


def test_a_loop_that_would_be_too_long_stays(tmp_path):
    network, _ = network_of(SCAN.replace("float[3,2]", "float[3000,2]"), tmp_path)
    assert expand_functions(network) == 0
