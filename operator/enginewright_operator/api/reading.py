"""Manifests to objects, with errors that a person can act on: the first thing that is wrong, and what was meant.

The API server makes the same checks from the CRDs; this one serves `explain` and `up`, which have no server, and the
operator itself, which may be older or newer than the CRDs that are installed.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from enginewright_operator.api.base import API_VERSION
from enginewright_operator.api.engine import InferenceEngine
from enginewright_operator.api.gpu_class import GPUClass
from enginewright_operator.api.plan import EnginePlan
from enginewright_operator.errors import ManifestError

Kind = TypeVar("Kind", InferenceEngine, EnginePlan, GPUClass)


def read(cls: type[Kind], manifest: Mapping[str, Any]) -> Kind:
    """The object that a manifest describes. Raises ManifestError naming the field, what was got and what was wanted."""
    name = (manifest.get("metadata") or {}).get("name") or "without a name"
    if manifest.get("apiVersion") != API_VERSION or manifest.get("kind") != cls.KIND:
        raise ManifestError(
            f"The manifest {name!r} is of kind {manifest.get('kind')} ({manifest.get('apiVersion')}), and wanted is "
            f"{cls.KIND} ({API_VERSION}): correct apiVersion and kind."
        )
    try:
        return cls.model_validate(manifest)
    except ValidationError as error:
        raise ManifestError(f"The {cls.KIND} {name!r} cannot be read: {_sentence(cls, first_fault(error))}.") from error


def first_fault(error: ValidationError) -> ErrorDetails:
    """The fault to tell: an unknown field before all others, since a missing one is often just that one misspelt."""
    faults = error.errors()
    return next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])


def _sentence(cls: type[BaseModel], detail: ErrorDetails) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"]).lstrip(".")
    if detail["type"] == "extra_forbidden":
        known = _fields(cls, detail["loc"][:-1])
        close = get_close_matches(str(detail["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there may be {', '.join(known)}"
        return f"there is no field {place}; {hint}".rstrip("?")
    if detail["type"] == "missing":
        return f"the field {place} is missing"
    got = repr(detail["input"])
    return f"{place}: {detail['msg'][:1].lower()}{detail['msg'][1:]}, got {got if len(got) <= 60 else got[:57] + '...'}"


def _fields(cls: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The names of the fields that may stand at `place` of a manifest of this kind."""
    schema = cls.model_json_schema(by_alias=True)
    node: dict[str, Any] = schema
    for part in place:
        node = _resolve(schema, node)
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
    return sorted(_resolve(schema, node).get("properties", {}))


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    for option in node.get("anyOf", ()):
        if option.get("type") != "null":
            node = option
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node
