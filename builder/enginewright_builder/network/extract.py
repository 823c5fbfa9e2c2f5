"""A part of a network as a network of its own: a segment, or a single layer to check tactics against."""

from collections.abc import Sequence

import onnx_ir as ir

from enginewright_builder.network import copying
from enginewright_builder.network.network import Network, is_constant, reads


def extract(
    network: Network, layers: Sequence[ir.Node], inputs: Sequence[ir.Value], outputs: Sequence[ir.Value], *, name: str
) -> Network:
    """Copies of `layers` (in an order in which they can run) between copies of these inputs and outputs.

    Constants are shared. Bodies come along: what they capture must be in `inputs`, constant, or of these layers.
    """
    copies: dict[ir.Value, ir.Value] = {}

    def copy(value: ir.Value) -> ir.Value:
        if value not in copies:
            copies[value] = ir.Value(name=value.name, shape=value.shape, type=value.type, const_value=value.const_value)
        return copies[value]

    given = [copy(value) for value in inputs]
    read = dict.fromkeys(value for node in layers for value in reads(node))
    for value in read:  # before the bodies that capture it
        copy(value)
    nodes = [
        ir.Node(
            node.domain,
            node.op_type,
            [None if value is None else copy(value) for value in node.inputs],
            [copying.copied_attribute(attribute, copies) for attribute in node.attributes.values()],
            overload=node.overload,
            name=node.name,
            outputs=[copy(value) for value in node.outputs],
            metadata_props=dict(node.metadata_props),
        )
        for node in layers
    ]
    constants = dict.fromkeys(value for value in read if is_constant(value))
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
