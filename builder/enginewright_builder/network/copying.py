"""A copy of a model with layers and values of its own, for passes to change; lighter than onnx-ir's own.

A network of a hundred thousand layers is copied for each of its schedules. So what never changes is shared: constants,
types, attributes, frozen shapes; and records that are empty are not made. What a value's `meta` and `metadata_props`
hold is not copied: no layer's meaning depends on it.
"""

from collections.abc import Mapping

import onnx_ir as ir

_Made = dict[ir.Value, ir.Value]


def copy(model: ir.Model) -> ir.Model:
    """See the module."""
    made: _Made = {}
    graph = model.graph
    inputs = [_value(value, made) for value in graph.inputs]
    initializers = [_value(value, made) for value in graph.initializers.values()]
    for node in graph:
        for value in node.outputs:
            _value(value, made)
    nodes = [_node(node, made) for node in graph]
    copied = ir.Graph(
        inputs,
        [made[value] for value in graph.outputs],
        nodes=nodes,
        initializers=initializers,
        doc_string=graph.doc_string,
        opset_imports=dict(graph.opset_imports),
        name=graph.name,
        metadata_props=dict(graph.metadata_props),
    )
    return ir.Model(
        copied,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        domain=model.domain,
        model_version=model.model_version,
        doc_string=model.doc_string,
        functions=[function.clone() for function in model.functions.values()],
        metadata_props=dict(model.metadata_props),
    )


def _value(value: ir.Value, made: _Made) -> ir.Value:
    if value not in made:
        shape = value.shape
        made[value] = ir.Value(
            name=value.name,
            shape=shape if shape is None or shape.frozen else shape.copy(),
            type=value.type,
            doc_string=value.doc_string,
            const_value=value.const_value,
        )
    return made[value]


def _node(node: ir.Node, made: _Made) -> ir.Node:
    return ir.Node(
        node.domain,
        node.op_type,
        [None if value is None else made[value] for value in node.inputs],
        [copied_attribute(attribute, made) for attribute in node.attributes.values()],
        overload=node.overload,
        outputs=[made[value] for value in node.outputs],
        version=node.version,
        name=node.name,
        doc_string=node.doc_string,
        metadata_props=dict(node.metadata_props) or None,
    )


def copied_attribute(attribute: ir.Attr, made: Mapping[ir.Value, ir.Value]) -> ir.Attr:
    """Itself, but for bodies: these capture what was made of the values that they captured."""
    if attribute.is_ref():
        return attribute
    if attribute.type is ir.AttributeType.GRAPH:
        body = _body(attribute.as_graph(), made)
        return ir.Attr(attribute.name, attribute.type, body, doc_string=attribute.doc_string)
    if attribute.type is ir.AttributeType.GRAPHS:
        several = [_body(graph, made) for graph in attribute.as_graphs()]
        return ir.Attr(attribute.name, attribute.type, several, doc_string=attribute.doc_string)
    return attribute


def _body(graph: ir.Graph, made: Mapping[ir.Value, ir.Value]) -> ir.Graph:
    """A layer's body, which captures the copies of what the original captures."""
    copied = graph.clone(allow_outer_scope_values=True)
    for node in copied.all_nodes():
        for index, value in enumerate(node.inputs):
            if value is not None and value in made:
                node.replace_input_with(index, made[value])
    for index, value in enumerate(copied.outputs):
        copied.outputs[index] = made.get(value, value)
    return copied
