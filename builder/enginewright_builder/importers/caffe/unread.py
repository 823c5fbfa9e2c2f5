"""Which layers of a prototxt have fields that are not known here: what such a field says could change their results.

protobuf tells the first unknown field of a text only, and not whose it is: so each layer's text is parsed by itself.
"""

import re
from collections.abc import Iterator

from google.protobuf import text_format  # type: ignore[import-untyped]  # protobuf publishes no types

from enginewright_builder.importers.caffe import schema

_TOKEN = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\w+|[{}<>]""")
_UNKNOWN = re.compile(r'Message type "(?:\w+\.)*(\w+)" has no field named "(\w+)"')


def of_layers(text: str, *, old: bool) -> list[str]:
    """Of each `layer`, or of each of the older `layers`, its first unknown field in words; empty where it has none."""
    kind = schema.layer_parameter(old=old)
    return [_first(each, kind()) for name, each in _messages(text) if name == ("layers" if old else "layer")]


def _first(text: str, message: object) -> str:
    try:
        text_format.Merge(text, message)
    except text_format.ParseError as error:
        found = _UNKNOWN.search(str(error))
        return f"{found[2]!r} of {found[1]}" if found is not None else "what cannot be read alone"
    return ""


def _messages(text: str) -> Iterator[tuple[str, str]]:
    """The outermost messages of a text that parses: their fields' names, and what stands between their brackets."""
    depth, start, name = 0, 0, ""
    for token in _TOKEN.finditer(text):
        if token[0] in ("{", "<"):
            start = start if depth else token.end()
            depth += 1
        elif token[0] in ("}", ">"):
            depth -= 1
            if not depth:
                yield name, text[start : token.start()]
        elif not depth and token[0][0] not in "#\"'":
            name = token[0]
