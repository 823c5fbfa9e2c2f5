"""What keeps one target of an engine from serving the plan that the spec asks for."""

from dataclasses import dataclass

from enginewright_operator import api, gpu, gpu_words, rollout
from enginewright_operator.conditions import Reason, Verdict
from enginewright_operator.kube import Manifest
from enginewright_operator.policies.chain import Check, stalled, working
from enginewright_operator.render import names


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
    return stalled(
        Reason.GPU_CLASS_MISSING,
        f"There is no GPUClass {name}: create it, or name one of those that there are: "
        f"{', '.join(view.gpu_classes) or 'none at all'}.",
    )


def plan_terminating(view: TargetView) -> Verdict | None:
    """No plan of the same name is on its way out."""
    if view.wanted is None or view.wanted.metadata.deletion_timestamp is None:
        return None
    return working(
        Reason.PLAN_TERMINATING, f"The EnginePlan {view.wanted.metadata.name} is being deleted; then it is built again."
    )


def no_node(view: TargetView) -> Verdict | None:
    """There is a node to build on; asked only while there is something to build."""
    plan, gpu_class = view.wanted, view.gpu_class
    if gpu_class is None or (plan and plan.status and plan.status.phase in (api.Phase.BUILT, api.Phase.FAILED)):
        return None
    why = gpu_words.why_none(gpu_class.metadata.name, gpu_class.spec, view.nodes)
    return stalled(Reason.NO_MATCHING_NODE, why) if why else None


def build_not_begun(view: TargetView) -> Verdict | None:
    """There is a build Job. Until then one sentence: each other one would be a write of every engine of the plan.

    A plan is said to be paused for a while after its engine was: this one is not, or it would not be asked.
    """
    ready = _condition(view.wanted, "Ready")
    begun = ready is None or ready.reason not in (Reason.WAITING_FOR_BUILD, Reason.PAUSED)
    if view.wanted is not None and view.wanted.status is not None and begun:
        return None
    name = view.wanted.metadata.name if view.wanted else "of this target"
    return working(Reason.WAITING_FOR_BUILD, f"The EnginePlan {name} waits to be built{_meanwhile(view)}.")


def build_failed(view: TargetView) -> Verdict | None:
    """The build did not fail."""
    plan = view.wanted
    if plan is None or plan.status is None or plan.status.phase is not api.Phase.FAILED:
        return None
    found, message = _condition(plan, "Stalled"), f"{plan.status.message} (EnginePlan {plan.metadata.name}"
    waits = found is not None and found.status == "False"  # for its next try
    return (working if waits else stalled)(Reason.BUILD_FAILED, f"{message}{_meanwhile(view)})")


def build_hindered(view: TargetView) -> Verdict | None:
    """Nothing keeps the build from beginning that only a person can mend."""
    plan = view.wanted
    found = _condition(plan, "Stalled")
    if plan is None or found is None or found.status != "True":
        return None
    return stalled(Reason(found.reason), found.message)


def building(view: TargetView) -> Verdict | None:
    """The build has ended."""
    plan = view.wanted
    if plan is None or plan.status is None or plan.status.phase is api.Phase.BUILT:
        return None
    ready = _condition(plan, "Ready")
    return working(
        Reason(ready.reason) if ready and ready.reason in set(Reason) else Reason.BUILDING,
        f"{plan.status.message or 'The plan is being built.'} (EnginePlan {plan.metadata.name}{_meanwhile(view)})",
    )


def rolled_back(view: TargetView) -> Verdict | None:
    """The wanted plan was not tried and given up."""
    rejected = view.rejected
    if rejected is None or view.wanted is None or rejected.plan != view.wanted.metadata.name:
        return None
    return stalled(
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
    return working(
        Reason.CANARY, f"{canary.plan} is tried beside {view.serving} ({where}): {canary.message}.{measured}"
    )


def rolled_out(view: TargetView) -> Verdict | None:
    """How far the Deployment is: always a verdict."""
    return rollout.verdict(view.deployment, replicas=view.replicas, plan=view.serving)


TARGET_CHECKS: tuple[Check[TargetView], ...] = (
    gpu_class_missing,  # nothing can be built without it
    plan_terminating,  # a plan of that name is on its way out: wait for it
    no_node,  # a build would wait for a node that there is none of
    build_not_begun,  # the plan's own reconciliation has not come to it yet, or makes the Job now
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
