"""What is asked of a frozen graph, what is refused and in which words, and what hostile files cannot do."""

import numpy as np
import pytest

from enginewright_builder.importers.tensorflow import schema
from enginewright_runtime.errors import ModelError, UnsupportedError

FLOAT = 1


def node(graph, name, op, *inputs, **types):
    made = graph.node.add(name=name, op=op)
    made.input.extend(inputs)
    for key, number in types.items():
        made.attr[key].type = number
    return made


def placeholder(graph, name="x", sizes=(-1, 3), dtype=FLOAT):
    made = node(graph, name, "Placeholder", dtype=dtype)
    for size in sizes:
        made.attr["shape"].shape.dim.add(size=size)


def constant(graph, name, array):
    tensor = node(graph, name, "Const", dtype=FLOAT).attr["value"].tensor
    tensor.dtype, tensor.tensor_content = FLOAT, array.astype(np.float32).tobytes()
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


@pytest.fixture
def graph():
    made = schema.GraphDef()
    placeholder(made)
    return made


def test_the_one_node_that_nothing_reads_is_the_output(graph, load):
    node(graph, "y", "Relu", "x")
    network = load(graph)
    assert [value.name for value in network.inputs] == ["x"]
    assert [value.name for value in network.outputs] == ["y"]
    assert list(network.inputs[0].shape)[1] == 3


def test_outputs_have_to_be_named_where_there_are_several(graph, load):
    node(graph, "left/Relu", "Relu", "x")
    node(graph, "right/Tanh", "Tanh", "x")
    with pytest.raises(UnsupportedError, match=r"named with --output: left/Relu, right/Tanh\.$"):
        load(graph)
    assert [value.name for value in load(graph, "right/Tanh", "x").outputs] == ["right/Tanh", "x_2"]


def test_an_output_that_is_not_there_is_refused_with_those_that_are(graph, load):
    node(graph, "y", "Relu", "x")
    with pytest.raises(UnsupportedError, match=r"no operation 'z': name an output with --output, as y\.$"):
        load(graph, "z")


def test_all_operations_that_cannot_be_imported_are_named_at_once(graph, load):
    node(graph, "a", "Mystery", "x")
    node(graph, "b", "Relu", "a")
    node(graph, "c", "Riddle", "x")
    node(graph, "d", "Add", "b", "c")
    with pytest.raises(
        UnsupportedError, match=r"2 operations that cannot be imported: 'a' \(Mystery\), 'c' \(Riddle\)"
    ):
        load(graph)


def test_what_the_output_does_not_need_is_not_looked_at(graph, load):
    node(graph, "a", "Mystery", "x")
    node(graph, "y", "Relu", "x")
    assert [value.name for value in load(graph, "y").outputs] == ["y"]


def test_a_training_flag_is_taken_as_false_and_noted(graph, load):
    placeholder(graph, "training", sizes=(), dtype=10)
    node(graph, "cond/Switch", "Switch", "training", "training")
    node(graph, "cond/t", "Identity", "cond/Switch:1")
    node(graph, "noise", "RandomUniform", "x", "^cond/t")
    node(graph, "side", "Switch", "x", "training")
    node(graph, "still", "Relu", "side")
    node(graph, "y", "Merge", "noise", "still")
    network = load(graph)
    assert [value.name for value in network.inputs] == ["x"]
    assert [layer.op_type for layer in network.layers()] == ["Relu"]
    assert "training: taken as false" in network.notes[0]


@pytest.mark.parametrize(("predicate", "kept"), [(True, "Tanh"), (False, "Relu")])
@pytest.mark.parametrize("given", ["Const", "PlaceholderWithDefault"])
def test_a_switch_on_a_constant_takes_its_side(graph, load, predicate, kept, given):
    tensor = node(graph, "learning_phase", "Const", dtype=10).attr["value"].tensor
    tensor.dtype = 10
    tensor.bool_val.append(predicate)
    if given == "PlaceholderWithDefault":
        node(graph, "asked", given, "learning_phase", dtype=10)
    node(graph, "pred_id", "Identity", "asked" if given == "PlaceholderWithDefault" else "learning_phase")
    node(graph, "switch", "Switch", "x", "pred_id")
    node(graph, "trained", "Tanh", "switch:1")
    node(graph, "used", "Relu", "switch:0")
    node(graph, "merge", "Merge", "used", "trained")
    node(graph, "y", "Neg", "merge")
    network = load(graph)
    # A placeholder says whether the model trains, whatever its default.
    wanted = kept if given == "Const" else "Relu"
    assert [layer.op_type for layer in network.layers()] == [wanted, "Neg"]


def test_a_convolution_of_fewer_channels_than_come_has_groups(load):
    graph = schema.GraphDef()
    placeholder(graph, sizes=(1, 5, 5, 4))
    random = np.random.default_rng(3)
    constant(graph, "widen", random.standard_normal((1, 1, 4, 6)))
    constant(graph, "halves", random.standard_normal((3, 3, 3, 4)))
    node(graph, "wide", "Conv2D", "x", "widen").attr["padding"].s = b"SAME"
    node(graph, "active", "Relu", "wide")
    node(graph, "y", "Conv2D", "active", "halves").attr["padding"].s = b"VALID"
    for name in ("wide", "y"):
        next(each for each in graph.node if each.name == name).attr["strides"].list.i.extend([1, 1, 1, 1])
    network = load(graph)
    groups = [layer.attributes.get_int("group", 1) for layer in network.layers() if layer.op_type == "Conv"]
    assert groups == [1, 2]
    assert list(network.outputs[0].shape) == [1, 3, 3, 4]


