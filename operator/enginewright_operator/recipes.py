"""Specs to recipes, build requests and EnginePlans. Pure: the same spec and identities give the same plan, anywhere.

The operator and `enginewright up` both come through here, so that what runs on a laptop has the cluster's digest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import PurePosixPath

import enginewright_runtime
from enginewright_operator import choice
from enginewright_operator.api import (
    CA_BUNDLE_PATH,
    EnginePlan,
    EnginePlanSpec,
    GPUClass,
    InferenceEngine,
    InferenceEngineSpec,
    ObjectMeta,
    Storage,
    parse_duration,
    parse_quantity,
)
from enginewright_operator.errors import ManifestError
from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan import recipe as parts
from enginewright_runtime.plan import records
from enginewright_runtime.plan.recipe import ModelFormat, Recipe
from enginewright_runtime.plan.request import BuildRequest, StoreOptions
from enginewright_runtime.plan.target import TargetRequirement

PLAN_FILE = "engine.plan"
_PLUGIN = "plugin "  # and its number, in the names of inputs

FORMATS: Mapping[str, ModelFormat] = {
    ".onnx": ModelFormat.ONNX,
    ".pb": ModelFormat.TENSORFLOW,
    ".caffemodel": ModelFormat.CAFFE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """What the inputs of a build are: "sha256:<hex>" or "version:<the store's own>"; empty for those not asked for."""

    model: str
    companion: str = ""
    calibration: str = ""
    accuracy_data: str = ""
    plugins: tuple[str, ...] = ()

    @classmethod
    def of(cls, known: Mapping[str, str]) -> "Identities":
        """From the identities by the names that `input_uris` gives."""
        others = {name: identity for name, identity in known.items() if not name.startswith(_PLUGIN)}
        return cls(**others, plugins=tuple(each for name, each in known.items() if name.startswith(_PLUGIN)))


def input_uris(spec: InferenceEngineSpec) -> Mapping[str, str]:
    """Where each input lies, by its name in Identities; only those that the spec has."""
    accuracy = spec.gates.accuracy if spec.gates else None
    uris = {
        "model": spec.model.uri,
        "companion": spec.model.prototxt,
        "calibration": spec.calibration.uri if spec.calibration else None,
        "accuracy_data": accuracy.data if accuracy else None,
    }
    plugins = {f"{_PLUGIN}{number}": uri for number, uri in enumerate(spec.build.plugins)}
    return {name: uri for name, uri in uris.items() if uri} | plugins


def format_of(spec: InferenceEngineSpec) -> ModelFormat | None:
    """The model's format: the one that was given, else the suffix's; None where neither tells."""
    return spec.model.format or FORMATS.get(PurePosixPath(spec.model.uri).suffix.lower())


def recipe_for(
    spec: InferenceEngineSpec,
    gpu_class: GPUClass,
    identities: Identities,
    *,
    driver: str = "",
    builder: str = enginewright_runtime.__version__,
    builder_image: str = "",
) -> Recipe:
    """All that decides the plan of one target, whose class is narrowed to one product. `driver` is its driver's branch.

    Raises ManifestError where the model's format cannot be told.
    """
    model_format = format_of(spec)
    if model_format is None:
        raise ManifestError(
            f"The format of the model {spec.model.uri} cannot be told from its suffix: set spec.model.format to one "
            f"of {', '.join(ModelFormat)}."
        )
    precision, calibration = spec.precision, spec.calibration
    allowed = {*(precision.allow if precision else ()), parts.Precision.FP32}
    return Recipe(
        model=identities.model,
        format=model_format,
        companion=identities.companion,
        outputs=spec.model.outputs,
        shapes=spec.shapes,
        batch_sizes=tuple(sorted(spec.batch_sizes)),
        precisions=tuple(each for each in parts.Precision if each in allowed),
        keep=tuple(
            parts.PrecisionRule(layers=rule.layers, precision=rule.precision)
            for rule in (precision.keep if precision else ())
        ),
        calibration=identities.calibration,
        calibration_samples=calibration.samples if calibration else 512,
        calibration_algorithm=calibration.algorithm if calibration else "auto",
        workspace=parse_quantity(spec.build.workspace),
        effort=spec.build.effort,
        plugins=identities.plugins,
        allow_host=spec.build.allow_host,
        gates=_gates(spec, identities),
        target=replace(requirement(gpu_class), driver=driver),
        builder=builder,
        builder_image=builder_image,
    )


def image_identity(image: str, *, version: str = enginewright_runtime.__version__) -> str:
    """What tells a builder's image from the one of its version: its digest, else its tag; empty where it is that one.

    Where it is pulled from does not matter.
    """
    name, at, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return digest if at else tag if tag != version else ""


def _gates(spec: InferenceEngineSpec, identities: Identities) -> parts.Gates:
    gates = spec.gates
    if gates is None:
        return parts.Gates()
    accuracy, latency = gates.accuracy, gates.latency
    return parts.Gates(
        accuracy=parts.AccuracyGate(
            data=identities.accuracy_data, metric=accuracy.metric, max_drop=float(accuracy.max_drop)
        )
        if accuracy
        else None,
        latency=parts.LatencyGate(batch=latency.batch, p99_ms=round(parse_duration(latency.p99) * 1e3, 6))
        if latency
        else None,
        memory=parse_quantity(gates.memory) if gates.memory else 0,
    )


def class_of(plan: EnginePlan, gpu_class: GPUClass | None) -> GPUClass | None:
    """The plan's class with the plan's product alone; None where the class is gone, or has it no more.

    A plan of another version of Enginewright, which cannot be read, has the class as it is.
    """
    if gpu_class is None:
        return None
    try:
        return choice.only(gpu_class, plan.spec.parsed_recipe.target.product)
    except PlanError:
        return gpu_class


def requirement(gpu_class: GPUClass) -> TargetRequirement:
    """What the class asks of a machine."""
    spec = gpu_class.spec
    return TargetRequirement(
        kind=spec.kind,
        architecture=spec.architecture or "",
        compute_capability=spec.compute_capability or "",
        product=spec.product or "",
        memory=parse_quantity(spec.memory) if spec.memory else 0,
        mig_profile=spec.mig_profile or "",
    )


def plan_name(digest: str, storage: Storage) -> str:
    """plan-<16 digits of the recipe's digest>-<6 of the storage's>: engines share a plan only where they share both.

    Otherwise an engine would be told to fetch, with its own credentials, from a bucket that only another one reads.
    """
    text = storage.model_dump_json(by_alias=True, exclude_none=True)
    return f"plan-{digest[:16]}-{sha256(text.encode()).hexdigest()[:6]}"


def plan_folder(storage: Storage, namespace: str, digest: str) -> str:
    """The URI of the folder that holds everything of a plan, with a slash at its end."""
    return f"{storage.uri.rstrip('/')}/plans/{namespace}/{digest}/"


def engine_plan(
    engine: InferenceEngine, storage: Storage, gpu_class: GPUClass, recipe: Recipe, *, why: str = ""
) -> EnginePlan:
    """The EnginePlan that an engine needs for one target, as it is created."""
    uris = input_uris(engine.spec)
    digest = recipe.digest
    namespace = engine.metadata.namespace or "default"
    return EnginePlan(
        metadata=ObjectMeta(name=plan_name(digest, storage), namespace=namespace),
        spec=EnginePlanSpec(
            digest=digest,
            gpu_class=gpu_class.metadata.name,
            recipe=records.to_json(recipe),
            model=uris["model"],
            companion=uris.get("companion"),
            calibration=uris.get("calibration"),
            accuracy_data=uris.get("accuracy_data"),
            plugins=engine.spec.build.plugins,
            plan_uri=plan_folder(storage, namespace, digest) + PLAN_FILE,
            storage=storage,
            deadline=engine.spec.build.deadline,
            queue=engine.spec.build.queue,
            resources=engine.spec.build.resources,
            why=why[:4096],
        ),
    )


def build_request(plan: EnginePlan) -> BuildRequest:
    """What the plan's next build Job is asked for. Raises PlanError for a recipe that cannot be read."""
    spec = plan.spec
    return BuildRequest(
        recipe=spec.parsed_recipe,
        model=spec.model,
        destination=spec.plan_uri,
        companion=spec.companion or "",
        calibration=spec.calibration or "",
        accuracy_data=spec.accuracy_data or "",
        plugins=spec.plugins,
        timing_cache=f"{spec.storage.uri.rstrip('/')}/timings/{plan.metadata.namespace or 'default'}/",
        deadline_seconds=parse_duration(spec.deadline),
        workspace=plan.status.workspace if plan.status else 0,
        storage=store_options(spec.storage, ca_bundle=CA_BUNDLE_PATH if spec.storage.ca_bundle else ""),
    )


def store_options(storage: Storage, *, ca_bundle: str = "") -> StoreOptions:
    """How to reach the storage; `ca_bundle` is a path on the machine that reaches it."""
    return StoreOptions(
        endpoint=storage.endpoint or "",
        region=storage.region or "",
        path_style=storage.path_style,
        ca_bundle=ca_bundle,
    )
