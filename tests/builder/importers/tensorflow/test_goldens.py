"""Every operation against what TensorFlow itself makes of it: goldens/, written by make_goldens.py."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from enginewright_builder.importers import from_tensorflow
from enginewright_builder.network import layers, lowering

GOLDENS = sorted((Path(__file__).parent / "goldens").glob("*.npz"))


def imported(golden, tmp_path):
    """The network of a golden, and its inputs and outputs by name."""
    with np.load(golden) as content:
        (tmp_path / "graph.pb").write_bytes(content["graph"].tobytes())
        feeds = {name[3:]: content[name] for name in content.files if name.startswith("in:")}
        wanted = {name[4:]: content[name] for name in content.files if name.startswith("out:")}
    return from_tensorflow.load(tmp_path / "graph.pb", outputs=tuple(wanted)), feeds, wanted


def outputs_of(network, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = ir.to_proto(lowering.to_onnx(network)).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    return session.run(None, {name: value for name, value in feeds.items() if name in names})


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda path: path.stem)
def test_gives_what_tensorflow_gives(golden, tmp_path):
    network, feeds, wanted = imported(golden, tmp_path)
    assert [value.name for value in network.outputs] == list(wanted)
    for (name, want), got in zip(wanted.items(), outputs_of(network, feeds), strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape), name
        scale = float(np.max(np.abs(want), initial=0)) if want.dtype.kind == "f" else 0
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * scale, err_msg=name)


def test_a_network_of_images_has_no_transpose_but_at_its_input(tmp_path):
    network, _, _ = imported(Path(__file__).parent / "goldens" / "network.npz", tmp_path)
    assert layers.kinds(network)["Transpose"] == 1
    assert next(iter(network.layers())).op_type == "Transpose"
