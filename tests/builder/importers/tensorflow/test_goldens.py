"""Every operation against what TensorFlow itself makes of it: goldens/, written by make_goldens.py."""

from itertools import compress
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from google.protobuf.message import DecodeError

from enginewright_builder import passes
from enginewright_builder.importers import from_tensorflow
from enginewright_builder.importers.tensorflow import schema
from enginewright_builder.importers.tensorflow.conditionals import IF
from enginewright_builder.importers.tensorflow.frames import WHILE
from enginewright_builder.importers.tensorflow.operators import cropping
from enginewright_builder.importers.tensorflow.operators.table import OPERATORS
from enginewright_builder.network import layers, lowering, parsing, specialize, text

GOLDENS = sorted((Path(__file__).parent / "goldens").glob("*.npz"))
# What today's TensorFlow does not write: the golden and the operation of which it is another form.
OTHER_FORMS = {"If": ("conditional_true", "StatelessIf"), "ResourceGather": ("older", "Gather")}
# Outputs of which TensorFlow leaves the steps that are not taken as memory was.
UNWRITTEN = {"lstm_block": {"y7:0", "y9:0", "y10:0", "y11:0", "y12:0"}}
CROPS = [golden for golden in GOLDENS if golden.stem.startswith("crops")]


def imported(golden, tmp_path):
    """The network of a golden, and its inputs and outputs by name."""
    with np.load(golden) as content:
        (tmp_path / "graph.pb").write_bytes(content["graph"].tobytes())
        feeds = {name[3:]: content[name] for name in content.files if name.startswith("in:")}
        wanted = {name[4:]: content[name] for name in content.files if name.startswith("out:")}
    return from_tensorflow.from_tensorflow(tmp_path / "graph.pb", outputs=tuple(wanted)), feeds, wanted


def graphs(golden):
    """Its GraphDef, or those of its SavedModel."""
    with np.load(golden) as content:
        data = content["graph"].tobytes()
    try:
        return [schema.GraphDef.FromString(data)]
    except DecodeError:
        return [each.graph_def for each in schema.SavedModel.FromString(data).meta_graphs]


def outputs_of(network, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = ir.to_proto(lowering.to_onnx(network)).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    return session.run(None, {name: value for name, value in feeds.items() if name in names})


def close(given, wanted, tolerance=2e-6):
    for (name, want), got in zip(wanted.items(), given, strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape), name
        scale = float(np.max(np.abs(want), initial=0)) if want.dtype.kind == "f" else 0
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale, err_msg=name)


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda path: path.stem)
def test_gives_what_tensorflow_gives(golden, tmp_path):
    network, feeds, wanted = imported(golden, tmp_path)
    assert [value.name for value in network.outputs] == list(wanted)
    close(outputs_of(network, feeds), wanted)


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda path: path.stem)
def test_gives_it_from_its_text_after_the_passes_too(golden, tmp_path):
    network, feeds, wanted = imported(golden, tmp_path)
    fixed = specialize.with_shapes(network, {v.name: feeds[v.name].shape for v in network.inputs if v.name in feeds})
    passes.run(fixed, passes.PIPELINE)
    again = parsing.from_text(text.to_text(fixed), text.unseen(fixed))
    assert text.to_text(again) == text.to_text(fixed)
    close(outputs_of(again, feeds), wanted, 2e-5)


