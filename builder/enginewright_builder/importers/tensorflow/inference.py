"""Types and shapes of one layer of a body, which the network's inference reaches only once the body stands in it."""

import onnx
import onnx_ir as ir

_SMALL = 4096  # bytes: shapes, axes and their like


def describe(node: ir.Node, opset: int) -> None:
    """Fill in what ONNX's inference finds for a node's outputs; nothing, where it finds nothing."""
    given = {value.name or "": value for value in node.inputs if value is not None}
    if any(value.type is None for value in given.values()):
        return
    types = {}
    for name, value in given.items():
        types[name] = onnx.TypeProto()
        assert value.type is not None, f"{name} has a type"
        ir.serde.serialize_type_into(types[name], value.type)
        if value.shape is not None:
            ir.serde.serialize_shape_into(types[name], value.shape)
    data = {n: ir.serde.serialize_tensor(v.const_value) for n, v in given.items() if v.const_value is not None}
    small = {name: tensor for name, tensor in data.items() if tensor.ByteSize() <= _SMALL}
    try:
        found = onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, opset),
            ir.serde.serialize_node(node),
            types,
            small,
            opset_imports=[onnx.helper.make_opsetid("", opset)],
            ir_version=10,
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, onnx.defs.SchemaError, RuntimeError):
        return  # what does not fit is refused with the whole network, in words that name it
    for value in node.outputs:
        proto = found.get(value.name or "")
        if proto is not None and proto.WhichOneof("value") is not None:
            value.type = ir.serde.deserialize_type_proto_for_type(proto)
            value.shape = ir.serde.deserialize_type_proto_for_shape(proto)
