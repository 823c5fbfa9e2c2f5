"""Channels first (NCHW, NCDHW): the goldens with each of their window operations turned, a transpose on either side.

TensorFlow's CPU kernels take most of these with their channels last alone, so what it makes of the golden is what the
turned graph has to make.
"""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from enginewright_builder.importers.tensorflow import schema
from enginewright_builder.network import layers, lowering

GOLDENS = Path(__file__).parent / "goldens"
# Operation: which of its inputs is the image, and its dimensions.
WINDOWS = {
    "Conv2D": (0, 4),
    "DepthwiseConv2dNative": (0, 4),
    "Conv2DBackpropInput": (2, 4),
    "MaxPool": (0, 4),
    "AvgPool": (0, 4),
    "BiasAdd": (0, 4),
    "FusedBatchNormV3": (0, 4),
    "DepthToSpace": (0, 4),
    "SpaceToDepth": (0, 4),
    "Conv3D": (0, 5),
    "Conv3DBackpropInputV2": (2, 5),
    "MaxPool3D": (0, 5),
    "AvgPool3D": (0, 5),
}
TURNED = {4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}
BACK = {4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}
LAYOUTS = {4: b"NCHW", 5: b"NCDHW"}
NAMES = (
    *("network", "conv2d_same", "conv2d_same_stride", "conv2d_valid_dilated", "conv2d_same_dilated", "conv2d_explicit"),
    *("conv3d", "depthwise_stride", "conv_transpose_same", "conv_transpose_odd", "conv_transpose_valid"),
    *("conv_transpose_free", "conv3d_transpose", "pools", "pools3d", "depth_and_space", "padded_images"),
)


def constant(graph, name, numbers):
    node = graph.node.add(name=name, op="Const")
    node.attr["dtype"].type = node.attr["value"].tensor.dtype = 3
    node.attr["value"].tensor.int_val.extend(numbers)
    if isinstance(numbers, tuple):
        node.attr["value"].tensor.tensor_shape.dim.add(size=len(numbers))
    return name


def transpose(graph, name, x, order):
    node = graph.node.add(name=name, op="Transpose", input=[x, constant(graph, f"{name}/order", order)])
    node.attr["T"].type = 1
    return name


def turn(graph, node):
    """Make the operation channels first; what stands under its name afterwards is turned back."""
    image, rank = WINDOWS[node.op]
    name, order = node.name, TURNED[rank]
    node.name = f"{name}/turned"
    node.attr["data_format"].s = LAYOUTS[rank]
    node.input[image] = transpose(graph, f"{name}/first", node.input[image], order)
    if image == 2:
        sizes = graph.node.add(name=f"{name}/sizes", op="GatherV2")
        places, axis = constant(graph, f"{name}/places", order), constant(graph, f"{name}/axis", [0])
        sizes.input.extend([node.input[0], places, axis])
        node.input[0] = sizes.name
    for key in ("strides", "ksize", "dilations"):
        if numbers := list(node.attr[key].list.i) if key in node.attr else []:
            node.attr[key].list.i[:] = [numbers[axis] for axis in order]
    if pairs := list(node.attr["explicit_paddings"].list.i) if "explicit_paddings" in node.attr else []:
        node.attr["explicit_paddings"].list.i[:] = [each for axis in order for each in pairs[2 * axis : 2 * axis + 2]]
    transpose(graph, name, node.name, BACK[rank])


@pytest.mark.parametrize("name", NAMES)
def test_channels_first_gives_what_tensorflow_gives(name, load):
    with np.load(GOLDENS / f"{name}.npz") as content:
        graph = schema.GraphDef.FromString(content["graph"].tobytes())
        feeds = {key[3:]: content[key] for key in content.files if key.startswith("in:")}
        wanted = {key[4:]: content[key] for key in content.files if key.startswith("out:")}
    windows = [node for node in graph.node if node.op in WINDOWS]
    assert windows
    for node in windows:
        turn(graph, node)
    network = load(graph, *wanted)
    model = ir.to_proto(lowering.to_onnx(network)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for (output, want), got in zip(wanted.items(), session.run(None, feeds), strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * float(np.max(np.abs(want))), err_msg=output)


def test_a_network_of_turned_operations_has_no_transpose_but_at_its_input(load):
    with np.load(GOLDENS / "network.npz") as content:
        graph = schema.GraphDef.FromString(content["graph"].tobytes())
    for node in [node for node in graph.node if node.op in WINDOWS]:
        turn(graph, node)
    assert layers.kinds(load(graph, "y0"))["Transpose"] == 1
