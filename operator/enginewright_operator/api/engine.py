"""InferenceEngine: what a person writes. A model, where it is to run, and what it must prove before it serves."""

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from enginewright_operator.api.base import API_VERSION, Condition, Lenient, ObjectMeta, Seen, Strict, validations
from enginewright_operator.api.build import Build, Calibration, PrecisionChoice
from enginewright_operator.api.gates import Gates
from enginewright_operator.api.rollout import CanaryStatus, Rejection, Rollout
from enginewright_operator.api.serving import Serving
from enginewright_operator.api.storage import ObjectName, Storage, Uri, uri_rules
from enginewright_runtime.plan.recipe import ModelFormat

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", min_length=64, max_length=64)]
TensorName = Annotated[str, Field(min_length=1, max_length=256)]
Dimension = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Model(Strict):
    """The trained file."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            (
                "!(self.uri.endsWith('.caffemodel') || (has(self.format) && self.format == 'caffe')) "
                "|| has(self.prototxt)",
                "a Caffe model needs model.prototxt, the URI of the file that describes its layers",
            ),
        )
    )

    uri: Uri = Field(
        description="Where the model lies: s3://bucket/key (or file:///path).", json_schema_extra=uri_rules("model.uri")
    )
    sha256: Sha256 | None = Field(
        default=None,
        description="sha256 of the model's bytes, 64 hexadecimal digits. Without it the store's own version of the "
        "object (its ETag) stands for the model, and a model replaced in place is built anew.",
    )
    format: ModelFormat | None = Field(
        default=None, description="Which importer reads it; by default the one of the file's suffix."
    )
    outputs: Annotated[tuple[TensorName, ...], Field(max_length=64)] = Field(
        default=(), description="The tensors to compute; by default the model's own outputs."
    )
    prototxt: Uri | None = Field(
        default=None,
        description="For Caffe: the URI of the file that describes the layers.",
        json_schema_extra=uri_rules("model.prototxt"),
    )


class Target(Strict):
    """One GPU class that the model is to run on, with a plan and a Deployment of its own."""

    gpu_class: ObjectName = Field(description="Name of a GPUClass: `kubectl get gpuclasses` lists them.")
    replicas: int | None = Field(
        default=None, ge=0, le=1000, description="How many pods serve on this class; by default spec.replicas."
    )


class InferenceEngineSpec(Strict):
    """What you want to have."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            (
                "!(has(self.shapes) && size(self.shapes) > 0 && has(self.batchSizes) && size(self.batchSizes) > 0)",
                "give either shapes (every input's exact dimensions) or batchSizes (only the batch is free), not both",
            ),
            (
                "!(has(self.precision) && has(self.precision.allow) && 'int8' in self.precision.allow) "
                "|| has(self.calibration)",
                "precision int8 needs calibration.uri, the data from which the ranges are taken",
            ),
            (
                "!(has(self.serving) && has(self.serving.route) && has(self.rollout) "
                "&& self.rollout.strategy == 'Canary') || size(self.targets) == 1",
                "serving.route has one weight for a canary: give a single target, or take serving.route away",
            ),
            (
                "!(has(self.serving) && has(self.serving.autoscaling)) "
                "|| (size(self.targets) == 1 && !has(self.targets[0].replicas))",
                "serving.autoscaling writes spec.replicas: give a single target, without replicas of its own",
            ),
            (
                "!(has(self.rollout) && self.rollout.strategy == 'Canary' && self.rollout.maxSurge == 0) "
                "|| self.targets.all(one, (has(one.replicas) ? one.replicas : self.replicas) != 1)",
                "a canary of one replica is a second pod: set rollout.maxSurge to 1 or more, or replicas to 2 or more",
            ),
        )
    )

    replicas: int = Field(
        default=1,
        ge=0,
        le=1000,
        description="How many pods serve on each target that gives no number of its own. `kubectl scale` and a "
        "HorizontalPodAutoscaler write it: leave it out of a manifest where one of them does.",
    )
    model: Model = Field(description="The trained file.")
    storage: Storage | None = Field(
        default=None, description="Where plans are kept and how to reach it; by default the operator's storage."
    )
    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=16)] = Field(
        description="The GPU classes to run on, each with a plan and a Deployment of its own.",
        json_schema_extra=validations(
            (
                "self.all(one, self.exists_one(other, other.gpuClass == one.gpuClass))",
                "each gpuClass may be a target only once: change its replicas instead",
            ),
            (
                "self.all(one, !one.gpuClass.endsWith('-canary'))",
                "a target's gpuClass may not end in -canary, as canaries' Deployments do: rename the class",
            ),
        ),
    )
    shapes: Annotated[
        tuple[
            Annotated[
                dict[str, Annotated[tuple[Dimension, ...], Field(max_length=8)]], Field(min_length=1, max_length=32)
            ],
            ...,
        ],
        Field(max_length=32),
    ] = Field(
        default=(),
        description="Exact shapes to build for, each from input name to dimensions, as in {image: [1, 3, 224, 224]}.",
    )
    batch_sizes: Annotated[tuple[Annotated[int, Field(ge=1, le=65536)], ...], Field(max_length=32)] = Field(
        default=(),
        description="Where only the first dimension is free: the batch sizes to build for.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    precision: PrecisionChoice | None = Field(
        default=None, description="Which arithmetic the build may use; fp32 if absent."
    )
    calibration: Calibration | None = Field(default=None, description="Data for int8.")
    gates: Gates | None = Field(default=None, description="What a plan must pass before it serves.")
    build: Build = Field(default_factory=Build, description="How plans are built.")
    rollout: Rollout = Field(default_factory=Rollout, description="How a new plan takes over.")
    serving: Serving = Field(default_factory=Serving, description="The pods that answer.")
    paused: bool = Field(
        default=False,
        description="Leave everything as it is: no build begins, and nothing is rolled out or collected while this is "
        "true.",
    )

    def replicas_on(self, target: Target) -> int:
        """How many pods are wanted on a target."""
        return self.replicas if target.replicas is None else target.replicas


