"""Operations that TensorFlow got from somewhere else: plugins of the same name, if the build has them.

A plugin sees tensors as TensorFlow lays them out, channels last.
"""

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from enginewright_builder.importers.tensorflow.call import Call
from enginewright_builder.importers.tensorflow.scope import Tensor
from enginewright_builder.plugins import layers
from enginewright_runtime.plugins.definition import Plugin


def write(call: Call, plugin: Plugin) -> Sequence[Tensor]:
    """One node of the plugin's, with those of the operation's attributes that the plugin has.

    Raises UnsupportedError where shapes are not known.
    """
    scope = call.scope
    inputs = [scope.plain(tensor) for tensor in call.inputs]
    present = [name for name in plugin.attributes if name in call.node.attributes]
    attributes = {name: _plain(call.node.attributes[name], plugin.attributes[name]) for name in present}
    scope.describe()
    known = layers.outputs_of(plugin, inputs, plugin.complete(attributes))
    if not known:
        raise call.refuse("is a plugin, and the shapes that it reads are not known: export the model with them")
    name = scope.fresh(call.node.name)
    made = [
        ir.Value(name=scope.fresh(f"{name}:{index}"), type=kind, shape=shape)
        for index, (kind, shape) in enumerate(known)
    ]
    scope.graph.append(layers.make(plugin, inputs, attributes, made, name))
    scope.outermost.graph.opset_imports.setdefault(plugin.domain, 1)
    return [Tensor(value=value, rank=None if value.shape is None else len(value.shape)) for value in made]


def _plain(given: Any, like: Any) -> Any:
    """An AttrValue as the kind of value that the plugin's default is."""
    match like:
        case bool() | int():
            return int(given.b) or int(given.i)  # whichever is set: the other is 0
        case float():
            return float(given.f)
        case str():
            return given.s.decode(errors="replace")
        case _:
            return [*given.list.i] or [*given.list.f] or [each.decode(errors="replace") for each in given.list.s]
