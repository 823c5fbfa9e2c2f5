"""The law of layouts: written where their layers write, all values are read back through their places."""

import numpy as np
import onnx_ir as ir
import onnxruntime

from enginewright_builder.device import layout
from enginewright_builder.network import lowering

_ROOM = 1 << 16  # elements of each buffer


def placed(network):
    """The layout of a network of float32 tensors, held to its law."""
    found = layout.assign(network)
    feeds = {value.name: _numbers(value) for value in network.inputs}
    right = _all_values(network, feeds)
    buffers = {place.root: np.full(_ROOM, np.nan, np.float64) for place in found.places.values()}
    for name, array in right.items():
        if name not in found.free:
            _seen(found.places[name], buffers)[...] = array
    for name, array in right.items():
        np.testing.assert_array_equal(_seen(found.places[name], buffers), array, err_msg=name)
    for value in (*network.inputs, *network.outputs):
        place = found.places[value.name]
        assert place.type.is_contiguous
        assert (place.root, place.offset_elements) == (value.name, 0)
    return found


def _numbers(value):
    dtype = value.dtype.numpy()
    numbers = np.random.default_rng(1).standard_normal([*value.shape])
    return np.asarray(numbers > 0 if dtype == np.bool_ else numbers, dtype)


def _all_values(network, feeds):
    """What ONNX Runtime computes for every value, each made an output, which keeps its name through the expansion."""
    whole = network.copy()
    made = [value for node in whole.layers() for value in node.outputs if value.name and value not in whole.outputs]
    whole.graph.outputs.extend(made)
    model = ir.to_proto(lowering.to_onnx(whole))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True)) | feeds


def _seen(place, buffers):
    strides = [8 * stride for stride in place.type.strides]
    return np.lib.stride_tricks.as_strided(buffers[place.root][place.offset_elements :], place.type.shape, strides)