def test_weights_of_no_group_of_the_channels_are_refused(load):
    graph = schema.GraphDef()
    placeholder(graph, sizes=(1, 5, 5, 4))
    constant(graph, "w", np.ones((3, 3, 3, 4)))
    conv = node(graph, "y", "Conv2D", "x", "w")
    conv.attr["padding"].s = b"VALID"
    conv.attr["strides"].list.i.extend([1, 1, 1, 1])
    with pytest.raises(ModelError, match=r"the weights of 'y.*' take 3 channels, and it is given 4; export it again"):
        load(graph)


def test_the_first_top_k_has_its_count_as_an_attribute(graph, load):
    node(graph, "y", "TopK", "x").attr["k"].i = 2
    network = load(graph, "y", "y:1")
    assert [list(value.shape)[1] for value in network.outputs] == [2, 2]


def test_a_side_of_a_switch_that_depends_on_data_is_refused_as_an_output(graph, load):
    node(graph, "side", "Switch", "x", "x")
    node(graph, "y", "Relu", "side:1")
    with pytest.raises(UnsupportedError, match=r"'side' \(Switch\) depends on a value that is computed"):
        load(graph)


@pytest.mark.parametrize(
    ("sizes", "said"), [((-1, -1, -1, 3), "of a size that is not known"), ((1, 0, 4, 3), "wanted 1 to")]
)
def test_images_of_no_known_size_are_not_resized_bicubically(load, sizes, said):
    graph = schema.GraphDef()
    placeholder(graph, sizes=sizes)
    size = node(graph, "size", "Const", dtype=3).attr["value"].tensor
    size.dtype = 3
    size.int_val.extend([5, 7])
    size.tensor_shape.dim.add(size=2)
    node(graph, "y", "ResizeBicubic", "x", "size")
    with pytest.raises(UnsupportedError, match=rf"'y' \(ResizeBicubic\) resizes images .*{said}"):
        load(graph)


def test_scores_that_decay_with_overlap_are_refused(graph, load):
    for name in ("boxes", "scores", "most", "overlap", "least"):
        placeholder(graph, name, sizes=())
    constant(graph, "sigma", np.array(0.5))
    node(graph, "y", "NonMaxSuppressionV5", "boxes", "scores", "most", "overlap", "least", "sigma")
    with pytest.raises(UnsupportedError, match=r"'y' .* lets scores decay with overlap .*wanted 0\.$"):
        load(graph, "y")


def test_a_cycle_is_refused(graph, load):
    node(graph, "a", "Add", "x", "b")
    node(graph, "b", "Relu", "a")
    node(graph, "y", "Neg", "b")
    with pytest.raises(ModelError, match="no graph that can be run: 'b' needs what 'a' makes of it"):
        load(graph)


def test_a_long_chain_takes_no_stack(graph, load):
    last = "x"
    for index in range(20_000):
        last = node(graph, f"n{index}", "Identity", last).name
    node(graph, "y", "Relu", last)
    assert len(list(load(graph).layers())) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda g: node(g, "y", "Relu", "gone"), "y reads 'gone', which is not in it"),
        (lambda g: node(g, "y", "Relu", "x:7"), "reads output 7 of 'x', which has 1"),
        (lambda g: (node(g, "y", "Relu", "x"), node(g, "y", "Relu", "x")), "two of its nodes are named 'y'"),
        (lambda g: node(g, "y", "Add", "x"), "the operation 'y' has 1 inputs and takes 2"),
        (lambda g: node(g, "y", "Relu"), "does not hold together: the operation 'y' .Relu. cannot be read"),
        (lambda g: node(g, "y", "Const"), "the constant 'y' has no value"),
    ],
)
def test_a_damaged_graph_is_refused_in_a_sentence(graph, load, change, said):
    change(graph)
    with pytest.raises(ModelError, match=said):
        load(graph, "y")


def test_a_constant_that_is_cut_is_refused(graph, load):
    constant(graph, "c", np.zeros((2, 3))).tensor_content = b"\0" * 20
    node(graph, "y", "Add", "x", "c")
    with pytest.raises(ModelError, match=r"it has 20 bytes, and its shape \[2, 3\] of float32 takes 24"):
        load(graph)


@pytest.mark.parametrize("sizes", [(1 << 40, 1 << 20), (-1,), (1 << 62, 1 << 62)])
def test_a_constant_of_absurd_size_takes_no_memory(graph, load, sizes):
    tensor = constant(graph, "c", np.zeros(1))
    tensor.tensor_content = b""
    tensor.tensor_shape.dim[0].size = sizes[0]
    for size in sizes[1:]:
        tensor.tensor_shape.dim.add(size=size)
    node(graph, "y", "Add", "x", "c")
    with pytest.raises(ModelError, match=r"its shape .* is none of a constant"):
        load(graph)


@pytest.mark.parametrize("content", [b"", b"\x08", b"\xff" * 100, b"not a graph at all"])
def test_what_is_no_graph_is_refused(load, content):
    with pytest.raises(ModelError, match="is not a frozen TensorFlow graph"):
        load(content)


def test_a_type_that_onnx_has_no_tensors_of_is_refused(load):
    graph = schema.GraphDef()
    placeholder(graph, dtype=20)
    node(graph, "y", "Identity", "x")
    with pytest.raises(UnsupportedError, match="the input 'x' is of type resource"):
        load(graph)
