"""Shapes that only the declared outputs tell reach the layers before them."""

import onnx
import onnx_ir as ir
import pytest

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


def test_a_network_that_is_asked_for_in_parts_is_inferred_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = " ".join(f"v{number} = Transpose(v{number - 1})" for number in range(1, 8))
    text = f"""<ir_version: 8, opset_import: ["" : 17]> agraph (float[2,3] v0, bool c) => (y) {{ {layers}
    y = If (c) < then_branch = a () => (p) {{ p = Relu(v7) }}, else_branch = b () => (q) {{ q = Neg(v7) }} > }}"""
    found = {}
    for part in (1000, 3):
        monkeypatch.setattr(shapes, "_PART", part)
        network = Network(ir.serde.deserialize_model(onnx.parser.parse_model(text)))
        shapes.infer(network)
        nodes = network.graph.all_nodes()
        found[part] = {v.name: (v.dtype, static_shape(v)) for node in nodes for v in node.outputs}
    assert found[3] == found[1000]
    assert found[3]["p"] == (ir.DataType.FLOAT, (3, 2))
