"""A model on the host, with plugins or without: one segment, whose parts are ONNX and plugins in turn."""

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from enginewright_builder import emit
from enginewright_builder.emit import Blobs
from enginewright_builder.network import network, segments
from enginewright_builder.network.extract import extract
from enginewright_builder.network.segments import SegmentSpec
from enginewright_builder.plugins import layers
from enginewright_builder.plugins.collection import Plugins
from enginewright_runtime.engine import values
from enginewright_runtime.engine.host_options import Weight
from enginewright_runtime.engine.plugins import Part, Parts
from enginewright_runtime.errors import UnsupportedError
from enginewright_runtime.plan import records
from enginewright_runtime.plan.manifest import Segment
from enginewright_runtime.plugins.definition import Plugin

_PLUGIN, _ONNX = "plugins", "host"


def segment(model: ir.Model, plugins: Plugins, blobs: Blobs, name: str) -> Segment:
    """The model as a host segment, and as a segment of parts where a layer is a plugin; the model is spent.

    Raises UnsupportedError for a plugin in a body of If, Loop or Scan.
    """
    whole = network.Network(model, plugins=plugins)
    own = {node for node in whole.layers() if layers.plugin_of(plugins, node)}
    for node in model.graph.all_nodes():
        if layers.plugin_of(plugins, node) and node not in own:
            raise UnsupportedError(
                f"The layer {node.name!r} is a plugin inside of a body, where none can run: unroll it."
            )
    if not own:
        return emit.segment(model, blobs, name)
    named = {value.name: value for node in whole.layers() for value in (*node.inputs, *node.outputs) if value}
    named |= {value.name: value for value in whole.inputs}
    parts: list[Part] = []
    for spec in segments.split(whole, lambda node: _PLUGIN if node in own else _ONNX):
        if spec.executor == _PLUGIN:
            parts += [_plugin_part(whole, node, plugins, blobs) for node in spec.layers]
        else:
            inner = [[named[value] for value in names] for names in (spec.inputs, spec.outputs)]
            parts.append(_onnx_part(whole, spec, inner, blobs, f"{name.removesuffix('.onnx')}.{len(parts)}.onnx"))
    return Segment(
        executor=_PLUGIN,
        inputs=tuple(value.name or "" for value in whole.inputs),
        outputs=tuple(value.name or "" for value in whole.outputs),
        blob=blobs.add(f"{name.removesuffix('.onnx')}.json", records.canonical(Parts(parts=tuple(parts)))),
        options={"blobs": [blob for part in parts for blob in (part.blob, *(w.blob for w in part.weights.values()))]},
    )


def _onnx_part(
    whole: network.Network, spec: SegmentSpec, border: Sequence[Sequence[ir.Value]], blobs: Blobs, name: str
) -> Part:
    part = extract(whole, spec.layers, *border, name=name)
    imports = part.graph.opset_imports
    for domain in {plugin.domain for plugin in whole.plugins.values()} & set(imports):
        del imports[domain]
    made = emit.segment(part.model, blobs, name)
    weights: dict[str, Any] = dict(made.options.get("weights", {}))
    read = {key: records.from_json(Weight, weight, what=f"the weight {key!r}") for key, weight in weights.items()}
    return Part(inputs=made.inputs, outputs=made.outputs, blob=made.blob, weights=read)


def _plugin_part(whole: network.Network, node: ir.Node, plugins: Plugins, blobs: Blobs) -> Part:
    plugin = layers.plugin_of(plugins, node)
    assert plugin is not None, f"{node.name} is a plugin"
    if any(value is None for value in node.inputs):
        raise UnsupportedError(f"The layer {node.name!r} leaves out an input, and a plugin takes all of them.")
    given = [value for value in node.inputs if value is not None]
    return Part(
        inputs=tuple(value.name or "" for value in given),
        outputs=tuple(value.name or "" for value in node.outputs),
        blob=blobs.add(f"plugins/{plugin.name}.py", _source(plugin)),
        weights={value.name or "": _weight(value, blobs) for value in given if network.is_constant(value)},
        plugin=plugin.name,
        attributes=layers.attributes_of(plugin, node),
    )


def _source(plugin: Plugin) -> bytes:
    if not plugin.source:
        raise UnsupportedError(f"The plugin {plugin.name} was not loaded from a file: name its module with --plugin.")
    return plugin.source


def _weight(value: ir.Value, blobs: Blobs) -> Weight:
    assert value.const_value is not None, f"{value.name} is a constant"
    array = value.const_value.numpy()
    data = values.to_bytes(array)
    return Weight(blob=blobs.add(f"weights/{value.name}", data), dtype=values.name_of(array.dtype), shape=array.shape)