def test_every_operation_is_in_a_golden():
    inside = set()
    for graph in (graph for golden in GOLDENS for graph in graphs(golden)):
        inside |= {node.op for node in graph.node}
        inside |= {node.op for function in graph.library.function for node in function.node_def}
    ours = {IF, WHILE}  # what frames, switches and merges become
    by_hand = {"TopK"}  # test_from_tensorflow.py
    assert set(OPERATORS) - inside == ours | by_hand | set(OTHER_FORMS)


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_other_forms_of_an_operation_are_the_same(form, tmp_path):
    golden, usual = OTHER_FORMS[form]
    (graph,) = graphs(GOLDENS[0].with_name(f"{golden}.npz"))
    nodes = [node for node in graph.node if node.op == usual]
    assert nodes
    for node in nodes:
        node.op = form
    _, feeds, wanted = imported(GOLDENS[0].with_name(f"{golden}.npz"), tmp_path)
    (tmp_path / "graph.pb").write_bytes(graph.SerializeToString())
    network = from_tensorflow.from_tensorflow(tmp_path / "graph.pb", outputs=tuple(wanted))
    for want, got in zip(wanted.values(), outputs_of(network, feeds), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # TensorFlow's own
def test_tensorflow_gives_what_the_goldens_say():
    tensorflow = pytest.importorskip("tensorflow", reason="the extra oracles is not installed")
    for golden in GOLDENS:
        if golden.stem == "saved_model":  # its file is no GraphDef
            continue
        with np.load(golden) as content, tensorflow.Graph().as_default() as graph:
            tensorflow.import_graph_def(tensorflow.compat.v1.GraphDef.FromString(content["graph"].tobytes()), name="")
            feeds = {f"{name[3:]}:0": content[name] for name in content.files if name.startswith("in:")}
            wanted = {f"{name[4:]}:0": content[name] for name in content.files if name.startswith("out:")}
            with tensorflow.compat.v1.Session(graph=graph) as session:
                given = session.run(list(wanted), feeds)
        whole = [name not in UNWRITTEN.get(golden.stem, ()) for name in wanted]
        close(compress(given, whole), dict(compress(wanted.items(), whole)))


def test_a_network_of_images_has_no_transpose_but_at_its_input(tmp_path):
    network, _, _ = imported(Path(__file__).parent / "goldens" / "network.npz", tmp_path)
    assert layers.kinds(network)["Transpose"] == 1
    assert next(iter(network.layers())).op_type == "Transpose"


@pytest.mark.parametrize("golden", CROPS, ids=lambda path: path.stem)
@pytest.mark.parametrize("products", [0, 1 << 40])
def test_gathered_and_multiplied_crops_are_tensorflows(golden, products, tmp_path, monkeypatch):
    monkeypatch.setattr(cropping, "_PRODUCTS", products)
    network, feeds, wanted = imported(golden, tmp_path)
    for want, got in zip(wanted.values(), outputs_of(network, feeds), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * float(np.max(np.abs(want))))


@pytest.mark.parametrize(("products", "used", "unused"), [(0, "Gather", "MatMul_2"), (1 << 40, "MatMul", "Gather")])
def test_where_shapes_are_fixed_one_way_is_left(products, used, unused, tmp_path, monkeypatch):
    monkeypatch.setattr(cropping, "_PRODUCTS", products)
    network, feeds, _ = imported(CROPS[-1], tmp_path)
    fixed = specialize.with_shapes(network, {name: array.shape for name, array in feeds.items()})
    passes.run(fixed, passes.PIPELINE)
    assert "If" not in layers.kinds(fixed)
    assert used in layers.kinds(fixed)
    assert not [node.name for node in fixed.layers() if node.name.endswith(unused)]


def test_no_boxes_are_no_crops(tmp_path):
    network, feeds, _ = imported(CROPS[-1], tmp_path)
    (boxes,) = (value for value in network.inputs if feeds[value.name].shape == (48, 4))
    for value in (boxes, *(output for node in network.layers() for output in node.outputs)):
        value.shape = None if value is not boxes else ir.Shape([None, 4])
    (indices,) = (value for value in network.graph.initializers.values() if value.shape == (48,))
    indices.const_value, indices.shape = ir.tensor(np.zeros(0, np.int64), name=indices.name), ir.Shape([0])
    (got,) = outputs_of(network, {**feeds, boxes.name: np.zeros((0, 4), np.float32)})
    assert got.shape == (0, 14, 14, 1)
