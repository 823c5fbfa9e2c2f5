"""Einsum's equations are looked at before ONNX's shape inference is: of one with other signs it never finds the end."""

import re
from collections.abc import Iterator
from pathlib import Path

import onnx

from enginewright_runtime.errors import ModelError

_EQUATION = re.compile(rb"[A-Za-z,.>\s-]*")


def check(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse a model with an equation that is none. Raises ModelError."""
    for graph in (proto.graph, *proto.functions):
        for node in _nodes(graph):
            equations = [each.s for each in node.attribute if each.name == "equation"]
            standard = node.op_type == "Einsum" and node.domain in ("", "ai.onnx")
            if standard and not all(_EQUATION.fullmatch(each) for each in equations):
                layer = node.name or (node.output[0] if node.output else "")
                raise ModelError(
                    f"The model {path} has the equation {equations[0][:80]!r} in the Einsum {layer!r}: wanted letters, "
                    "commas, dots and an arrow; export it again."
                )


def _nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _nodes(body)
