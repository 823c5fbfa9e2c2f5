"""The text form back to a network: the inverse of text.to_text, with the same words.

Constants whose content the text leaves out are given by name. Everything that the text says of types is checked
against them, and nothing but literals is ever evaluated.
"""

import ast
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from enginewright_builder.network import fused
from enginewright_builder.network.network import FUSED_DOMAIN, ONNX_DOMAIN, Array, Network
from enginewright_builder.network.text import DTYPE_NAMES
from enginewright_runtime.errors import ModelError

_DTYPES: Mapping[str, ir.DataType] = {name: dtype for dtype, name in DTYPE_NAMES.items()}
_HEAD = re.compile(r'network "(?P<name>.*)", opset (?P<opset>\d+)(?P<domains>(, \S+ \d+)*)')
_FIRST_WITH_FUNCTIONS = 8  # IR version
_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<mark>[(),=\[\]{}]|:(?=\s|$))"""
    r"""|(?P<word>(?:[^\s(),=\[\]{}:'"]|:(?=\S))+))"""
)


def from_text(text: str, constants: Mapping[str, Array] | None = None) -> Network:
    """The network that `to_text` gave `text` for; `constants` are those of `text.unseen`.

    Raises ModelError naming the line: a word out of place, a name that nothing makes, a constant that is missing or of
    another type than the text says.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    head = _HEAD.fullmatch(lines[0]) if lines else None
    if head is None:
        raise ModelError('The text is no network: its first line must be as network "name", opset 17.')
    pairs = [entry.rsplit(" ", 1) for entry in head["domains"].split(", ")[1:]]
    imports = {ONNX_DOMAIN: int(head["opset"])} | {domain: int(version) for domain, version in pairs}
    known = [onnx.helper.make_opsetid(domain, version) for domain, version in imports.items()]
    reader = _Reader(lines, constants or {})
    graph = reader.graph(head["name"], 0, {})
    graph.opset_imports.update(imports)
    version = onnx.helper.find_min_ir_version_for(known, ignore_unknown=True)
    functions = list(reader.functions())
    if functions:
        version = max(version, _FIRST_WITH_FUNCTIONS)
    return Network(ir.Model(graph, ir_version=version, functions=functions))


@dataclass(slots=True)
class _Line:
    """The tokens of one line, taken from the front: (word, was it quoted)."""

    number: int
    text: str
    tokens: list[tuple[str, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        at, text = 0, self.text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise self.wrong(f"cannot be read from {text[at : at + 20]!r} on")
            quoted = match["quoted"]
            token = ast.literal_eval(quoted) if quoted else match["mark"] or match["word"]
            self.tokens.append((token, bool(quoted)))
            at = match.end()

    def wrong(self, what: str) -> ModelError:
        return ModelError(f"Line {self.number} of the text {what}: {self.text.strip()}")

    def sees(self, mark: str, ahead: int = 0) -> bool:
        return len(self.tokens) > ahead and self.tokens[ahead] == (mark, False)

    def skips(self, mark: str) -> bool:
        return bool(self.sees(mark) and self.tokens.pop(0))

    def expect(self, mark: str) -> None:
        if not self.skips(mark):
            raise self.wrong(f"has {self.tokens[0][0] if self.tokens else 'its end'!r} where {mark!r} should be")

    def take(self) -> tuple[str, bool]:
        if not self.tokens:
            raise self.wrong("ends too early")
        return self.tokens.pop(0)


class _Reader:
    """Reads the lines in order; a body sees what the graphs around it made."""

    def __init__(self, lines: Sequence[str], constants: Mapping[str, Array]) -> None:
        self.lines, self.at, self.constants = lines, 1, constants

    def graph(self, name: str, indent: int, around: Mapping[str, ir.Value]) -> ir.Graph:
        """Inputs, constants and layers up to the line that names the outputs."""
        values = dict(around)
        inputs: list[ir.Value] = []
        graph = ir.Graph([], [], nodes=[], name=name)
        while self.at < len(self.lines):
            line = _Line(self.at + 1, self.lines[self.at])
            if len(line.text) - len(line.text.lstrip()) != indent:
                raise line.wrong(f"is not indented by {indent}")
            self.at += 1
            kind = line.tokens[0][0] if not line.sees(":", 1) else ""
            if kind == "output":
                line.take()
                graph.inputs.extend(inputs)
                graph.outputs.extend(_known(line, values) for _ in _commas(line))
                return graph
            if kind in ("input", "constant"):
                line.take()
                value = self._declared(line)
                values[value.name or ""] = value
                inputs += [value] if kind == "input" else []
                if kind == "constant":
                    value.const_value = self._content(line, value)
                    graph.register_initializer(value)
            else:
                graph.append(self._node(line, values, indent))
        raise ModelError("The text ends before a line that names the outputs.")

    def functions(self) -> Iterator[ir.Function]:
        """What is left of the lines, a head and a graph each."""
        while self.at < len(self.lines):
            line = _Line(self.at + 1, self.lines[self.at])
            self.at += 1
            if line.take() != ("function", False):
                raise line.wrong("stands after the network, and is no local function")
            domain, _, name = line.take()[0].rpartition(".")
            line.expect("(")
            attributes = [
                self._attribute(line, name)
                if line.sees("=", 1)
                else ir.Attr(line.take()[0], ir.AttributeType.UNDEFINED, None)
                for _ in _commas(line)
            ]
            line.expect(")")
            line.expect(",")
            pairs = [(line.take()[0], _literal(line)) for _ in _commas(line)]
            graph = self.graph("", 0, {})
            graph.opset_imports.update({ONNX_DOMAIN if word == "opset" else word: int(at) for word, at in pairs})
            yield ir.Function(domain, name, graph=graph, attributes=attributes)

    def _declared(self, line: _Line) -> ir.Value:
        name, _ = line.take()
        line.expect(":")
        kind, shape = _type(line)
        return ir.Value(name=name, type=kind, shape=shape)

    def _node(self, line: _Line, values: dict[str, ir.Value], indent: int) -> ir.Node:
        layer, _ = line.take()
        line.expect(":")
        names = ["" if token == ("_", False) else token[0] for token in (line.take() for _ in _commas(line))]
        line.expect("=")
        domain, _, operator = line.take()[0].rpartition(".")
        line.expect("(")
        inputs: list[ir.Value | None] = []
        attributes: list[ir.Attr] = []
        for _ in _commas(line):
            if line.sees("=", 1):
                attributes.append(self._attribute(line, layer))
            elif not line.skips("_"):
                inputs.append(_known(line, values))
            else:
                inputs.append(None)
        line.expect(")")
        line.expect(":")
        made = [ir.Value(name=name) for name in names]
        for value, _ in zip([value for value in made if value.name], _commas(line), strict=False):
            value.type, value.shape = _type(line)
        attributes += self._bodies(indent, values)
        values.update({value.name: value for value in made if value.name})
        metadata = {fused.LAYERS: layer.replace("+", "\n")} if domain == FUSED_DOMAIN else {}
        return ir.Node(domain, operator, inputs, attributes, name=layer, outputs=made, metadata_props=metadata)

    def _bodies(self, indent: int, values: Mapping[str, ir.Value]) -> list[ir.Attr]:
        found: list[ir.Attr] = []
        while self.at < len(self.lines) and re.fullmatch(rf" {{{indent + 2}}}[^\s:]+:", self.lines[self.at].rstrip()):
            name = self.lines[self.at].strip(" :")
            self.at += 1
            found.append(ir.AttrGraph(name, self.graph(name, indent + 4, values)))
        return found

    def _attribute(self, line: _Line, layer: str) -> ir.Attr:
        name, _ = line.take()
        line.expect("=")
        if line.skips("["):
            items: Any = [_literal(line) for _ in _commas(line)]
            line.expect("]")
            return ir.convenience.convert_attribute(name, items) if items else ir.AttrInt64s(name, [])
        word, quoted = line.tokens[0] if line.tokens else ("", False)
        if word.startswith("@") and not quoted:
            line.take()
            referred, _, sort = word[1:].rpartition(":")
            if sort.upper() not in ir.AttributeType.__members__:
                raise line.wrong(f"has no type of attribute {sort!r}")
            return ir.RefAttr(name, referred, ir.AttributeType[sort.upper()])
        if not line.sees("[", 1):
            return ir.convenience.convert_attribute(name, _literal(line))
        if line.tokens[0][0] in ("floats", "strings"):
            make = ir.AttrFloat32s if line.take()[0] == "floats" else ir.AttrStrings
            line.expect("[")
            line.expect("]")
            return make(name, [])
        kind, shape = _type(line)
        return ir.AttrTensor(name, self._tensor(line, kind, shape, f"{layer}.{name}", inside="{"))

    def _content(self, line: _Line, value: ir.Value) -> ir.TensorProtocol:
        return self._tensor(line, value.type, value.shape, value.name or "", inside="=")

    def _tensor(
        self, line: _Line, kind: ir.TypeProtocol | None, shape: ir.Shape | None, name: str, *, inside: str
    ) -> ir.TensorProtocol:
        """A tensor's elements from the line, or the whole of it from the constants that were given."""
        if not isinstance(kind, ir.TensorType) or shape is None or not shape.is_static():
            raise line.wrong(f"does not tell the type and all sizes of {name!r}")
        sizes = tuple(shape.numpy())
        if line.skips(inside):
            items = [_literal(line) for _ in _commas(line)]
            if inside == "{":
                line.expect("}")
            if len(items) != math.prod(sizes):
                raise line.wrong(f"has {len(items)} elements for {list(sizes)}")
            if kind.dtype is ir.DataType.STRING:
                return ir.StringTensor([str(item).encode() for item in items], shape=shape, name=name)
            array = np.array(items).astype(kind.dtype.numpy()).reshape(sizes)
        elif 0 in sizes:
            array = np.zeros(sizes, kind.dtype.numpy())
        elif name in self.constants:
            array = self.constants[name]
        else:
            raise ModelError(f"The constant {name!r} is not given, and the text does not show its {list(sizes)}.")
        if kind.dtype is ir.DataType.STRING:
            return ir.StringTensor([bytes(item) for item in array.ravel()], shape=shape, name=name)
        if array.dtype.kind == "V" and array.dtype.itemsize == kind.dtype.numpy().itemsize:
            array = array.view(kind.dtype.numpy())  # bfloat16 and its like, which no .npz file knows
        if array.shape != sizes or array.dtype != kind.dtype.numpy():
            raise ModelError(
                f"The constant {name!r} is {array.dtype.name} {list(array.shape)}, and the text has "
                f"{DTYPE_NAMES[kind.dtype]} {list(sizes)}."
            )
        return ir.Tensor(array, dtype=kind.dtype, shape=shape, name=name)


def _commas(line: _Line) -> Iterator[None]:
    """Once for each item of a list that commas part, up to a closing mark or the line's end."""
    if not line.tokens or any(line.sees(mark) for mark in ")]}"):
        return
    yield
    while line.skips(","):
        yield


def _known(line: _Line, values: Mapping[str, ir.Value]) -> ir.Value:
    name, _ = line.take()
    if name not in values:
        raise line.wrong(f"reads {name!r}, which nothing before it makes")
    return values[name]


def _type(line: _Line) -> tuple[ir.TypeProtocol | None, ir.Shape | None]:
    name, _ = line.take()
    if name in ("sequence", "optional"):
        line.expect("(")
        inner, shape = _type(line)
        line.expect(")")
        if not isinstance(inner, ir.TensorType | ir.SequenceType):
            raise line.wrong(f"has {name} of no tensor")
        return (ir.SequenceType if name == "sequence" else ir.OptionalType)(inner), shape
    if name == "?":
        return None, None
    if name not in _DTYPES:
        raise line.wrong(f"has no dtype {name!r}")
    line.expect("[")
    sizes: list[int | str | None] = []
    for _ in _commas(line):
        size, quoted = line.take()
        sizes.append(size if quoted else None if size == "?" else int(size) if size.isdigit() else size)
    line.expect("]")
    return ir.TensorType(_DTYPES[name]), None if sizes == ["..."] else ir.Shape(sizes)


def _literal(line: _Line) -> int | float | str:
    token, quoted = line.take()
    if quoted:
        return token
    try:
        return int(token) if re.fullmatch(r"-?\d+", token) else float(token)
    except ValueError:
        raise line.wrong(f"has {token!r} where a number should be") from None
