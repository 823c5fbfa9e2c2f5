"""Types and shapes by ONNX's own inference, without its copying gigabytes of weights.

The inference takes a serialized model, so constants above a kilobyte travel as typed inputs: only small ones (shapes,
axes, pads) can change what it finds. Inference that fails leaves the network as it is: knowing less only means that
passes decline more.
"""

import onnx
import onnx_ir as ir

from enginewright_builder.network.network import Network

_SMALL = 1024  # bytes: what the inference may want to look into


def infer(network: Network) -> None:
    """Fill in what inference finds for every value of the main graph and its bodies, in place."""
    try:
        inferred = onnx.shape_inference.infer_shapes(_light(network.model), strict_mode=False, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return  # a body or an operator of another domain that the inference cannot follow
    _merge(network.model.graph, inferred.graph)


def forget(network: Network) -> None:
    """Drop the shapes of all that layers make, so that inference starts from the inputs again; types stay."""
    for node in network.graph.all_nodes():
        for value in node.outputs:
            value.shape = None


def _light(model: ir.Model) -> onnx.ModelProto:
    graph = model.graph
    heavy = [value for value in graph.initializers.values() if value.const_value and value.const_value.nbytes > _SMALL]
    own = list(graph.inputs)
    tensors = [value.const_value for value in heavy]
    try:
        for value in heavy:
            graph.initializers.pop(value.name or "")
            graph.inputs.append(value)
            value.const_value = None
        return ir.serde.serialize_model(model)
    finally:
        graph.inputs.clear()  # not `del inputs[n:]`: onnx-ir would go on taking those for inputs
        graph.inputs.extend(own)
        for value, tensor in zip(heavy, tensors, strict=True):
            value.const_value = tensor
            graph.register_initializer(value)


def _merge(graph: ir.Graph, proto: onnx.GraphProto) -> None:
    """Take over what was inferred, body by body: names are unique within one graph only."""
    found = {info.name: info for info in (*proto.value_info, *proto.output)}
    for node, node_proto in zip(graph, proto.node, strict=True):
        for value in node.outputs:
            info = found.get(value.name or "")
            if info is not None:
                _take(value, info.type)
        for name, attribute in node.attributes.items():
            if attribute.type is ir.AttributeType.GRAPH:
                body = next(a for a in node_proto.attribute if a.name == name)
                _merge(attribute.as_graph(), body.g)


def _take(value: ir.Value, proto: onnx.TypeProto) -> None:
    if proto.WhichOneof("value") is None:
        return
    value.type = ir.serde.deserialize_type_proto_for_type(proto) or value.type
    shape = ir.serde.deserialize_type_proto_for_shape(proto)
    if shape is not None:
        value.shape = shape
