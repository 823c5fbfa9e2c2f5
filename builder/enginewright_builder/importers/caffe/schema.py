"""caffe.proto as protobuf's message classes, without a compiler: the subset of the language that the file uses."""

import re
from functools import cache
from importlib import resources
from typing import Any

from google.protobuf import (  # type: ignore[import-untyped]  # protobuf publishes no types
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

_PACKAGE = "enginewright.caffe"
_SCALARS = {"string": 9, "float": 2, "bool": 8, "int32": 5, "int64": 3, "uint32": 13}
_LABELS = {"optional": 1, "repeated": 3}
_MESSAGE, _ENUM = 11, 14
_BLOCK = re.compile(r"(message|enum)\s+(\w+)\s*\{")
_FIELD = re.compile(r"(optional|repeated)\s+(\w+)\s+(\w+)\s*=\s*(\d+)(?:\s*\[default = ([^\]]+)\])?;")
_VALUE = re.compile(r"(\w+)\s*=\s*(\d+)\s*;")
_NEXT = re.compile(rf"(?P<block>{_BLOCK.pattern})|(?P<field>{_FIELD.pattern})|(?P<end>\}})")


@cache
def net_parameter() -> Any:
    """The message class of a whole prototxt."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file(resources.files(__package__).joinpath("caffe.proto").read_text(encoding="utf-8")))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.NetParameter"))


def _file(text: str) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package=_PACKAGE, syntax="proto2")
    text = re.sub("//.*", "", text)
    enums = set(re.findall(r"enum\s+(\w+)", text))
    scopes: list[Any] = [file]
    position = 0
    while (found := _NEXT.search(text, position)) is not None:
        position = found.end()
        if found["end"]:
            scopes.pop()
        elif found["field"]:
            _add_field(scopes[-1], *_FIELD.fullmatch(found["field"]).groups(), enums=enums)  # type: ignore[union-attr]
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
    message: Any, label: str, kind: str, name: str, number: str, default: str | None, *, enums: set[str]
) -> None:
    field = message.field.add(name=name, number=int(number), label=_LABELS[label])
    field.type = _SCALARS.get(kind, _ENUM if kind in enums else _MESSAGE)
    if kind not in _SCALARS:
        nested = any(enum.name == kind for enum in message.enum_type)
        field.type_name = f".{_PACKAGE}.{message.name}.{kind}" if nested else f".{_PACKAGE}.{kind}"
    if default is not None:
        field.default_value = default.strip('"')
