"""Runs of layers for each executor, as few as the dependencies allow."""

import onnx
import pytest

from enginewright_builder.importers import from_onnx
from enginewright_builder.network import segments


@pytest.fixture
def network_of(tmp_path):
    def load(body, outputs="float[2] y"):
        head = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[2] x, bool c) => '
        onnx.save(onnx.parser.parse_model(f"{head}({outputs}) {{ {body} }}"), tmp_path / "model.onnx")
        return from_onnx.load(tmp_path / "model.onnx")

    return load


def neg_on_host(node):
    return "host" if node.op_type in ("Neg", "If") else "device"


def test_one_executor_takes_one_segment(network_of):
    network = network_of("a = Relu(x) b = Neg(a) y = Abs(b)")
    (spec,) = segments.split(network, lambda node: "host")
    assert (spec.executor, spec.inputs, spec.outputs, len(spec.layers)) == ("host", ("x",), ("y",), 3)


def test_executors_alternate_only_where_they_depend_on_each_other(network_of):
    network = network_of("a = Relu(x) n = Neg(x) b = Abs(a) m = Neg(n) s = Add(b, m) y = Neg(s)")
    specs = segments.split(network, neg_on_host)
    assert [(spec.executor, spec.inputs, spec.outputs) for spec in specs] == [
        ("device", ("x",), ("b",)),
        ("host", ("x",), ("m",)),
        ("device", ("b", "m"), ("s",)),
        ("host", ("s",), ("y",)),
    ]


def test_what_a_body_captures_crosses_the_border(network_of):
    network = network_of(
        "a = Relu(x) y = If(c) <then_branch = t () => (float[2] p) { p = Neg(a) }, "
        "else_branch = e () => (float[2] q) { q = Abs(a) }>"
    )
    device, host = segments.split(network, neg_on_host)
    assert device.outputs == ("a",)
    assert set(host.inputs) == {"a", "c"}


def test_an_output_that_is_read_on_leaves_its_segment(network_of):
    network = network_of("a = Relu(x) y = Abs(a)", outputs="float[2] y, float[2] a")
    (spec,) = segments.split(network, neg_on_host)
    assert set(spec.outputs) == {"a", "y"}
