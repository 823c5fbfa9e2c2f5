"""Which operators ONNX Runtime knows, asked of its own list of schemas, so that a model fails here with all the names
and not later with the first one."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import onnx
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_state

from enginewright_builder.plugins.collection import Plugins
from enginewright_runtime.errors import UnsupportedError

_LISTED = 20
_ONNX_ALIAS = "ai.onnx"


def check(proto: onnx.ModelProto, path: Path, plugins: Plugins) -> None:
    """Refuse a model with operators that ONNX Runtime does not know at the model's opsets. Raises UnsupportedError."""
    local = {(_domain(function.domain), function.name) for function in proto.functions}
    local |= {(plugin.domain, plugin.operator) for plugin in plugins.values()}
    imports = {_domain(entry.domain): entry.version for entry in proto.opset_import}
    unknown = list(_unknown(proto.graph, imports, local))
    for function in proto.functions:
        own = {_domain(entry.domain): entry.version for entry in function.opset_import}
        unknown += _unknown(function, {**imports, **own}, local)
    if unknown:
        listed = "; ".join(unknown[:_LISTED])
        more = f"; and {len(unknown) - _LISTED} more" if len(unknown) > _LISTED else ""
        raise UnsupportedError(
            f"The model {path} uses operators that ONNX Runtime does not know: {listed}{more}: "
            "export it with the standard operators or another opset, or build with a --plugin for them."
        )


def _unknown(
    graph: onnx.GraphProto | onnx.FunctionProto, imports: Mapping[str, int], local: set[tuple[str, str]]
) -> Iterator[str]:
    for node in graph.node:
        domain = _domain(node.domain)
        if (domain, node.op_type) not in local and not _known(domain, node.op_type, imports.get(domain)):
            opset = imports.get(domain, "missing")
            layer = node.name or (node.output[0] if node.output else "")
            yield f"{node.op_type} (domain {domain or _ONNX_ALIAS}, opset {opset}) in layer {layer!r}"
        for attribute in node.attribute:
            for body in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _unknown(body, imports, local)


def _known(domain: str, operator: str, opset: int | None) -> bool:
    # A domain of ONNX Runtime's own needs no import: it takes version 1.
    versions = _schemas().get((domain, operator), {})
    since = [version for version in versions if version <= (opset or 1)]
    return bool(since) and not versions[max(since)]


@cache
def _schemas() -> Mapping[tuple[str, str], Mapping[int, bool]]:
    """(domain, operator) to the opsets in which it changed, each with whether it was withdrawn there."""
    schemas: dict[tuple[str, str], dict[int, bool]] = defaultdict(dict)
    for schema in onnxruntime_state.get_all_operator_schema():
        schemas[schema.domain, schema.name][schema.since_version] = schema.deprecated
    return schemas


def _domain(name: str) -> str:
    return "" if name == _ONNX_ALIAS else name
