"""Layers that are plugins: operators of a domain of their own, their attributes, and what their rules say of outputs.

A rule knows whole numbers alone. Where sizes are free it is asked twice with other numbers in their place: what stays
the same is fixed, what follows a number is that free size, and anything else is not known yet.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from enginewright_runtime.engine import values
from enginewright_runtime.plugins.definition import Plugin, PluginError, TensorSpec

Known = tuple[ir.TypeProtocol, ir.Shape]
Size = int | str | None
_STAND_INS = ((1009, 1013, 1019, 1021, 1031, 1033), (2003, 2011, 2017, 2027, 2029, 2039))


def plugin_of(plugins: Mapping[str, Plugin], node: ir.Node) -> Plugin | None:
    """The plugin that a layer is, if it is one."""
    return plugins.get(f"{node.domain}.{node.op_type}") if node.domain else None


def attributes_of(plugin: Plugin, node: ir.Node) -> dict[str, Any]:
    """All attributes of a layer, the defaults among them. Raises PluginError."""
    return plugin.complete({name: attribute.value for name, attribute in node.attributes.items()})


def make(
    plugin: Plugin,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, Any],
    outputs: Sequence[ir.Value],
    name: str,
) -> ir.Node:
    """A layer of a plugin, not yet in a graph. Raises PluginError for attributes that it has not."""
    plugin.complete(attributes)
    given = [ir.convenience.convert_attribute(key, value) for key, value in attributes.items()]
    return ir.Node(plugin.domain, plugin.operator, inputs, given, name=name, outputs=outputs)


def infer(plugins: Mapping[str, Plugin], graph: ir.Graph) -> bool:
    """Give the outputs of plugins their types and shapes as far as their inputs tell them; whether any was news."""
    news = False
    for node in graph:
        plugin = plugin_of(plugins, node)
        if plugin is None or all(value.shape is not None and value.shape.is_static() for value in node.outputs):
            continue
        known = outputs_of(plugin, [v for v in node.inputs if v is not None], attributes_of(plugin, node))
        if known and len(known) != len(node.outputs):
            raise PluginError(
                f"The layer {node.name!r} has {len(node.outputs)} outputs; the rule of {plugin.name} says {len(known)}."
            )
        for value, (kind, shape) in zip(node.outputs, known, strict=False):
            news = news or value.shape is None or list(value.shape) != list(shape)
            value.type, value.shape = kind, shape
    return news


def outputs_of(plugin: Plugin, inputs: Sequence[ir.Value], attributes: Mapping[str, Any]) -> list[Known]:
    """Types and shapes of the outputs; none where those of the inputs are not known enough. Raises PluginError."""
    free: dict[Size | tuple[int, int], int] = {}
    for place, value in enumerate(inputs):
        if value.dtype is None or value.shape is None:
            return []
        for axis, size in enumerate(value.shape):
            if not isinstance(size, int):
                free.setdefault(size.value or (place, axis), len(free))
    if not free:
        return [
            _known(spec)
            for spec in plugin.outputs([_spec(value, {}, 0, place) for place, value in enumerate(inputs)], attributes)
        ]
    if len(free) > len(_STAND_INS[0]):
        return []
    try:
        first, second = (
            plugin.outputs([_spec(v, free, which, place) for place, v in enumerate(inputs)], attributes)
            for which in (0, 1)
        )
    except PluginError:
        return []  # it may need the very sizes; it is asked again when they are known
    return (
        [_between(one, other, free) for one, other in zip(first, second, strict=True)]
        if len(first) == len(second)
        else []
    )


def _spec(value: ir.Value, free: Mapping[Any, int], which: int, place: int) -> TensorSpec:
    assert value.dtype is not None, f"{value.name} has a type"
    assert value.shape is not None, f"{value.name} has a shape"
    sizes = [
        size if isinstance(size, int) else _STAND_INS[which][free[size.value or (place, axis)]]
        for axis, size in enumerate(value.shape)
    ]
    return TensorSpec(values.name_of(value.dtype.numpy()), tuple(sizes))


def _between(one: TensorSpec, other: TensorSpec, free: Mapping[Any, int]) -> Known:
    words = {pair: word for word, number in free.items() for pair in [tuple(row[number] for row in _STAND_INS)]}
    sizes: list[Size] = [
        a if a == b else word if isinstance(word := words.get((a, b)), str) else None
        for a, b in zip(one.shape, other.shape, strict=True)
    ]
    return ir.TensorType(_dtype(one)), ir.Shape(sizes)


def _known(spec: TensorSpec) -> Known:
    return ir.TensorType(_dtype(spec)), ir.Shape(spec.shape)


def _dtype(spec: TensorSpec) -> ir.DataType:
    return ir.DataType.STRING if spec.dtype == values.STRING else ir.DataType.from_numpy(values.dtype_of(spec.dtype))
