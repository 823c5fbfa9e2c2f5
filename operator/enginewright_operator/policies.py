"""What keeps an engine, or one of its targets, from serving the wanted plan: chains of small pure checks.

Each check looks at one thing and says nothing or gives the verdict that goes, word for word, into the condition. The
order is the order in which a person would mend things; a test pins it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from enginewright_operator import api, gpu, recipes, rollout
from enginewright_operator.conditions import Reason, State, Verdict
from enginewright_operator.gather import EngineInput
from enginewright_operator.kube import Manifest
from enginewright_operator.render import names
from enginewright_runtime.plan.recipe import ModelFormat

Input = TypeVar("Input")
Check = Callable[[Input], Verdict | None]


def first(checks: Sequence[Check[Input]], inp: Input) -> Verdict | None:
    """The verdict of the first check that has one."""
    return next((verdict for check in checks if (verdict := check(inp)) is not None), None)


def _stalled(reason: Reason, message: str) -> Verdict:
    return Verdict(state=State.STALLED, reason=reason, message=message)


def _working(reason: Reason, message: str) -> Verdict:
    return Verdict(state=State.WORKING, reason=reason, message=message)


# ---- of the whole engine ------------------------------------------------------------------------------------------


def paused(inp: EngineInput) -> Verdict | None:
    """A person told us to leave it alone."""
    if not inp.engine.spec.paused:
        return None
    return _stalled(Reason.PAUSED, "The engine is paused and left as it is: set spec.paused to false to go on.")


def gateway_api_missing(inp: EngineInput) -> Verdict | None:
    """Where a route is wanted, the cluster knows what that is."""
    if inp.gateways:
        return None
    return _stalled(
        Reason.GATEWAY_API_MISSING,
        "serving.route asks for an HTTPRoute and the cluster has none of the Gateway API's kinds: install its CRDs "
        "(gateway.networking.k8s.io/v1), or take serving.route away.",
    )


def name_taken(inp: EngineInput) -> Verdict | None:
    """Nothing of somebody else's stands where the engine's Deployments and what is around them would."""
    if not inp.in_the_way:
        return None
    return _stalled(
        Reason.NAME_TAKEN,
        f"The {inp.in_the_way[0]} is in the namespace {inp.engine.metadata.namespace} already and is not this "
        "engine's: delete it, or give the InferenceEngine another name.",
    )


def storage_unknown(inp: EngineInput) -> Verdict | None:
    """There is somewhere to put plans."""
    if inp.storage is not None:
        return None
    return _stalled(
        Reason.STORAGE_UNKNOWN,
        "The engine names no storage and the operator has no default one: set spec.storage.uri, or the operator's "
        "default storage.",
    )


def file_uris_refused(inp: EngineInput) -> Verdict | None:
    """Nothing lies in files of one machine, unless pods are processes of it."""
    if inp.file_uris_allowed or inp.storage is None:
        return None
    uris = (inp.storage.uri, *recipes.input_uris(inp.engine.spec).values())
    local = next((uri for uri in uris if uri.startswith("file:")), None)
    if local is None:
        return None
    return _stalled(
        Reason.FILE_STORAGE_REFUSED,
        f"{local} lies on one machine, where the pods of a cluster do not find it: put it into object storage "
        "(s3://bucket/key), or use `enginewright up` on that machine.",
    )


def plugins_refused(inp: EngineInput) -> Verdict | None:
    """Foreign code runs only where whoever installed the operator said so."""
    plugins = inp.engine.spec.build.plugins
    if inp.plugins_allowed or not plugins:
        return None
    return _stalled(
        Reason.PLUGINS_REFUSED,
        f"The engine brings code of its own ({', '.join(plugins)}), and this operator runs none: leave "
        "spec.build.plugins out, or have the operator installed with plugins.allow.",
    )


def format_unknown(inp: EngineInput) -> Verdict | None:
    """An importer can be chosen."""
    if recipes.format_of(inp.engine.spec) is not None:
        return None
    return _stalled(
        Reason.FORMAT_UNKNOWN,
        f"The format of the model {inp.engine.spec.model.uri} cannot be told from its suffix: set spec.model.format to "
        f"one of {', '.join(ModelFormat)}.",
    )


def credentials_missing(inp: EngineInput) -> Verdict | None:
    """The Secret that is named is there and has its keys."""
    name = inp.storage.credentials_secret if inp.storage else None
    if not name:
        return None
    if inp.credential_keys is None:
        return _stalled(
            Reason.CREDENTIALS_MISSING,
            f"The Secret {name}, which spec.storage.credentialsSecret names, is not in the namespace "
            f"{inp.engine.metadata.namespace}: create it with the keys {' and '.join(api.CREDENTIAL_KEYS)}.",
        )
    missing = [key for key in api.CREDENTIAL_KEYS if key not in inp.credential_keys]
    if not missing:
        return None
    return _stalled(
        Reason.CREDENTIALS_MISSING,
        f"The Secret {name} lacks the key {missing[0]}, with which to reach the storage: add it.",
    )


def signing_keys_missing(inp: EngineInput) -> Verdict | None:
    """The keys that the operator's settings name are in the engine's namespace: pods would wait for them in silence."""
    if not inp.missing_keys:
        return None
    return _stalled(
        Reason.SIGNING_KEYS_MISSING,
        f"The {inp.missing_keys[0]}, which the operator's signing settings name, is not in the namespace "
        f"{inp.engine.metadata.namespace}: create it (docs/operations.md says with what in it).",
    )


def inputs_unreadable(inp: EngineInput) -> Verdict | None:
    """The store has told the version of each input."""
    return inp.storage_problem


ENGINE_CHECKS: tuple[Check[EngineInput], ...] = (
    paused,  # a person said so; nothing else matters
    gateway_api_missing,  # its objects could not even be asked for
    name_taken,  # before anything is applied, since an apply would take it over
    storage_unknown,  # without it there is nowhere to look
    file_uris_refused,  # before anything is asked of a file on the operator's own machine
    plugins_refused,  # before the code is looked for
    format_unknown,  # needs no request
    credentials_missing,  # one request to the API server, before any to the store
    signing_keys_missing,  # a pod would wait for them, and say so nowhere but in its events
    inputs_unreadable,  # the store's own answer: wrong credentials, no such object, unreachable
)


# ---- of one target ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetView:
    """One target after what could be done for it was done; `wanted` is the plan that the spec asks for."""

    target: api.Target
    replicas: int
    gpu_class: api.GPUClass | None
    gpu_classes: tuple[str, ...]  # the names of all that there are
    nodes: tuple[gpu.Node, ...] | None  # None: they may not be read
    wanted: api.EnginePlan | None
    serving: str  # the EnginePlan that the Deployment names; empty if there is none
    deployment: Manifest | None
    rejected: api.Rejection | None = None
    canary: api.CanaryStatus | None = None


def gpu_class_missing(view: TargetView) -> Verdict | None:
    """The class is one that there is."""
    if view.gpu_class is not None:
        return None
    name = view.target.gpu_class
    return _stalled(
        Reason.GPU_CLASS_MISSING,
        f"There is no GPUClass {name}: create it, or name one of those that there are: "
        f"{', '.join(view.gpu_classes) or 'none at all'}.",
    )


def plan_terminating(view: TargetView) -> Verdict | None:
    """No plan of the same name is on its way out."""
    if view.wanted is None or view.wanted.metadata.deletion_timestamp is None:
        return None
    return _working(
        Reason.PLAN_TERMINATING, f"The EnginePlan {view.wanted.metadata.name} is being deleted; then it is built again."
    )


def no_node(view: TargetView) -> Verdict | None:
    """There is a node to build on; asked only while there is something to build."""
    plan, gpu_class = view.wanted, view.gpu_class
    if gpu_class is None or (plan and plan.status and plan.status.phase in (api.Phase.BUILT, api.Phase.FAILED)):
        return None
    why = gpu.why_none(gpu_class.metadata.name, gpu_class.spec, view.nodes)
    return _stalled(Reason.NO_MATCHING_NODE, why) if why else None


def build_not_begun(view: TargetView) -> Verdict | None:
    """The plan's own reconciliation has looked at it."""
    if view.wanted is not None and view.wanted.status is not None:
        return None
    name = view.wanted.metadata.name if view.wanted else "of this target"
    return _working(Reason.WAITING_FOR_BUILD, f"The EnginePlan {name} waits to be built{_meanwhile(view)}.")


