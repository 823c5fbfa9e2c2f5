"""A part of a network as a network of its own: a segment, or a single layer to check tactics against."""

from collections.abc import Sequence

import onnx_ir as ir

from enginewright_builder.network.network import Network, bodies, is_constant, reads


def extract(
    network: Network, layers: Sequence[ir.Node], inputs: Sequence[ir.Value], outputs: Sequence[ir.Value], *, name: str
) -> Network:
    """Copies of `layers` (in an order in which they can run) between copies of these inputs and outputs.

    Constants are shared. Layers with bodies come along as they are: what their bodies capture must be in `inputs` or
    constant.
    """
    if any(bodies(node) for node in layers):
        return _through_clone(network, layers, inputs, outputs, name)
    copies: dict[ir.Value, ir.Value] = {}

    def copy(value: ir.Value) -> ir.Value:
        if value not in copies:
            copies[value] = ir.Value(name=value.name, shape=value.shape, type=value.type, const_value=value.const_value)
        return copies[value]

    given = [copy(value) for value in inputs]
    nodes = [
        ir.Node(
            node.domain,
            node.op_type,
            [None if value is None else copy(value) for value in node.inputs],
            list(node.attributes.values()),
            overload=node.overload,
            name=node.name,
            outputs=[copy(value) for value in node.outputs],
            metadata_props=dict(node.metadata_props),
        )
        for node in layers
    ]
    constants = dict.fromkeys(value for node in layers for value in reads(node) if is_constant(value))
    kept = [copies[value] for value in constants if value not in inputs]
    results = [copy(value) for value in outputs]
    kept += [copies[value] for value in outputs if is_constant(value) and value not in constants]
    graph = ir.Graph(
        given, results, nodes=nodes, initializers=kept, opset_imports=dict(network.graph.opset_imports), name=name
    )
    functions = list(network.model.functions.values())
    return Network(ir.Model(graph, ir_version=network.model.ir_version, functions=functions), plugins=network.plugins)


def alone(network: Network, node: ir.Node) -> Network:
    """One layer as a network: it takes what is not constant, and gives every output that has a name."""
    taken = dict.fromkeys(value for value in reads(node) if not is_constant(value))
    given = [value for value in node.outputs if value.name]
    return extract(network, [node], list(taken), given, name=node.name or node.op_type)


def _through_clone(
    network: Network, layers: Sequence[ir.Node], inputs: Sequence[ir.Value], outputs: Sequence[ir.Value], name: str
) -> Network:
    """By cutting down a clone of the whole: slower, and bodies keep what they capture."""
    order = {node: number for number, node in enumerate(network.layers())}
    whole = network.copy()
    nodes = list(whole.layers())
    keep = {nodes[order[node]] for node in layers}
    values = {
        old: new
        for before, after in zip(network.layers(), nodes, strict=True)
        for old, new in zip(before.outputs, after.outputs, strict=True)
    }
    values |= {
        value: whole.graph.initializers[value.name or ""]
        for value in (*inputs, *outputs)
        if value.is_initializer() and value.name in whole.graph.initializers
    }
    values |= dict(zip(network.graph.inputs, whole.graph.inputs, strict=True))
    graph = whole.graph
    graph.outputs.clear()
    graph.outputs.extend(values[value] for value in outputs)
    fresh = []
    for value in inputs:
        inner = values[value]
        if inner.is_graph_input():
            fresh.append(inner)
            continue
        stand_in = ir.Value(name=None, shape=inner.shape, type=inner.type)
        for use in tuple(inner.uses()):
            use.node.replace_input_with(use.idx, stand_in)
        inner.name, stand_in.name = whole.fresh(f"{inner.name}_before"), value.name
        fresh.append(stand_in)
    graph.inputs.clear()
    graph.inputs.extend(fresh)
    for node in reversed(nodes):
        if node not in keep:
            graph.remove(node, safe=False)
    used = {value for node in graph.all_nodes() for value in node.inputs if value is not None} | set(graph.outputs)
    for initializer in list(graph.initializers.values()):
        if initializer not in used:
            del graph.initializers[initializer.name or ""]
    graph.name = name
    return whole
