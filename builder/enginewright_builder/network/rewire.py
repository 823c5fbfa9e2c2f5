"""The few ways in which a pass may change a network, each keeping the names of its inputs and outputs.

What bodies capture is a use like any other: onnx-ir lists it, so readers inside of bodies are rewired too.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from enginewright_builder.network.network import Network, bodies, is_constant

# Layers whose result differs from run to run: never computed ahead, never shared.
_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"}
)
# The attributes of a Constant that stand for numbers.
_CONSTANTS = {
    "value": ir.AttributeType.TENSOR,
    "value_float": ir.AttributeType.FLOAT,
    "value_floats": ir.AttributeType.FLOATS,
    "value_int": ir.AttributeType.INT,
    "value_ints": ir.AttributeType.INTS,
}


def is_deterministic(node: ir.Node) -> bool:
    """Whether the layer is one of ONNX's own (or its machine-learning ones) that gives equal outputs for equal inputs.

    Dropout counts as random: where it does nothing it is removed as such, and elsewhere it is training.
    """
    return node.domain in ("", "ai.onnx.ml") and node.op_type not in _RANDOM


def can_take_over(network: Network, old: ir.Value, new: ir.Value) -> bool:
    """Whether `new` can stand for `old` without a further layer: as an output it must take over the name."""
    if not old.is_graph_output():
        return True
    producer = new.producer()
    return producer is not None and producer.graph is network.graph and not new.is_graph_output()


def take_over(network: Network, old: ir.Value, new: ir.Value) -> None:
    """Let everything that reads `old` read `new`; an Identity layer carries the name where `new` cannot take it."""
    if not old.is_graph_output():
        old.replace_all_uses_with(new)
        return
    name, outputs = old.name, network.graph.outputs
    places = [index for index, value in enumerate(outputs) if value is old]
    if not can_take_over(network, old, new):
        carrier = ir.Node("", "Identity", [new], name=f"Identity:{name}")
        copy = carrier.outputs[0]
        copy.type, copy.shape = old.type, old.shape
        network.graph.insert_before(_first_reader_or_producer(old), carrier)
        new = copy
    new.type, new.shape = new.type or old.type, new.shape or old.shape
    for index in places:
        outputs[index] = new
    old.replace_all_uses_with(new)
    old.name = None
    new.name = name


def remove(network: Network, node: ir.Node) -> None:
    """Take a layer out that nothing reads; what its bodies captured is no longer used by them."""
    for body in bodies(node):
        for inner in body:
            for index in range(len(inner.inputs)):
                inner.replace_input_with(index, None)
    network.graph.remove(node, safe=True)


def put(network: Network, made: ir.Node, last: ir.Node, parts: Sequence[ir.Node]) -> None:
    """Put a new layer of one output in the place of `last`, whose result it gives, and take `parts` out.

    `parts` come with their readers first, and `last` is among them. The result keeps its name.
    """
    result, output = last.outputs[0], made.outputs[0]
    name, is_output = result.name, result.is_graph_output()
    output.name = network.fresh(f"{name}_new")
    output.type, output.shape = result.type, result.shape
    network.graph.insert_before(last, made)
    take_over(network, result, output)
    for part in parts:
        remove(network, part)
    if not is_output:
        output.name = name


def make_constant(network: Network, old: ir.Value, tensor: ir.TensorProtocol) -> None:
    """Put a constant in the place of what a layer makes; the constant keeps the value's name. Not for outputs."""
    assert not old.is_graph_output(), f"{old.name} is an output: its layer has to stay"
    name = old.name or network.fresh("constant")
    old.name = None
    value = ir.Value(
        name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    network.graph.register_initializer(value)
    old.replace_all_uses_with(value)


def constant_tensor(attribute: ir.Attr) -> ir.TensorProtocol | None:
    """The tensor that an attribute of a Constant layer stands for; None for text, which stays a layer, and for an
    attribute that is not of the type of its name."""
    if attribute.type is not _CONSTANTS.get(attribute.name):
        return None
    match attribute.name:
        case "value":
            tensor = attribute.as_tensor()
            return None if tensor.dtype is ir.DataType.STRING else tensor
        case "value_float":
            return ir.tensor(np.array(attribute.as_float(), dtype=np.float32))
        case "value_floats":
            return ir.tensor(np.array(attribute.as_floats(), dtype=np.float32))
        case "value_int":
            return ir.tensor(np.array(attribute.as_int(), dtype=np.int64))
        case "value_ints":
            return ir.tensor(np.array(attribute.as_ints(), dtype=np.int64))
        case _:
            return None


def lift_constants(network: Network) -> int:
    """Turn the Constant layers of the main graph into constants, but for outputs and text. Returns how many."""
    lifted = 0
    for node in list(network.layers()):
        if node.op_type != "Constant" or node.domain or len(node.attributes) != 1 or node.outputs[0].is_graph_output():
            continue
        tensor = constant_tensor(next(iter(node.attributes.values())))
        if tensor is not None:
            make_constant(network, node.outputs[0], tensor)
            network.graph.remove(node, safe=True)
            lifted += 1
    return lifted


def drop_unread_constants(network: Network) -> int:
    """Remove the constants that nothing reads. Returns how many."""
    unread = [
        name
        for name, value in network.graph.initializers.items()
        if is_constant(value) and not value.uses() and not value.is_graph_output()
    ]
    for name in unread:
        network.graph.initializers.pop(name)
    return len(unread)


def _first_reader_or_producer(value: ir.Value) -> ir.Node:
    producer = value.producer()
    assert producer is not None, f"{value.name} is made by no layer"
    return producer
