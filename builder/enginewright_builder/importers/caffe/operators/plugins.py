"""Layers that Caffe does not know, and its Python layers: plugins of the same name, if the build has them.

A Python layer's attributes are its param_str, as JSON or as a Python literal; its trained blobs follow the bottoms.
"""

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from enginewright_builder.importers.caffe.layer import Layer
from enginewright_builder.importers.caffe.prototxt import Description
from enginewright_builder.importers.caffe.writing import Blob
from enginewright_builder.plugins import layers
from enginewright_builder.plugins.collection import Plugins, called
from enginewright_runtime.plugins.definition import Plugin

PYTHON = "Python"


def find(plugins: Plugins, described: Description) -> Plugin | None:
    """The plugin that stands for a layer: by its type, or by the class that a Python layer names."""
    return called(plugins, described.message.python_param.layer if described.type == PYTHON else described.type)


def write(layer: Layer, plugin: Plugin) -> Sequence[Blob]:
    """One node of the plugin's, whose rule gives the shapes. Raises PluginError, ModelError."""
    write = layer.write
    stored = [write.constant(blob.array(), f"blob{index}") for index, blob in enumerate(layer.stored)]
    inputs = [*(blob.value for blob in layer.bottoms), *stored]
    for blob in layer.bottoms:
        blob.value.type, blob.value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(blob.shape)
    attributes = _attributes(layer) if layer.type == PYTHON else {}
    known = layers.outputs_of(plugin, inputs, plugin.complete(attributes))
    made = write.plugin(plugin, inputs, attributes, len(known))
    for value, (kind, shape) in zip(made, known, strict=True):
        value.type, value.shape = kind, shape
    return [Blob(value, tuple(shape.numpy())) for value, (_, shape) in zip(made, known, strict=True)]


def _attributes(layer: Layer) -> Mapping[str, Any]:
    text = layer.message.python_param.param_str.strip()
    try:
        read = json.loads(text) if text else {}
    except ValueError:
        try:
            read = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            layer.wrong(f"its param_str is neither JSON nor a Python literal: {text[:60]!r}")
    if not isinstance(read, dict):
        layer.wrong(f"its param_str must name attributes with their values, got {text[:60]!r}")
    return read
