"""Types and shapes by ONNX's own inference, without its copying gigabytes of weights, and a little from behind.

The inference takes a serialized model, so constants above a kilobyte travel as typed inputs: only small ones (shapes,
axes, pads) can change what it finds. Inference that fails leaves the network as it is: knowing less only means that
passes decline more. It runs beside this process (inference.py).
"""

import itertools
from collections.abc import Iterable, Iterator

import onnx
import onnx_ir as ir

from enginewright_builder.network import inference
from enginewright_builder.network.network import Network
from enginewright_builder.plugins import layers

_Type = tuple[ir.TypeProtocol | None, ir.Shape | None]

SMALL = 1024  # bytes: what the inference may want to look into
_LONGEST = 1 << 16  # elements of a vector
_PART = 1000  # layers
# Each element of the output is made of the element of the input at its place.
_KEEPING = frozenset(
    {"Abs", "Cast", "CastLike", "Ceil", "Dropout", "Erf", "Exp", "Floor", "Gelu", "Identity", "LeakyRelu", "Log", "Neg",
     "Not", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Softmax", "Sqrt", "Tanh"}
)  # fmt: skip
# Operators that ONNX defines by a function, for which its inference finds nothing: the output is like the first input.
_LIKE_INPUT = frozenset({"GroupNormalization", "MeanVarianceNormalization"})


def infer(network: Network) -> None:
    """Fill in what inference finds for every value of the main graph and its bodies, in place."""
    try:
        found = inferred(_light(network.model))
    except (ValueError, RuntimeError):  # what no message can say, such as a size beyond 64 bits
        return
    if found is None:
        return
    _merge(network.model.graph, found.graph, {})
    del found
    told = layers.infer(network.plugins, network.graph)
    if _like_input(network.model.graph) or told:
        infer(network)  # what follows such a layer can be found now
        return
    _from_behind(network.model.graph)


def inferred(parts: Iterable[onnx.ModelProto]) -> onnx.ModelProto | None:
    """What inference makes of a model without its weights, given in parts (which are changed). None where it cannot:
    a body or an operator of another domain that it does not follow, an absurd shape.

    Elements of vectors are followed, as those that are shapes need; not where one is too long to be a shape.
    """
    written, long = [], False
    for part in parts:
        _simplify(part.graph)
        long = long or _has_long(part.graph)
        written.append(part.SerializeToString())
    model = b"".join(written)  # messages one behind the other are one message with the fields of all
    found = None if long else inference.infer(model, elements=True)
    found = found or inference.infer(model, elements=False)
    return onnx.ModelProto.FromString(found) if found else None


def forget(network: Network) -> None:
    """Drop the shapes of all that layers make, so that inference starts from the inputs again; types stay."""
    for node in network.graph.all_nodes():
        for value in node.outputs:
            value.shape = None


def _light(model: ir.Model) -> Iterator[onnx.ModelProto]:
    """The model with its large constants as inputs, in parts, so that a large network is never held as a message.

    Written piece by piece: onnx-ir's own way leaves records behind on every value.
    """
    graph = model.graph
    yield _frame(model)
    nodes = iter(graph)
    while few := list(itertools.islice(nodes, _PART)):
        part = onnx.ModelProto()
        for node in few:
            ir.serde.serialize_node_into(part.graph.node.add(), node)
            for value in node.outputs:
                if value.name and (value.type is not None or value.shape is not None) and not value.is_graph_output():
                    ir.serde.serialize_value_into(part.graph.value_info.add(), value)
        yield part


def _frame(model: ir.Model) -> onnx.ModelProto:
    """All but the layers of the main graph."""
    graph, frame = model.graph, onnx.ModelProto(ir_version=model.ir_version)
    for domain, version in graph.opset_imports.items():
        frame.opset_import.add(domain=domain, version=version)
    frame.functions.extend(ir.serde.serialize_function(each) for each in model.functions.values())
    proto = frame.graph
    proto.name = graph.name or "network"
    for value in graph.inputs:
        ir.serde.serialize_value_into(proto.input.add(), value)
    for value in graph.initializers.values():
        if value.const_value is not None and value.const_value.nbytes <= SMALL:
            tensor = proto.initializer.add()
            ir.serde.serialize_tensor_into(tensor, value.const_value)
            tensor.name = value.name or ""
        elif not value.is_graph_input():
            ir.serde.serialize_value_into(proto.input.add(), value)
    for value in graph.outputs:
        ir.serde.serialize_value_into(proto.output.add(), value)
    return frame


def _has_long(graph: onnx.GraphProto) -> bool:
    """Whether a vector is too long to be a shape: inference would hold a dimension for each of its elements."""
    shapes = (info.type.tensor_type.shape.dim for info in (*graph.input, *graph.value_info))
    return any(len(dimensions) == 1 and dimensions[0].dim_value > _LONGEST for dimensions in shapes)


def _simplify(graph: onnx.GraphProto) -> None:
    """Layers that inference does not follow, as ones of the same shapes that it does."""
    for node in graph.node:
        if not node.domain and node.op_type in _LIKE_INPUT:
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]


def _merge(graph: ir.Graph, proto: onnx.GraphProto, known: dict[bytes, _Type]) -> None:
    """Take over what was inferred, body by body: names are unique within one graph only."""
    found = {info.name: info for info in (*proto.value_info, *proto.output)}
    for node, node_proto in zip(graph, proto.node, strict=True):
        for value in node.outputs:
            info = found.get(value.name or "")
            if info is not None:
                _take(value, info.type, known)
        for name, attribute in node.attributes.items():
            if attribute.type is ir.AttributeType.GRAPH:
                body = next(a for a in node_proto.attribute if a.name == name)
                _merge(attribute.as_graph(), body.g, known)


def _like_input(graph: ir.Graph) -> bool:
    """Whether a shape was filled in."""
    filled = False
    for node in graph:
        source, made = (node.inputs[0] if node.inputs else None), node.outputs[0]
        if node.domain or node.op_type not in _LIKE_INPUT or source is None:
            continue
        if made.shape is None and source.shape is not None and source.shape.is_static():
            made.shape, made.type, filled = ir.Shape(source.shape), made.type or source.type, True
    return filled


def _from_behind(graph: ir.Graph) -> None:
    """What is declared of an output, for the values that have its shape: inference only looks forward."""
    for node in reversed(graph):
        if node.domain or node.op_type not in _KEEPING:
            continue
        value, shape = node.inputs[0], node.outputs[0].shape
        unknown = value is not None and value.shape is None and value.producer() is not None
        if value is not None and unknown and shape is not None and shape.is_static():
            value.shape = ir.Shape(shape)


def _take(value: ir.Value, proto: onnx.TypeProto, known: dict[bytes, _Type]) -> None:
    """Values of one type share it, frozen: a large network has many values and few types."""
    if proto.WhichOneof("value") is None:
        return
    key = proto.SerializeToString()
    if key not in known:
        shape = ir.serde.deserialize_type_proto_for_shape(proto)
        if shape is not None:
            shape.freeze()
        known[key] = (ir.serde.deserialize_type_proto_for_type(proto), shape)
    kind, shape = known[key]
    value.type = kind or value.type
    if shape is not None:
        value.shape = shape
