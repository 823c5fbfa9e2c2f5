"""protobuf's message classes from the text of a .proto file, without a compiler: a subset of the language.

Each text gets a pool of its own, so that an installed Caffe or TensorFlow does not collide with it.
"""

import re
from collections.abc import Mapping
from typing import Any

from google.protobuf import (  # type: ignore[import-untyped]  # protobuf publishes no types
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

_DESCRIPTOR = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    kind: getattr(_DESCRIPTOR, f"TYPE_{kind.upper()}")
    for kind in ("string", "bytes", "int32", "int64", "uint32", "uint64", "float", "double", "bool")
}
_HEADER = re.compile(r'syntax = "(\w+)";\s*package ([\w.]+);')
_BLOCK = re.compile(r"(message|enum)\s+(\w+)\s*\{")
_FIELD = re.compile(
    r"(?:(optional|repeated)\s+)?(\w+|map<string, \w+>)\s+(\w+)\s*=\s*(\d+)(?:\s*\[default = ([^\]]+)\])?;"
)
_VALUE = re.compile(r"(\w+)\s*=\s*(\d+)\s*;")
_NEXT = re.compile(rf"(?P<block>{_BLOCK.pattern})|(?P<field>{_FIELD.pattern})|(?P<end>\}})")


def classes(text: str) -> Mapping[str, Any]:
    """The outermost messages' classes by name."""
    file = _file(re.sub("//.*", "", text))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = [pool.FindMessageTypeByName(f"{file.package}.{message.name}") for message in file.message_type]
    return {each.name: message_factory.GetMessageClass(each) for each in found}


def _file(text: str) -> Any:
    header = _HEADER.match(text.strip())
    assert header is not None, "each text begins with its syntax and package"
    file = descriptor_pb2.FileDescriptorProto(name=f"{header[2]}.proto", package=header[2], syntax=header[1])
    enums = set(re.findall(r"enum\s+(\w+)", text))
    scopes: list[Any] = [file]
    position = text.index(header[0]) + len(header[0])
    while (found := _NEXT.search(text, position)) is not None:
        position = found.end()
        if found["end"]:
            scopes.pop()
        elif found["field"]:
            _add_field(file.package, scopes[-1], *_FIELD.fullmatch(found["field"]).groups(), enums=enums)  # type: ignore[union-attr]
        else:
            kind, name = _BLOCK.fullmatch(found["block"]).groups()  # type: ignore[union-attr]
            position = _open(scopes, kind, name, text, position)
    return file


def _open(scopes: list[Any], kind: str, name: str, text: str, position: int) -> int:
    """Begin a message, or take in a whole enumeration. Returns where to read on."""
    scope, outermost = scopes[-1], len(scopes) == 1
    if kind == "message":
        scopes.append((scope.message_type if outermost else scope.nested_type).add(name=name))
        return position
    enum, end = scope.enum_type.add(name=name), text.index("}", position)
    for value, number in _VALUE.findall(text, position, end):
        enum.value.add(name=value, number=int(number))
    return end + 1


def _add_field(
    package: str,
    message: Any,
    label: str | None,
    kind: str,
    name: str,
    number: str,
    default: str | None,
    *,
    enums: set[str],
) -> None:
    field = message.field.add(name=name, number=int(number), label=_DESCRIPTOR.LABEL_OPTIONAL)
    if kind.startswith("map<"):
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(package, entry, None, "string", "key", "1", None, enums=enums)
        _add_field(package, entry, None, kind[len("map<string, ") : -1], "value", "2", None, enums=enums)
        label, kind = "repeated", f"{message.name}.{entry.name}"
    if label == "repeated":
        field.label = _DESCRIPTOR.LABEL_REPEATED
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        nested = any(enum.name == kind for enum in message.enum_type)
        field.type = _DESCRIPTOR.TYPE_ENUM if kind in enums else _DESCRIPTOR.TYPE_MESSAGE
        field.type_name = f".{package}.{message.name}.{kind}" if nested else f".{package}.{kind}"
    if default is not None:
        field.default_value = default.strip('"')
