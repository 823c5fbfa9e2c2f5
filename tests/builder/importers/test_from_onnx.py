"""ONNX in: what is wrong is said in one sentence, and what is right comes in the one form that passes expect."""

import contextlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginewright_builder.importers import from_onnx
from enginewright_builder.importers.table import IMPORTERS
from enginewright_runtime.errors import ModelError, UnsupportedError
from enginewright_runtime.plan.recipe import ModelFormat

HEAD = '<ir_version: 8, opset_import: ["" : 17]> agraph '
SMALL = HEAD + "(float[2] x) => (float[2] y) { a = Relu(x) hidden_state = Neg(a) y = Abs(hidden_state) }"


@pytest.fixture
def save(tmp_path):
    def write(source):
        path = tmp_path / "model.onnx"
        path.write_bytes((onnx.parser.parse_model(source) if isinstance(source, str) else source).SerializeToString())
        return path

    return write


def sentence(path, **options):
    with pytest.raises(ModelError) as raised:
        from_onnx.load(path, **options)
    text = str(raised.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def test_the_table_has_the_importer(tmp_path):
    with pytest.raises(ModelError, match=r"The model .*no\.onnx does not exist"):
        IMPORTERS[ModelFormat.ONNX](tmp_path / "no.onnx")


def test_a_missing_model_is_named(tmp_path):
    assert (
        sentence(tmp_path / "no.onnx") == f"The model {tmp_path}/no.onnx does not exist: give the path of an ONNX file."
    )


def test_a_folder_is_no_model(tmp_path):
    assert sentence(tmp_path) == f"The model {tmp_path} cannot be read: Is a directory."


def test_an_empty_model_says_so(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"")
    assert "is empty: got 0 bytes, wanted an ONNX file" in sentence(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "data", [b"hello, this is text\n" * 10, b"\x89PNG\r\n\x1a\n" + bytes(100), b"\x08\x08", bytes(64)]
)
def test_a_file_that_is_not_onnx_says_so(tmp_path, data):
    (tmp_path / "model.onnx").write_bytes(data)
    assert "is not an ONNX file" in sentence(tmp_path / "model.onnx")


def test_a_truncated_model_is_refused_wherever_it_is_cut(save):
    path = save(SMALL)
    data = path.read_bytes()
    for length in range(1, len(data)):
        path.write_bytes(data[:length])
        sentence(path)


def test_operators_that_onnx_runtime_does_not_know_are_named_all_at_once(save):
    body = helper.make_graph(
        [helper.make_node("Blur", ["x"], ["p"], name="inner", domain="acme")],
        "body",
        [],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, None)],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Sharpen", ["x"], ["a"], name="first", domain="acme"),
            helper.make_node("Relux", ["a"], ["b"]),
            helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]), helper.make_tensor_value_info("c", 9, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("acme", 3)]
    path = save(helper.make_model(graph, opset_imports=imports, ir_version=8))
    with pytest.raises(UnsupportedError) as raised:
        from_onnx.load(path)
    assert str(raised.value) == (
        f"The model {path} uses operators that ONNX Runtime does not know: "
        "Sharpen (domain acme, opset 3) in layer 'first'; Relux (domain ai.onnx, opset 17) in layer 'b'; "
        "Blur (domain acme, opset 3) in layer 'inner'; Blur (domain acme, opset 3) in layer 'inner': "
        "export it with the standard operators or another opset, or build with a --plugin for them."
    )


def test_an_operator_that_its_opset_does_not_have_yet_is_unknown(save):
    path = save('<ir_version: 8, opset_import: ["" : 13]> agraph (float[2] x) => (float[2] y) { y = HardSwish(x) }')
    assert "HardSwish (domain ai.onnx, opset 13) in layer 'y'" in sentence(path)


def test_a_model_that_onnx_refuses_is_refused_with_its_reason(save):
    path = save(HEAD + "(float[2] x) => (float[2] y) { y = Relu(nothing) }")
    assert "layer 'Relu' reads 'nothing', which no layer makes and which is no input" in sentence(path)


def test_a_layer_with_too_few_inputs_is_refused_with_the_reason(save):
    path = save(HEAD + "(float[2] x) => (float[2] y) { y = Add(x) }")
    assert "is not valid ONNX: " in sentence(path)
    assert "input size 1" in sentence(path)


def test_layers_out_of_order_are_sorted(save):
    path = save(HEAD + "(float[2] x) => (float[2] y) { y = Neg(a) a = Relu(x) }")
    assert [node.op_type for node in from_onnx.load(path).layers()] == ["Relu", "Neg"]


def test_an_output_of_which_not_even_the_rank_is_said_is_inferred(save):
    model = onnx.parser.parse_model(SMALL)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert from_onnx.load(save(model)).outputs[0].shape == [2]


