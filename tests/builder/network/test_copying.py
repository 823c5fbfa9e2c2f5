"""A copy has layers and values of its own, and shares what never changes."""

import numpy as np
import onnx
import onnx_ir as ir

from enginewright_builder.network import shapes
from enginewright_builder.network.network import Network
from enginewright_builder.network.text import to_text

BRANCHES = """<ir_version: 8, opset_import: ["" : 17]> agraph (float[2] x, bool c) => (float[2] y) {
    h = Relu(x)
    y = If (c) <
        then_branch = a () => (float[2] p) { p = Add(h, w) },
        else_branch = b () => (float[2] q) { q = If (c) <
            then_branch = d () => (float[2] r) { r = Neg(h) },
            else_branch = e () => (float[2] s) { s = Identity(x) }> }>
}"""
PAIR = """<ir_version: 8, opset_import: ["" : 17]> agraph (float[2,3] x) => (float[2,3] y)
{ a = Transpose<perm = [1, 0]>(x) b = Transpose<perm = [1, 0]>(a) y = Add(b, w) }"""


def network_of(source: str, weights: np.ndarray) -> Network:
    proto = onnx.parser.parse_model(source)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    network = Network(ir.serde.deserialize_model(proto))
    shapes.infer(network)
    return network


def branches() -> Network:
    return network_of(BRANCHES, np.float32([1, 2]))


def readers(value: ir.Value) -> set[ir.Node]:
    return {use.node for use in value.uses()}


def test_a_copy_reads_the_same() -> None:
    network = branches()
    assert to_text(network.copy()) == to_text(network)


def test_bodies_capture_the_copys_values() -> None:
    network = branches()
    before = readers(next(network.layers()).outputs[0])
    copy = network.copy()
    own, relu = set(copy.graph.all_nodes()), next(copy.layers())
    assert len(readers(relu.outputs[0])) == 2
    assert readers(relu.outputs[0]) <= own
    assert readers(copy.inputs[0]) <= own
    assert readers(copy.graph.initializers["w"]) <= own
    assert readers(next(network.layers()).outputs[0]) == before


def test_a_change_of_the_copy_is_none_of_the_original() -> None:
    network = branches()
    said, copy = to_text(network), network.copy()
    copy.graph.initializers["w"].const_value = ir.tensor(np.float32([3, 4]), name="w")
    next(copy.layers()).op_type = "Neg"
    copy.inputs[0].shape = ir.Shape([7])
    assert to_text(network) == said


def test_constants_attributes_and_frozen_shapes_are_shared() -> None:
    network = network_of(PAIR, np.ones((2, 3), np.float32))
    turn, copied = next(network.layers()), next(network.copy().layers())
    assert copied.attributes["perm"] is turn.attributes["perm"]
    assert copied.outputs[0].shape is turn.outputs[0].shape
    assert turn.outputs[0].shape.frozen
    assert network.copy().graph.initializers["w"].const_value is network.graph.initializers["w"].const_value
