"""A file of TensorFlow's as a graph with names for what goes in and out: a frozen graph, or a saved_model.pb.

A SavedModel names its inputs and outputs in a signature. Its weights usually lie in variables beside it, which are not
read: a model whose function has constants alone is one that was exported so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf publishes no types

from enginewright_builder.importers.tensorflow import graph, schema
from enginewright_builder.importers.tensorflow.graph import Node, Ref
from enginewright_runtime.errors import UnsupportedError

_FILE = "saved_model.pb"
_DEFAULT = "serving_default"
_INITIALIZER = "__saved_model_init_op"
_VARIABLES = frozenset(
    {"VarHandleOp", "VariableV2", "Variable", "ReadVariableOp", "AutoReloadVariable", "HashTableV2", "RestoreV2"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A GraphDef, and its signature's names; none in a frozen graph."""

    graph: Any
    inputs: Mapping[str, Ref] = field(default_factory=dict)
    outputs: Mapping[str, Ref] = field(default_factory=dict)


def read(path: Path) -> Content:
    """Read a file, or the saved_model.pb of a folder. Raises ModelError, UnsupportedError for several signatures."""
    data = graph.data_of(path / _FILE if path.is_dir() and (path / _FILE).exists() else path)
    saved = _saved(data)
    if saved is None:
        return Content(graph=graph.parse(data, path))
    meta = next((each for each in saved.meta_graphs if _DEFAULT in each.signature_def), saved.meta_graphs[0])
    signatures = {name: each for name, each in meta.signature_def.items() if name != _INITIALIZER and each.outputs}
    if _DEFAULT not in signatures and len(signatures) > 1:
        raise UnsupportedError(
            f"The model {path} has the signatures {', '.join(sorted(signatures))} and none named {_DEFAULT!r}: export "
            "it with that one."
        )
    chosen = signatures.get(_DEFAULT) or next(iter(signatures.values()), None)
    if chosen is None:
        return Content(graph=meta.graph_def)
    return Content(graph=meta.graph_def, inputs=_refs(chosen.inputs), outputs=_refs(chosen.outputs))


def _saved(data: bytes) -> Any | None:
    """The SavedModel that the bytes are; None for a GraphDef, which has no version in that place."""
    saved = schema.SavedModel()
    try:
        saved.ParseFromString(data)
    except DecodeError:
        return None
    found = saved.saved_model_schema_version > 0 and saved.meta_graphs and saved.meta_graphs[0].graph_def.node
    return saved if found else None


def _refs(signature: Mapping[str, Any]) -> dict[str, Ref]:
    return {name: Ref.parse(signature[name].name) for name in sorted(signature) if signature[name].name}


def require_constants(order: Sequence[Node], where: str) -> None:
    """Refuse a graph whose weights lie in variables. Raises UnsupportedError naming some."""
    found = [node.name for node in order if node.op in _VARIABLES]
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise UnsupportedError(
            f"{where} keeps weights in variables ({', '.join(map(repr, found[:3]))}{more}), which lie beside it: "
            "freeze it (convert_variables_to_constants_v2), so that they are constants."
        )
