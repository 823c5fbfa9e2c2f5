"""The types and shapes of one layer, by ONNX's own inference, and its refusal as a sentence."""

import re
from collections.abc import Sequence

import onnx
import onnx_ir as ir

from enginewright_builder.network import network, text
from enginewright_runtime.errors import UsageError

Known = tuple[ir.TypeProtocol | None, ir.Shape | None]
_DATA = 1024  # bytes of a constant up to which inference sees its values: shapes, axes, scales


def types(
    owner: network.Network,
    operator: str,
    inputs: Sequence[ir.Value | None],
    attributes: Sequence[ir.Attr],
    *,
    layer: str,
    outputs: int,
) -> list[Known]:
    """The type and shape of each output. Raises UsageError: no such operator, or inputs that do not fit."""
    try:
        schema = onnx.defs.get_schema(operator, owner.opset, network.ONNX_DOMAIN)
    except onnx.defs.SchemaError as error:
        raise UsageError(f"ONNX has no operator {operator!r} in opset {owner.opset} (layer {layer!r}).") from error
    names, made = [f"i{index}" for index in range(len(inputs))], [f"o{index}" for index in range(outputs)]
    given = {name: value for name, value in zip(names, inputs, strict=True) if value is not None}
    node = onnx.helper.make_node(operator, [name if name in given else "" for name in names], made, name=layer)
    node.attribute.extend(ir.serde.serialize_attribute(attribute) for attribute in attributes)
    try:
        found = onnx.shape_inference.infer_node_outputs(
            schema,
            node,
            {name: _type(value) for name, value in given.items()},
            {name: ir.serde.serialize_tensor(t) for name, v in given.items() if (t := _data(v)) is not None},
            opset_imports=[onnx.helper.make_opsetid(network.ONNX_DOMAIN, owner.opset)],
            ir_version=owner.model.ir_version or onnx.IR_VERSION,
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError) as error:
        raise _refused(layer, operator, list(given.values()), str(error)) from error
    known = [_known(found.get(name)) for name in made]
    for _, shape in known:
        if shape is not None and any(isinstance(size, int) and size < 1 for size in shape):
            left = [str(size) for size in shape]
            raise _refused(layer, operator, list(given.values()), f"nothing would be left, [{', '.join(left)}]")
    return known


def _type(value: ir.Value) -> onnx.TypeProto:
    proto = onnx.TypeProto()
    assert value.type is not None, f"{value.name} has a type"
    ir.serde.serialize_type_into(proto, value.type)
    if value.shape is not None:
        ir.serde.serialize_shape_into(proto, value.shape)
    return proto


def _data(value: ir.Value) -> ir.TensorProtocol | None:
    """The values of a small constant; a layer's own stand in no graph yet."""
    tensor = value.const_value
    return tensor if tensor is not None and tensor.nbytes <= _DATA and not value.is_graph_input() else None


def _known(proto: onnx.TypeProto | None) -> Known:
    if proto is None or proto.WhichOneof("value") is None:
        return None, None
    return ir.serde.deserialize_type_proto_for_type(proto), ir.serde.deserialize_type_proto_for_shape(proto)


def _refused(layer: str, operator: str, given: Sequence[ir.Value], reason: str) -> UsageError:
    """ONNX's reason without its codes: "[ShapeInferenceError] (op_type:…): …"."""
    plain = re.sub(r"\[\w+\]\s*|\(op_type:[^)]*\):?\s*|==> .*", "", " ".join(reason.split())).strip(" .:")
    taken = " and ".join(f"{value.name!r} {text.type_text(value)}" for value in given) or "nothing"
    return UsageError(f"The layer {layer!r} cannot be added: {operator} of {taken}: {plain}.")
