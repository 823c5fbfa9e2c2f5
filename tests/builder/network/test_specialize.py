"""Free dimensions are fixed in a copy, and what does not fit is refused with a sentence."""

import onnx
import pytest

from enginewright_builder.importers import from_onnx
from enginewright_builder.network import specialize
from enginewright_builder.network.network import static_shape
from enginewright_runtime.errors import InputError, UnsupportedError

SOURCE = (
    '<ir_version: 8, opset_import: ["" : 17]> agraph (float[batch,3,side,side] image, float[2] w) '
    "=> (float[batch,3,side,side] y) { y = Relu(image) }"
)


@pytest.fixture
def network(tmp_path):
    onnx.save(onnx.parser.parse_model(SOURCE), tmp_path / "model.onnx")
    return from_onnx.load(tmp_path / "model.onnx")


def test_shapes_are_fixed_and_inferred_in_a_copy(network):
    fixed = specialize.with_shapes(network, {"image": (2, 3, 8, 8)})
    assert static_shape(fixed.outputs[0]) == (2, 3, 8, 8)
    assert specialize.free_inputs(fixed) == ()
    assert specialize.free_inputs(network) == ("image",)


def test_constants_are_shared_with_the_copy(tmp_path):
    source = (
        '<ir_version: 8, opset_import: ["" : 17]> agraph (float[N] x) => (float[N] y) '
        "<float[1] k = {2.0}> { y = Mul(x, k) }"
    )
    onnx.save(onnx.parser.parse_model(source), tmp_path / "model.onnx")
    network = from_onnx.load(tmp_path / "model.onnx")
    fixed = specialize.with_shapes(network, {"x": (3,)})
    assert fixed.graph.initializers["k"].const_value is network.graph.initializers["k"].const_value


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        (
            {"picture": (1, 3, 8, 8)},
            "There is no input 'picture' to give a shape to: the model's inputs are 'image', 'w'.",
        ),
        (
            {"image": (3, 8, 8)},
            "The shape [3, 8, 8] does not fit input 'image': got 3 dimensions, wanted the 4 of [batch, 3, side, side].",
        ),
        (
            {"image": (1, 4, 8, 8)},
            "The shape [1, 4, 8, 8] does not fit input 'image': dimension 1 is 4, and the model "
            "[batch, 3, side, side] fixes it to 3.",
        ),
        (
            {"image": (-1, 3, 8, 8)},
            "The shape [-1, 3, 8, 8] does not fit input 'image': wanted [batch, 3, side, side], and a dimension cannot "
            "be negative.",
        ),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(network, shapes, sentence):
    with pytest.raises(InputError) as raised:
        specialize.with_shapes(network, shapes)
    assert str(raised.value) == sentence


def test_a_sequence_cannot_be_given_a_shape(tmp_path):
    source = (
        '<ir_version: 8, opset_import: ["" : 17]> agraph (seq(float[N]) x, int64 i) => (float[N] y) '
        "{ y = SequenceAt(x, i) }"
    )
    onnx.save(onnx.parser.parse_model(source), tmp_path / "model.onnx")
    with pytest.raises(UnsupportedError, match="The input 'x' cannot be given a shape"):
        specialize.with_shapes(from_onnx.load(tmp_path / "model.onnx"), {"x": (3,)})