def build_failed(view: TargetView) -> Verdict | None:
    """The build did not fail."""
    plan = view.wanted
    if plan is None or plan.status is None or plan.status.phase is not api.Phase.FAILED:
        return None
    return _stalled(Reason.BUILD_FAILED, f"{plan.status.message} (EnginePlan {plan.metadata.name}{_meanwhile(view)})")


def build_hindered(view: TargetView) -> Verdict | None:
    """Nothing keeps the build from beginning that only a person can mend."""
    plan = view.wanted
    stalled = _condition(plan, "Stalled")
    if plan is None or stalled is None or stalled.status != "True":
        return None
    return _stalled(Reason(stalled.reason), stalled.message)


def building(view: TargetView) -> Verdict | None:
    """The build has ended."""
    plan = view.wanted
    if plan is None or plan.status is None or plan.status.phase is api.Phase.BUILT:
        return None
    ready = _condition(plan, "Ready")
    return _working(
        Reason(ready.reason) if ready and ready.reason in set(Reason) else Reason.BUILDING,
        f"{plan.status.message or 'The plan is being built.'} (EnginePlan {plan.metadata.name}{_meanwhile(view)})",
    )


def rolled_back(view: TargetView) -> Verdict | None:
    """The wanted plan was not tried and given up."""
    rejected = view.rejected
    if rejected is None or view.wanted is None or rejected.plan != view.wanted.metadata.name:
        return None
    return _stalled(
        Reason.ROLLED_BACK,
        f"{rejected.plan} was rolled back at {rejected.at}: {rejected.message.rstrip('.')}. It is not tried again "
        f"until the model or the spec changes, or the annotation {names.RETRY_ANNOTATION} of the engine gets a new "
        f"value{_meanwhile(view)}.",
    )


