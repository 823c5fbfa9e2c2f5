"""Writes the trained network as ONNX: a node for each layer, nothing folded or fused: that is the builder's job.

What a framework's exporter leaves behind is here too: batch norms with their running statistics, a dropout that does
nothing any more, a scale that is computed from constants each time. The builder's passes remove them.
"""

from functools import singledispatch
from pathlib import Path
from typing import Any

import layers
import numpy as np
import onnx
from layers import Array
from onnx import TensorProto, helper, numpy_helper

OPSET = 21
IR_VERSION = 10  # the one that came with opset 21


class Graph:
    """Collects nodes and weights; every node is named by its path in the network and has one output of that name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, operator: str, path: str, *inputs: str, **attributes: Any) -> str:
        """Appends a node and returns the name of its output."""
        self.nodes.append(helper.make_node(operator, inputs, [path], name=path, **attributes))
        return path

    def weight(self, name: str, value: Array) -> str:
        """Adds a trained tensor as float32 and returns its name."""
        self.weights.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name


def write(net: layers.Sequential, file: Path) -> None:
    """Writes `net`, followed by a softmax, as image [batch, 1, 8, 8] -> probabilities [batch, 10], both float32."""
    graph = Graph()
    logits = append_all(net, graph, "image", path="")
    graph.add("Softmax", "probabilities", logits, axis=1)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "digits",
            inputs=[helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
            outputs=[helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
            initializer=graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="enginewright-digits",
        doc_string="Handwritten digits of 8x8 pixels (0..16) to the probabilities of 0 to 9.",
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)


@singledispatch
def append(layer: layers.Layer, graph: Graph, x: str, path: str) -> str:
    """Appends the nodes of one layer that reads the value `x`; returns the name of the value it makes."""
    raise TypeError(f"{path}: there is no ONNX form for a layer of type {type(layer).__name__}, add one to export.py")


@append.register
def append_all(layer: layers.Sequential, graph: Graph, x: str, path: str) -> str:
    for name, part in layer.layers.items():
        x = append(part, graph, x, f"{path}/{name}" if path else name)
    return x


@append.register
def _(layer: layers.Residual, graph: Graph, x: str, path: str) -> str:
    return graph.add("Add", f"{path}/add", append(layer.body, graph, x, path), x)


@append.register
def _(layer: layers.Branches, graph: Graph, x: str, path: str) -> str:
    outputs = [append(branch, graph, x, f"{path}/{name}") for name, branch in layer.branches.items()]
    return graph.add("Concat", f"{path}/concat", *outputs, axis=1)


@append.register
def _(layer: layers.Rescale, graph: Graph, x: str, path: str) -> str:
    one = graph.add("Constant", f"{path}/one", value_float=1.0)
    maximum = graph.add("Constant", f"{path}/maximum", value_float=float(layer.maximum))
    scale = graph.add("Div", f"{path}/scale", one, maximum)
    return graph.add("Mul", path, x, scale)


@append.register
def _(layer: layers.Convolution, graph: Graph, x: str, path: str) -> str:
    kernel = layer.weight.value.shape[2]
    weight = graph.weight(f"{path}.weight", layer.weight.value)
    return graph.add("Conv", path, x, weight, kernel_shape=[kernel, kernel], pads=[kernel // 2] * 4)


@append.register
def _(layer: layers.BatchNorm, graph: Graph, x: str, path: str) -> str:
    statistics = {
        "scale": layer.scale.value,
        "bias": layer.bias.value,
        "mean": layer.mean,
        "variance": layer.variance,
    }
    weights = [graph.weight(f"{path}.{name}", value) for name, value in statistics.items()]
    return graph.add("BatchNormalization", path, x, *weights, epsilon=layer.epsilon)


@append.register
def _(layer: layers.Relu, graph: Graph, x: str, path: str) -> str:
    return graph.add("Relu", path, x)


@append.register
def _(layer: layers.MaxPool, graph: Graph, x: str, path: str) -> str:
    return graph.add("MaxPool", path, x, kernel_shape=[2, 2], strides=[2, 2])


@append.register
def _(layer: layers.AveragePool, graph: Graph, x: str, path: str) -> str:
    return graph.add("AveragePool", path, x, kernel_shape=[2, 2], strides=[2, 2])


@append.register
def _(layer: layers.Flatten, graph: Graph, x: str, path: str) -> str:
    return graph.add("Flatten", path, x, axis=1)


@append.register
def _(layer: layers.Dropout, graph: Graph, x: str, path: str) -> str:
    rate = graph.weight(f"{path}.rate", np.array(layer.rate))
    return graph.add("Dropout", path, x, rate)


@append.register
def _(layer: layers.Dense, graph: Graph, x: str, path: str) -> str:
    weight = graph.weight(f"{path}.weight", layer.weight.value)
    bias = graph.weight(f"{path}.bias", layer.bias.value)
    return graph.add("Gemm", path, x, weight, bias)
