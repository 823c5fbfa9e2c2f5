"""The pydantic models as CustomResourceDefinitions: `python -m enginewright_operator.crds FOLDER…` writes them.

Kubernetes wants structural schemas: no references, no alternatives of null, nothing that pydantic adds for itself.
This module translates; it must never say something about a field that the model does not.
"""

import copy
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from enginewright_operator.api import GROUP, UNSEEN, VERSION, EnginePlan, GPUClass, InferenceEngine

HEADER = "# Written by `make crds` from operator/enginewright_operator/api/. Do not edit.\n"

_KEPT = (  # of JSON Schema, what a structural schema may have
    *("type", "format", "description", "default", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength"),
    *("minItems", "maxItems", "minProperties", "maxProperties", "required", "properties", "items"),
    "additionalProperties",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of `kubectl get`; those with a priority show with -o wide only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0

    def to_manifest(self) -> dict[str, Any]:
        """The column as Kubernetes writes it."""
        return {"name": self.name, "type": self.type, "jsonPath": self.path, "priority": self.priority}


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a CRD says beside its schema."""

    model: type[InferenceEngine | EnginePlan | GPUClass]
    singular: str
    short_name: str
    columns: tuple[Column, ...]
    namespaced: bool = True
    scale: bool = False  # spec.replicas and status.replicas are what `kubectl scale` and autoscalers see


_AGE = Column(name="Age", path=".metadata.creationTimestamp", type="date")


def _condition(name: str, field: str) -> str:
    return f".status.conditions[?(@.type=='{name}')].{field}"


DEFINITIONS = (
    Definition(
        model=InferenceEngine,
        singular="inferenceengine",
        short_name="ie",
        scale=True,
        columns=(
            Column(name="Ready", path=_condition("Ready", "status")),
            Column(name="Reason", path=_condition("Ready", "reason")),
            Column(name="Targets", path=".status.targetsReady"),
            Column(name="Plan", path=".status.targets[0].plan"),
            _AGE,
            Column(name="Model", path=".spec.model.uri", priority=1),
            Column(name="Stale", path=_condition("Stale", "status"), priority=1),
            Column(name="URL", path=".status.url", priority=1),
            Column(name="Message", path=_condition("Ready", "message"), priority=1),
        ),
    ),
    Definition(
        model=EnginePlan,
        singular="engineplan",
        short_name="eplan",
        columns=(
            Column(name="Phase", path=".status.phase"),
            Column(name="GPUClass", path=".spec.gpuClass"),
            Column(name="Size", path=".status.bytes", type="integer"),
            Column(name="Seconds", path=".status.measurements.seconds", type="number"),
            _AGE,
            Column(name="Model", path=".spec.model", priority=1),
            Column(name="Why", path=".spec.why", priority=1),
            Column(name="Message", path=".status.message", priority=1),
        ),
    ),
    Definition(
        model=GPUClass,
        singular="gpuclass",
        short_name="gpuc",
        namespaced=False,
        columns=(
            Column(name="Kind", path=".spec.kind"),
            Column(name="Product", path=".spec.product"),
            Column(name="MIG", path=".spec.migProfile"),
            _AGE,
        ),
    ),
)


def custom_resource_definition(definition: Definition) -> dict[str, Any]:
    """The whole CRD of one kind."""
    model = definition.model
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{model.PLURAL}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "enginewright"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if definition.namespaced else "Cluster",
            "names": {
                "kind": model.KIND,
                "listKind": f"{model.KIND}List",
                "plural": model.PLURAL,
                "singular": definition.singular,
                "shortNames": [definition.short_name],
                "categories": ["enginewright"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _root_schema(model)},
                    "additionalPrinterColumns": [column.to_manifest() for column in definition.columns],
                }
                | ({"subresources": _subresources(definition)} if "status" in model.model_fields else {})
            ],
        },
    }


def _subresources(definition: Definition) -> dict[str, Any]:
    replicas = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    scale = {"scale": replicas | {"labelSelectorPath": ".status.selector"}} if definition.scale else {}
    return {"status": {}} | scale


def _root_schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = structural(model)
    properties = schema["properties"]
    properties["apiVersion"] = {"type": "string"}
    properties["kind"] = {"type": "string"}
    properties["metadata"] = {"type": "object"}
    schema["required"] = ["spec"]
    if "status" in properties:
        # The operator alone writes it, as a whole: whose each field is would be noted beside it, twice as long as what
        # it says, and read, compared and written by the API server with every change.
        properties["status"] |= {"default": dict(UNSEEN), "x-kubernetes-map-type": "atomic"}
    return schema


def structural(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema as Kubernetes wants it, references resolved in place."""
    schema = model.model_json_schema(by_alias=True)
    return _structural(schema, schema.get("$defs", {}))


def _structural(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    node = _resolved(node, definitions)
    result = {key: node[key] for key in _KEPT if key in node}
    result |= {key: copy.deepcopy(value) for key, value in node.items() if key.startswith("x-kubernetes-")}
    if "description" in result:
        result["description"] = " ".join(result["description"].split())
    if "properties" in result:
        result["properties"] = {name: _structural(each, definitions) for name, each in result["properties"].items()}
    if "items" in result:
        result["items"] = _structural(result["items"], definitions)
    additional = result.pop("additionalProperties", None)
    if isinstance(additional, dict):
        result["additionalProperties"] = _structural(additional, definitions)
    if result.get("default") in (None, [], {}):
        result.pop("default", None)
    return result


def _resolved(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The node with its reference, and its alternative to null, folded into it; what stands beside them wins."""
    merged = dict(node)
    while "$ref" in merged or "anyOf" in merged:
        if "$ref" in merged:
            target = definitions[merged.pop("$ref").rsplit("/", 1)[-1]]
            merged = {**target, **merged}
            continue
        options = [option for option in merged.pop("anyOf") if option.get("type") != "null"]
        if len(options) == 1:
            merged = {**options[0], **merged}
        elif {option.get("type") for option in options} == {"integer", "string"}:
            merged["x-kubernetes-int-or-string"] = True
        else:
            raise TypeError(f"a structural schema cannot say {options}: change the model's type")
    return merged


def to_yaml(definition: Definition) -> str:
    """The text of crds/<plural>.yaml."""
    manifest = custom_resource_definition(definition)
    return HEADER + yaml.safe_dump(manifest, sort_keys=False, width=120, allow_unicode=True)


def main(folders: list[str]) -> None:
    """Write one file a kind into each folder; without one, into crds/ and the chart's copy."""
    for folder in folders or ["crds", "charts/enginewright/crds"]:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for definition in DEFINITIONS:
            Path(folder, f"{definition.model.PLURAL}.yaml").write_text(to_yaml(definition), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