class TargetStatus(Lenient):
    """Where one target stands."""

    gpu_class: str = Field(description="The GPU class.")
    product: str = Field(
        default="", description="The GPU product, of those of the class, that its plans are built for and served on."
    )
    ready: bool = Field(default=False, description="Whether the wanted plan serves with all its replicas.")
    reason: str = Field(default="", description="One CamelCase word, for machines.")
    message: str = Field(default="", description="One sentence, for people.")
    desired_plan: str = Field(default="", description="The EnginePlan that the spec asks for.")
    plan: str = Field(default="", description="The EnginePlan that serves.")
    previous: tuple[str, ...] = Field(default=(), description="Former plans that are kept, the latest first.")
    canary: CanaryStatus | None = Field(default=None, description="How far the plan is that is tried, if one is.")
    rejected: Rejection | None = Field(
        default=None, description="The plan that was rolled back, why, and so not tried again for now."
    )
    replicas: int = Field(default=0, description="How many pods are wanted.")
    ready_replicas: int = Field(default=0, description="How many pods are ready.")
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description="Ready, Reconciling and Stalled of this target; GPUAvailable where it needs a GPU; Stale where a "
        "plan serves.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class ModelStatus(Lenient):
    """Which model the plans are of."""

    uri: str = Field(default="", description="Where it lies.")
    identity: str = Field(default="", description="sha256:<hex>, or version:<ETag>.")


class InferenceEngineStatus(Lenient):
    """Where things are. Written by the operator alone."""

    observed_generation: int = Field(default=0, description="The metadata.generation that this status is of.")
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description="Ready, Reconciling and Stalled, as kubectl wait reads them; GPUAvailable where GPUs are needed; "
        "Stale: whether what serves is other than what is asked for, and in what.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    model: ModelStatus | None = Field(default=None, description="Which model the plans are of.")
    targets_ready: str = Field(default="", description='How many targets are ready, as "1/2".')
    replicas: int = Field(default=0, description="How many serving pods there are, on all targets together.")
    selector: str = Field(default="", description="Labels that select them, for a HorizontalPodAutoscaler.")
    route: str = Field(default="", description="The HTTPRoute through which Gateways reach the engine.")
    url: str = Field(default="", description="Where the engine answers inside the cluster.")
    targets: tuple[TargetStatus, ...] = Field(
        default=(),
        description="One row for each target.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["gpuClass"]},
    )


class InferenceEngine(Lenient):
    """A model, optimized for each GPU class it runs on, proven against the original, and served."""

    KIND: ClassVar[str] = "InferenceEngine"
    PLURAL: ClassVar[str] = "inferenceengines"

    api_version: str = API_VERSION
    kind: str = KIND
    metadata: ObjectMeta
    spec: InferenceEngineSpec = Field(description="What you want to have.")
    status: Annotated[InferenceEngineStatus | None, Seen] = Field(default=None, description="Where things are.")

    def to_manifest(self) -> dict[str, Any]:
        """The object as Kubernetes writes it, without what is absent."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=False)
