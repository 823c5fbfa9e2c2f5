"""TensorFlow's files as protobuf messages, of the fields that are read here, from the published field numbers.

(tensorflow/core/framework: graph, node_def, attr_value, tensor, tensor_shape, function, op_def; and core/protobuf:
saved_model, meta_graph.) They live in a pool of their own, so that an installed TensorFlow does not collide with them.
"""

from typing import Any

from google.protobuf import (  # type: ignore[import-untyped]  # protobuf publishes no types
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

_PACKAGE = "enginewright.tensorflow"
_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "uint32": _FIELD.TYPE_UINT32,
    "uint64": _FIELD.TYPE_UINT64,
    "float": _FIELD.TYPE_FLOAT,
    "double": _FIELD.TYPE_DOUBLE,
    "bool": _FIELD.TYPE_BOOL,
}
# message: (field, number, type), "*" before a type for a repeated one, "{}" behind it for a map from texts to it.
_MESSAGES = {
    "GraphDef": (("node", 1, "*NodeDef"), ("library", 2, "FunctionDefLibrary"), ("versions", 4, "VersionDef")),
    "VersionDef": (("producer", 1, "int32"), ("min_consumer", 2, "int32")),
    "NodeDef": (("name", 1, "string"), ("op", 2, "string"), ("input", 3, "*string"), ("attr", 5, "AttrValue{}")),
    "AttrValue": (
        ("list", 1, "ListValue"),
        ("s", 2, "bytes"),
        ("i", 3, "int64"),
        ("f", 4, "float"),
        ("b", 5, "bool"),
        ("type", 6, "int32"),
        ("shape", 7, "TensorShapeProto"),
        ("tensor", 8, "TensorProto"),
        ("placeholder", 9, "string"),
        ("func", 10, "NameAttrList"),
    ),
    "ListValue": (
        ("s", 2, "*bytes"),
        ("i", 3, "*int64"),
        ("f", 4, "*float"),
        ("b", 5, "*bool"),
        ("type", 6, "*int32"),
        ("shape", 7, "*TensorShapeProto"),
        ("tensor", 8, "*TensorProto"),
    ),
    "NameAttrList": (("name", 1, "string"), ("attr", 2, "AttrValue{}")),
    "TensorShapeProto": (("dim", 2, "*Dim"), ("unknown_rank", 3, "bool")),
    "Dim": (("size", 1, "int64"), ("name", 2, "string")),
    "TensorProto": (
        ("dtype", 1, "int32"),
        ("tensor_shape", 2, "TensorShapeProto"),
        ("tensor_content", 4, "bytes"),
        ("float_val", 5, "*float"),
        ("double_val", 6, "*double"),
        ("int_val", 7, "*int32"),
        ("string_val", 8, "*bytes"),
        ("int64_val", 10, "*int64"),
        ("bool_val", 11, "*bool"),
        ("half_val", 13, "*int32"),
        ("uint32_val", 16, "*uint32"),
        ("uint64_val", 17, "*uint64"),
    ),
    "FunctionDefLibrary": (("function", 1, "*FunctionDef"),),
    "FunctionDef": (("signature", 1, "OpDef"), ("node_def", 3, "*NodeDef"), ("ret", 4, "string{}")),
    "OpDef": (("name", 1, "string"), ("input_arg", 2, "*ArgDef"), ("output_arg", 3, "*ArgDef")),
    "ArgDef": (("name", 1, "string"), ("type", 3, "int32")),
    "SavedModel": (("saved_model_schema_version", 1, "int64"), ("meta_graphs", 2, "*MetaGraphDef")),
    "MetaGraphDef": (("graph_def", 2, "GraphDef"), ("signature_def", 5, "SignatureDef{}")),
    "SignatureDef": (("inputs", 1, "TensorInfo{}"), ("outputs", 2, "TensorInfo{}"), ("method_name", 3, "string")),
    "TensorInfo": (("name", 1, "string"), ("dtype", 2, "int32"), ("tensor_shape", 3, "TensorShapeProto")),
}


def _set_type(field: Any, kind: str) -> None:
    if kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)
    if kind.endswith("{}"):
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=_FIELD.LABEL_OPTIONAL, type=_FIELD.TYPE_STRING)
        _set_type(entry.field.add(name="value", number=2, label=_FIELD.LABEL_OPTIONAL), kind[:-2])
        field.label = _FIELD.LABEL_REPEATED
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{message.name}.{entry.name}"
        return
    if kind.startswith("*"):
        field.label = _FIELD.LABEL_REPEATED
    _set_type(field, kind.removeprefix("*"))


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="enginewright/tensorflow.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields:
            _add_field(message, *field)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = (pool.FindMessageTypeByName(f"{_PACKAGE}.{name}") for name in _MESSAGES)
    return {each.name: message_factory.GetMessageClass(each) for each in found}


CLASSES = _classes()
GraphDef: Any = CLASSES["GraphDef"]
SavedModel: Any = CLASSES["SavedModel"]
TensorProto: Any = CLASSES["TensorProto"]
