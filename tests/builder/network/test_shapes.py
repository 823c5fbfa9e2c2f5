"""Shapes that only the declared outputs tell reach the layers before them."""

import onnx
import onnx_ir as ir

from enginewright_builder.network import shapes
from enginewright_builder.network.network import Network, static_shape

SUM = "s = ReduceSum<keepdims = 0>(x, axes)"


def inferred(output: str, layers: str) -> dict[str, tuple[int, ...] | None]:
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    agraph (float[2,3] x, int64[1] axes) => ({output} y) {{ {SUM} {layers} }}"""
    network = Network(ir.serde.deserialize_model(onnx.parser.parse_model(text)))
    shapes.infer(network)
    return {value.name or "": static_shape(value) for node in network.layers() for value in node.outputs}


def test_a_layer_that_keeps_shapes_passes_its_outputs_back():
    assert inferred("float[2]", "t = Cast<to = 1>(s) y = Sqrt(t)") == {"s": (2,), "t": (2,), "y": (2,)}


def test_a_layer_that_broadcasts_passes_nothing_back():
    assert inferred("float[2]", "y = Add(s, s)")["s"] is None


def test_a_free_dimension_is_not_passed_back():
    assert inferred("float[n]", "y = Sqrt(s)")["s"] is None


def test_a_normalization_has_the_shape_of_its_input():
    text = """<ir_version: 10, opset_import: ["" : 21]>
    agraph (float[2,4,5] x, float[4] s) => (y) { n = GroupNormalization<num_groups = 2>(x, s, s) y = Relu(n) }"""
    network = Network(ir.serde.deserialize_model(onnx.parser.parse_model(text)))
    shapes.infer(network)
    assert [static_shape(node.outputs[0]) for node in network.layers()] == [(2, 4, 5), (2, 4, 5)]
    assert [node.op_type for node in network.layers()] == ["GroupNormalization", "Relu"]
