"""A part of a network computes what it computes in the whole."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from enginewright_builder.network import shapes
from enginewright_builder.network.extract import alone, extract
from enginewright_builder.network.network import Network

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
whole (float[2, 3] x, bool go) => (float[2, 3] y)
<float[3] w = {1, 2, 3}>
{
    a = Mul (x, w)
    b = Relu (a)
    c = If (go) <
        then_branch = yes () => (float[2, 3] t) { t = Add (b, w) },
        else_branch = no () => (float[2, 3] e) { e = Sub (b, w) }
    >
    y = Neg (c)
}
"""


@pytest.fixture
def whole() -> Network:
    network = Network(ir.from_onnx_text(MODEL))
    shapes.infer(network)
    return network


def _run(network: Network, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    data = ir.to_proto(network.model).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))


def test_a_layer_alone_takes_what_it_reads_and_shares_constants(whole: Network) -> None:
    node = next(node for node in whole.layers() if node.op_type == "Mul")
    part = alone(whole, node)
    assert [value.name for value in part.inputs] == ["x"]
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    (a,) = _run(part, {"x": x})
    np.testing.assert_array_equal(a, x * np.array([1, 2, 3], np.float32))


def test_a_part_with_a_body_keeps_what_the_body_captures(whole: Network) -> None:
    nodes = [node for node in whole.layers() if node.op_type in ("If", "Neg")]
    b = next(value for node in whole.layers() for value in node.outputs if value.name == "b")
    go = next(value for value in whole.inputs if value.name == "go")
    part = extract(whole, nodes, [b, go], list(whole.outputs), name="part")
    given = np.ones((2, 3), np.float32)
    (yes,) = _run(part, {"b": given, "go": np.array(True)})
    np.testing.assert_array_equal(yes, -(given + np.array([1, 2, 3], np.float32)))


def test_the_whole_is_left_as_it_was(whole: Network) -> None:
    before = ir.to_proto(whole.model).SerializeToString(deterministic=True)
    alone(whole, next(iter(whole.layers())))
    assert ir.to_proto(whole.model).SerializeToString(deterministic=True) == before


def test_a_layer_with_a_body_alone_takes_no_copy_of_the_whole(whole: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Network, "copy", lambda _network: pytest.fail("the whole network is copied"))
    node = next(node for node in whole.layers() if node.op_type == "If")
    part = alone(whole, node)
    assert [value.name for value in part.inputs] == ["go", "b"]
    assert [node.op_type for node in part.layers()] == ["If"]
    given = np.ones((2, 3), np.float32)
    (no,) = _run(part, {"b": given, "go": np.array(False)})
    np.testing.assert_array_equal(no, given - np.array([1, 2, 3], np.float32))