def test_layers_in_a_circle_are_refused(save):
    path = save(HEAD + "(float[2] x) => (float[2] y) { y = Add(x, b) b = Neg(y) }")
    assert "its layers form a cycle" in sentence(path)


def test_an_unknown_output_lists_the_nearest_first(save):
    with pytest.raises(UnsupportedError) as raised:
        from_onnx.load(save(SMALL), outputs=("hiddenstate",))
    assert (
        "has no layer with the output 'hiddenstate': name one of the 3 there are, for example 'hidden_state', 'y'"
        in str(raised.value)
    )


def test_any_layer_can_be_asked_for(save):
    network = from_onnx.load(save(SMALL), outputs=("hidden_state", "a"))
    assert [value.name for value in network.outputs] == ["hidden_state", "a"]
    assert network.outputs[0].shape == [2]


def test_constants_become_initializers_and_layers_get_names(save):
    network = from_onnx.load(
        save(HEAD + "(float[2] x) => (float[2] y) { k = Constant<value_floats = [1.0, 2.0]>() y = Add(x, k) }")
    )
    assert network.constant(network.graph.initializers["k"]).tolist() == [1, 2]
    assert [node.name for node in network.layers()] == ["Add:y"]


def test_an_input_with_a_default_is_a_constant_and_noted(save):
    network = from_onnx.load(
        save(HEAD + "(float[2] x, float[1] k) => (float[2] y) <float[1] k = {2.0}> { y = Mul(x, k) }")
    )
    assert [value.name for value in network.inputs] == ["x"]
    assert network.constant(network.graph.initializers["k"]).tolist() == [2]
    assert network.notes == ("1 inputs have defaults and are constants from here on: k",)


def test_local_functions_are_inlined(save):
    source = (
        '<ir_version: 8, opset_import: ["" : 17, "own" : 1]> agraph (float[2] x) => (float[2] y) { y = own.twice(x) } '
        '<domain: "own", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }'
    )
    assert [node.op_type for node in from_onnx.load(save(source)).layers()] == ["Add"]


def test_a_local_function_of_another_opset_stays_a_call_and_is_noted(save):
    source = (
        '<ir_version: 8, opset_import: ["" : 17, "own" : 1]> agraph (float[2] x) => (float[2] y) { y = own.twice(x) } '
        '<domain: "own", opset_import: ["" : 15]> twice (a) => (b) { b = Add(a, a) }'
    )
    network = from_onnx.load(save(source))
    assert [node.op_type for node in network.layers()] == ["twice"]
    assert "own.twice stays a call" in network.notes[0]


def test_sparse_constants_become_dense(save):
    values = numpy_helper.from_array(np.float32([5, 6]), "k")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.int64([1, 3]), "i"), [2, 2])
    model = onnx.parser.parse_model(HEAD + "(float[2,2] x) => (float[2,2] y) { y = Add(x, x) }")
    model.graph.sparse_initializer.append(sparse)
    model.graph.node[0].input[1] = "k"
    network = from_onnx.load(save(model))
    assert network.constant(network.graph.initializers["k"]).tolist() == [[0, 5], [0, 6]]


def test_shapes_that_a_file_claims_wrongly_are_not_believed(save):
    model = onnx.parser.parse_model(SMALL)
    model.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [7, 7]))
    network = from_onnx.load(save(model))
    assert next(network.layers()).outputs[0].shape == [2]


def test_an_optional_output_that_is_left_out_survives(save):
    network = from_onnx.load(
        save(
            HEAD + "(float[2,1,3] x, float[1,8,3] w, float[1,8,2] r) => (float[1,1,2] h) "
            "{ , h = LSTM<hidden_size = 2>(x, w, r) }"
        )
    )
    assert [value.name for node in network.layers() for value in node.outputs] == ["", "h"]


def test_a_function_that_reads_what_nothing_makes_is_refused(save):
    source = (
        '<ir_version: 8, opset_import: ["" : 17, "own" : 1]> agraph (float[2] x) => (float[2] y) { y = own.twice(x) } '
        '<domain: "own", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, gone) }'
    )
    assert "layer 'Add' reads 'gone', which no layer makes" in sentence(save(source))


def test_a_tensor_of_fewer_elements_than_its_shape_is_refused(save):
    model = onnx.parser.parse_model(HEAD + "(float[2] x) => (float[2] y) <float[2] k = {1.0, 2.0}> { y = Add(x, k) }")
    model.graph.initializer[0].dims[0] = 3
    assert "the tensor 'k' has 2 elements, and its shape [3] takes 3" in sentence(save(model))


def test_bytes_flipped_anywhere_never_end_in_anything_but_a_sentence(save):
    path = save(SMALL)
    data = path.read_bytes()
    for position in range(len(data)):
        for flip in (0x01, 0x80):
            path.write_bytes(data[:position] + bytes([data[position] ^ flip]) + data[position + 1 :])
            with contextlib.suppress(ModelError):
                from_onnx.load(path)