def canary_under_way(view: TargetView) -> Verdict | None:
    """No plan is being tried on a share of the pods."""
    canary = view.canary
    if canary is None:
        return None
    # The share that was asked for: with few pods the real one differs, and the Deployments' numbers tell it.
    where = f"step {canary.step + 1}, {canary.weight} %"
    measured = f" Last: {canary.measurement}." if canary.measurement else ""
    return _working(
        Reason.CANARY, f"{canary.plan} is tried beside {view.serving} ({where}): {canary.message}.{measured}"
    )


def rolled_out(view: TargetView) -> Verdict | None:
    """How far the Deployment is: always a verdict."""
    return rollout.verdict(view.deployment, replicas=view.replicas, plan=view.serving)


TARGET_CHECKS: tuple[Check[TargetView], ...] = (
    gpu_class_missing,  # nothing can be built without it
    plan_terminating,  # a plan of that name is on its way out: wait for it
    no_node,  # a build would wait for a node that there is none of
    build_not_begun,  # the plan's own reconciliation has not come to it yet
    build_failed,  # the builder's own sentence
    build_hindered,  # what its own reconciliation found that only a person can mend
    building,  # in the builder's hands
    rolled_back,  # tried, and given up with a reason that is kept
    canary_under_way,  # its own story, whatever the Deployments say meanwhile
    rolled_out,  # the last word: how far the Deployment is
)


def _condition(plan: api.EnginePlan | None, kind: str) -> api.Condition | None:
    found = plan.status.conditions if plan and plan.status else ()
    return next((condition for condition in found if condition.type == kind), None)


def _meanwhile(view: TargetView) -> str:
    other = view.serving and (view.wanted is None or view.serving != view.wanted.metadata.name)
    return f"; {view.serving} serves meanwhile" if other else ""
