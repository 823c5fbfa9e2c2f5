"""Whether every name that a layer reads is made somewhere.

ONNX's checker does not ask this inside of functions, and stops before it where layers are out of order.
"""

from collections.abc import Iterable
from pathlib import Path

import onnx

from enginewright_runtime.errors import ModelError


def check(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse a model in which something reads what nothing makes, in whatever order. Raises ModelError."""
    _check_attributes(proto.graph.node, path)
    _check(proto.graph, frozenset(), path)
    for function in proto.functions:
        made = frozenset((*function.input, *(name for node in function.node for name in node.output)))
        _check_nodes(function.node, made, path)
        _check_outputs(function.output, made, path)


def _check(graph: onnx.GraphProto, outside: frozenset[str], path: Path) -> None:
    made = [*(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)]
    made += [sparse.values.name for sparse in graph.sparse_initializer]
    made += [name for node in graph.node for name in node.output]
    known = outside | frozenset(made)
    _check_nodes(graph.node, known, path)
    _check_outputs((value.name for value in graph.output), frozenset(made), path)


def _check_nodes(nodes: Iterable[onnx.NodeProto], known: frozenset[str], path: Path) -> None:
    for node in nodes:
        layer = node.name or node.op_type
        for name in node.input:
            if name and name not in known:
                raise ModelError(
                    f"The model {path} is not valid ONNX: layer {layer!r} reads {name!r}, which no layer makes and "
                    "which is no input; export it again."
                )
        for attribute in node.attribute:
            for body in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _check(body, known, path)


def _check_attributes(nodes: Iterable[onnx.NodeProto], path: Path) -> None:
    """Only layers of a function take attributes from whoever calls it."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                raise ModelError(
                    f"The model {path} is not valid ONNX: layer {(node.name or node.op_type)!r} takes its attribute "
                    f"{attribute.name!r} from a function, and stands in none; export it again."
                )
            for body in (*attribute.graphs, attribute.g):
                _check_attributes(body.node, path)


def _check_outputs(names: Iterable[str], made: frozenset[str], path: Path) -> None:
    for name in names:
        if name not in made:
            raise ModelError(
                f"The model {path} is not valid ONNX: its output {name!r} is made by no layer; export it again."
            )
