"""EnginePlan: one build and the plan it made. The operator's own; named by the digest of its recipe, never changed.

Two engines that need the same recipe share one EnginePlan: its ownerReferences are its reference count.
"""

from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from enginewright_operator.api.base import API_VERSION, Condition, Lenient, ObjectMeta, Seen, Strict, validations
from enginewright_operator.api.quantities import Duration
from enginewright_operator.api.resources import Resources
from enginewright_operator.api.storage import ObjectName, Storage, Uri
from enginewright_runtime.plan import records
from enginewright_runtime.plan.recipe import Recipe

FINALIZER = "enginewright.dev/stored-plan"


class Phase(StrEnum):
    """How far a plan is."""

    PENDING = "Pending"
    BUILDING = "Building"
    BUILT = "Built"
    FAILED = "Failed"


class EnginePlanSpec(Strict):
    """What is built, where, and where it goes. Immutable."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            (
                "self == oldSelf",
                "an EnginePlan's spec never changes: it is named by its recipe's digest; make another one",
            ),
        )
    )

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64)] = Field(
        description="sha256 of the recipe's canonical JSON."
    )
    gpu_class: ObjectName = Field(description="The GPUClass whose nodes build it.")
    recipe: dict[str, Any] = Field(
        description="All that decides the plan: the model's identity, shapes, precisions, gates, target, builder.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )
    model: Uri = Field(description="Where the model lies.")
    companion: Uri | None = Field(default=None, description="Where a Caffe model's prototxt lies.")
    calibration: Uri | None = Field(default=None, description="Where the calibration data lie.")
    accuracy_data: Uri | None = Field(default=None, description="Where the accuracy gate's data lie.")
    plugins: tuple[Uri, ...] = Field(default=(), max_length=16, description="Where the modules of its plugins lie.")
    plan_uri: Uri = Field(description="Where the plan goes: <storage>/plans/<namespace>/<digest>/engine.plan.")
    storage: Storage = Field(description="How to reach the storage.")
    deadline: Duration = Field(default="30m", description="After this long the build Job is stopped and has failed.")
    queue: ObjectName | None = Field(default=None, description="The Kueue LocalQueue that admits the build Job.")
    resources: Resources | None = Field(default=None, description="Requests and limits of the build's pod.")
    why: str = Field(
        default="", max_length=4096, description="Why it was built: what changed against the plan before it."
    )

    @cached_property
    def parsed_recipe(self) -> Recipe:
        """`recipe` as builder and runtime read it. Raises PlanError naming the field that does not fit."""
        return records.from_json(Recipe, self.recipe, what="spec.recipe")


class GateVerdict(Lenient):
    """One gate's judgement."""

    gate: str = Field(description="accuracy, latency or memory.")
    passed: bool = Field(description="Whether the plan may serve, as far as this gate goes.")
    measured: float = Field(default=0.0, description="What was measured, in `unit`.")
    limit: float = Field(default=0.0, description="What was allowed, in `unit`.")
    unit: str = Field(default="", description="The unit of both.")
    message: str = Field(default="", description="By how much it failed, in words.")


class Measurements(Lenient):
    """What the build measured."""

    layers_before: int = Field(default=0, description="Layers of the model.")
    layers_after: int = Field(default=0, description="Layers of the plan, after fusion.")
    seconds: float = Field(default=0.0, description="How long the build took.")
    latency_ms: dict[str, float] = Field(
        default_factory=dict, description="Milliseconds of one inference, by percentile or shape."
    )


class BuildProgress(Lenient):
    """How far a build is."""

    phase: str = Field(default="", description="What it is doing.")
    done: int = Field(default=0, description="How many steps of this phase are done.")
    total: int = Field(default=0, description="How many steps this phase has; 0 where that is not known.")
    seconds_left: int = Field(default=0, description="About how long this phase goes on; 0 where that is not known.")


class EnginePlanStatus(Lenient):
    """How the build went. Written by the operator alone."""

    observed_generation: int = Field(default=0, description="The metadata.generation that this status is of.")
    phase: Phase = Field(default=Phase.PENDING, description="Pending, Building, Built or Failed.")
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description="Ready, Reconciling and Stalled, as kubectl wait reads them; until the build has "
        "ended, GPUAvailable.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    outcome: str = Field(default="", description="How the build ended: DONE, GATE_FAILED, BAD_MODEL and so on.")
    message: str = Field(default="", description="The builder's own sentence.")
    job: str = Field(default="", description="The build Job.")
    builder_image: str = Field(
        default="",
        description="The image that the build ran, as its node's kubelet names it: by the digest that a tag had there.",
    )
    plan_uri: str = Field(default="", description="Where the plan lies, once it is built.")
    bytes: int = Field(default=0, description="The plan's size.", json_schema_extra={"format": "int64"})
    sha256: str = Field(default="", description="sha256 of the plan's bytes.")
    progress: BuildProgress | None = Field(default=None, description="How far the build is, while it runs.")
    attempts: int = Field(default=0, description="How many build Jobs there were.")
    finished_at: str | None = Field(
        default=None, description="When the build ended.", json_schema_extra={"format": "date-time"}
    )
    measurements: Measurements | None = Field(default=None, description="What the build measured.")
    gates: tuple[GateVerdict, ...] = Field(default=(), description="The gates' verdicts.")
    workspace: int = Field(
        default=0,
        description="Bytes of workspace that the second build has, after one ran out of memory; 0: the recipe's own.",
        json_schema_extra={"format": "int64"},
    )


class EnginePlan(Lenient):
    """One build of a model for one GPU class, and the plan that it made. Made by the operator, shared by engines."""

    KIND: ClassVar[str] = "EnginePlan"
    PLURAL: ClassVar[str] = "engineplans"

    api_version: str = API_VERSION
    kind: str = KIND
    metadata: ObjectMeta
    spec: EnginePlanSpec = Field(
        description="What is built, where, and where it goes.",
        json_schema_extra={"x-kubernetes-map-type": "atomic"},  # it never changes, so it has one owner as a whole
    )
    status: Annotated[EnginePlanStatus | None, Seen] = Field(default=None, description="How the build went.")

    def to_manifest(self) -> dict[str, Any]:
        """The object as Kubernetes writes it, without what is absent."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
