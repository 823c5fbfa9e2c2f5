"""What all three kinds have in common: strict specs, forgiving statuses, metadata, conditions.

A spec refuses fields it does not know, as the API server does, so that a typo is an error everywhere. A status and the
metadata ignore them: they are written by other versions and other programs.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "enginewright.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


def validations(*rules: tuple[str, str]) -> dict[str, Any]:
    """CEL rules with their messages, as `json_schema_extra`: the API server enforces them, there is no webhook."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


def camel_case(name: str) -> str:
    """plan_uri is planURI, gpu_class is gpuClass: Kubernetes writes initialisms large, except at the start."""
    name = to_camel(name)
    return name.removesuffix("Uri") + "URI" if name.endswith("Uri") else name


class Strict(BaseModel):
    """A part of a spec. Frozen: nothing in this program changes what a person wrote."""

    model_config = ConfigDict(alias_generator=camel_case, populate_by_name=True, extra="forbid", frozen=True)


class Lenient(BaseModel):
    """A part of a status or of the metadata, which others write too."""

    model_config = ConfigDict(alias_generator=camel_case, populate_by_name=True, extra="ignore", frozen=True)


# The status that the API server gives an object until the operator says something. To kstatus an object without a
# status is Current: so a tool would take one that nobody has looked at yet for done.
UNSEEN: Mapping[str, Any] = MappingProxyType({"observedGeneration": -1})


def seen(status: Any) -> Any:
    """The status, or None where it says only that nobody has looked yet (the server adds the fields' own defaults)."""
    nothing = isinstance(status, Mapping) and status.get("observedGeneration") == UNSEEN["observedGeneration"]
    return None if nothing else status


Seen = BeforeValidator(seen)


class OwnerReference(Lenient):
    """An object that keeps this one alive."""

    api_version: str
    kind: str
    name: str
    uid: str


class ObjectMeta(Lenient):
    """The fields of Kubernetes' metadata that are read here."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None


class Condition(Lenient):
    """One observation about an object, in the form that kubectl wait and kstatus read."""

    type: str = Field(description="Ready, Reconciling or Stalled; GPUAvailable or Stale beside them.")
    status: str = Field(description="True, False or Unknown.", json_schema_extra={"enum": ["True", "False", "Unknown"]})
    reason: str = Field(description="One CamelCase word, for machines.")
    message: str = Field(description="One sentence, for people: what, which object, got and wanted, what to do.")
    last_transition_time: str = Field(
        description="When the status last changed.", json_schema_extra={"format": "date-time"}
    )
    observed_generation: int = Field(default=0, description="The metadata.generation that this was said of.")
