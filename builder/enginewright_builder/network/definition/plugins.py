"""Layers of one's own."""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from enginewright_builder.network.definition.writer import Tensor, Writer
from enginewright_builder.plugins import layers
from enginewright_runtime.errors import UsageError
from enginewright_runtime.plugins.definition import Plugin


class PluginLayers(Writer):
    """See the module."""

    def add_plugin(
        self, plugin: Plugin, inputs: Sequence[Tensor], attributes: Mapping[str, Any] | None = None, *, name: str = ""
    ) -> tuple[Tensor, ...]:
        """A plugin's outputs, as its rule has them. The build of the network needs the plugin's file too (--plugin).

        Raises UsageError, and PluginError for attributes that the plugin has not and where its rule fails.
        """
        layer = self.named(name, plugin.operator.lower())
        for tensor in inputs:
            self.own(tensor, layer)
        known = layers.outputs_of(plugin, inputs, plugin.complete(attributes or {}))
        if not known:
            raise UsageError(f"The layer {layer!r} must know the ranks of its inputs, which depend on values.")
        made = [ir.Value(name=f"{layer}:{index}" if index else layer, type=kind, shape=shape)
                for index, (kind, shape) in enumerate(known)]  # fmt: skip
        node = layers.make(plugin, inputs, attributes or {}, made, layer)
        for value in made:
            self.reserve(value.name or "")
        self.plugins[plugin.name] = plugin
        self.graph.opset_imports.setdefault(plugin.domain, 1)
        self.graph.append(node)
        return tuple(made)
