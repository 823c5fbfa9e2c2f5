"""f(expand(c), d) => expand(f(c, d)) where c and d are constants: what is computed ahead stays as small as c.

And f(x, expand(c)) => f(x, c) where f broadcasts as far by itself. An attention mask that is the same for every row is
written out for all of them by some exporters; so it stays one row, and none at all where it hides nothing.
"""

from collections.abc import Container

import numpy as np
import onnx_ir as ir

from enginewright_builder.network import rewire
from enginewright_builder.network.network import Network, static_shape
from enginewright_builder.network.pointwise import is_pointwise

Shape = tuple[int, ...]


def move(network: Network, layers: Container[str]) -> list[str]:
    """Move the Expand layers of these names that read constants alone behind what reads them. Returns a line each."""
    done: list[str] = []
    for node in list(network.layers()):
        if node.name not in layers or not _is_expansion(network, node):
            continue
        for reader in [use.node for use in node.outputs[0].uses()]:
            if not is_pointwise(reader) or reader.graph is not network.graph:
                continue
            if _drop(node, reader):
                done.append(f"{reader.name}: broadcasts {node.inputs[0].name} by itself")  # type: ignore[union-attr]
            elif _swap(network, reader):
                done.append(f"{reader.name}: before {node.name}, whose input is smaller")
        if not node.outputs[0].uses():
            rewire.remove(network, node)
    return done


def _is_expansion(network: Network, node: ir.Node) -> bool:
    constant = all(network.constant(value) is not None for value in node.inputs)
    return node.op_type == "Expand" and not node.domain and constant and not node.outputs[0].is_graph_output()


def _drop(node: ir.Node, reader: ir.Node) -> bool:
    """Read what is expanded, where the result is as large without."""
    expanded = node.outputs[0]
    wanted = static_shape(reader.outputs[0])
    shapes = [
        static_shape(node.inputs[0] if value is expanded else value) for value in reader.inputs if value is not None
    ]
    if wanted is None or _broadcast(shapes) != wanted:
        return False
    for index, value in enumerate(reader.inputs):
        if value is expanded:
            reader.replace_input_with(index, node.inputs[0])
    return True


def _swap(network: Network, reader: ir.Node) -> bool:
    """Compute with what is expanded, where all that the layer reads is constant, and expand the result."""
    made = static_shape(reader.outputs[0])
    inputs = [_unexpanded(network, value) for value in reader.inputs]
    small = _broadcast([static_shape(value) for value in inputs if value is not None])
    if made is None or small is None or reader.outputs[0].is_graph_output():
        return False
    if any(network.constant(value) is None for value in inputs if value is not None):
        return False
    result = reader.outputs[0]
    computed = ir.Node("", reader.op_type, inputs, list(reader.attributes.values()), name=reader.name)
    output = computed.outputs[0]
    output.name, output.type, output.shape = network.fresh(f"{result.name}_small"), result.type, ir.Shape(small)
    shape = network.add_constant(f"{result.name}_shape", np.array(made, np.int64))
    expansion = ir.Node("", "Expand", [output, shape], name=f"{reader.name}/Expand")
    network.graph.insert_before(reader, computed)
    rewire.put(network, expansion, reader, [reader])
    return True


def _unexpanded(network: Network, value: ir.Value | None) -> ir.Value | None:
    node = value.producer() if value is not None else None
    return node.inputs[0] if node is not None and _is_expansion(network, node) else value


def _broadcast(shapes: list[Shape | None]) -> Shape | None:
    """None where one of them is not known, or they do not fit."""
    known = [shape for shape in shapes if shape is not None]
    try:
        return np.broadcast_shapes(*known) if len(known) == len(shapes) else None
    except ValueError:
        return None
