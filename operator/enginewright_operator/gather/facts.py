"""What a reconciliation knows: read at once, frozen, and judged by nobody yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from enginewright_operator import api, gpu, recipes
from enginewright_operator.conditions import Verdict
from enginewright_operator.kube import Manifest
from enginewright_operator.stores import Access


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetInput:
    """What is known of one target of an engine."""

    target: api.Target
    gpu_class: api.GPUClass | None
    deployment: Manifest | None
    row: api.TargetStatus | None
    canary: Manifest | None = None  # the Deployment of the plan that is tried


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInput:
    """What is known of an InferenceEngine. `plans` are those that it owns, by name."""

    engine: api.InferenceEngine
    storage: api.Storage | None
    targets: tuple[TargetInput, ...]
    plans: Mapping[str, api.EnginePlan]
    gpu_classes: tuple[str, ...] = ()  # the names of all that there are
    nodes: tuple[gpu.Node, ...] | None = ()  # None: they may not be read
    stray_deployments: tuple[Manifest, ...] = ()
    gateways: bool = True  # whether the cluster knows HTTPRoutes, where one is wanted
    surroundings: tuple[Manifest, ...] = ()  # what the engine owns of the kinds that stand around its pods
    in_the_way: tuple[str, ...] = ()  # objects that bear a name which ours would have, and are somebody else's
    credential_keys: frozenset[str] | None = None  # of the Secret that storage names; None if there is no such Secret
    missing_keys: tuple[str, ...] = ()  # Secrets and ConfigMaps of the operator's signing settings that are not there
    identities: recipes.Identities | None = None
    storage_problem: Verdict | None = None
    file_uris_allowed: bool = False
    plugins_allowed: bool = False

    @property
    def owned(self) -> tuple[api.EnginePlan, ...]:
        """The plans that this engine keeps alive."""
        return tuple(self.plans.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInput:
    """What is known of an EnginePlan. `pods` are those of its Job, the oldest first; of its class its product alone."""

    plan: api.EnginePlan
    gpu_class: api.GPUClass | None = None
    job: Manifest | None = None
    pods: tuple[Manifest, ...] = ()
    refusal: str = ""  # why the Job's pod could not be made, in the words of its last event; asked where there is none
    nodes: tuple[gpu.Node, ...] | None = ()  # None: they may not be read
    log: str = ""  # the last lines of the build that runs, or has just failed


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalizeInput:
    """What is known of an EnginePlan that is being deleted."""

    plan: api.EnginePlan
    job: Manifest | None
    users: tuple[str, ...]  # Deployments and pods that still serve it
    sharers: tuple[str, ...]  # other EnginePlans whose files are the same
    access: Access | None = field(repr=False, default=None)  # None: the Secret is gone


def owns(engine: api.InferenceEngine, plan: api.EnginePlan) -> bool:
    """Whether the engine is among the plan's owners."""
    return any(owner.uid == engine.metadata.uid for owner in plan.metadata.owner_references)


def builds_ended(job: Manifest) -> bool:
    """Whether a build Job has ended, well or not."""
    rows = (job.get("status") or {}).get("conditions") or ()
    return any(row["type"] in ("Complete", "Failed") and row["status"] == "True" for row in rows)
