"""A target's pods: which plan they serve, and one address for them. What is decided is rollout's; this applies it."""

from dataclasses import dataclass

from enginewright_operator import api, rollout
from enginewright_operator.conditions import Reason
from enginewright_operator.gather import EngineInput, TargetInput, served_by
from enginewright_operator.kube import Manifest
from enginewright_operator.reconcile.scope import Scope
from enginewright_operator.render import names
from enginewright_operator.render import serving as render


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A target's pods after this reconciliation."""

    deployment: Manifest | None
    rejected: api.Rejection | None

    @property
    def plan(self) -> str:
        """The plan that the Deployment names; empty where there is none."""
        return served_by(self.deployment) if self.deployment else ""


def untouched(target: TargetInput) -> Served:
    """A target that is left as it is."""
    return Served(deployment=target.deployment, rejected=target.row.rejected if target.row else None)


async def serve(
    inp: EngineInput, target: TargetInput, gpu_class: api.GPUClass, wanted: api.EnginePlan | None, scope: Scope
) -> Served:
    """Apply the Deployment with the plan whose turn it is."""
    usable = _usable(inp, target, wanted)
    rendered = {name: _deployment(inp, target, gpu_class, plan, scope) for name, plan in usable.items()}
    step = rollout.next_step(await _situation(inp, target, wanted, rendered, scope))
    if not step.plan:
        return Served(deployment=target.deployment, rejected=step.rejected)
    await _tell(inp, target, usable[step.plan], step, scope)
    annotations = {names.PLAN: step.plan}
    return Served(
        deployment=await scope.cluster.apply(rendered[step.plan], inp.engine, annotations=annotations),
        rejected=step.rejected,
    )


async def _situation(
    inp: EngineInput,
    target: TargetInput,
    wanted: api.EnginePlan | None,
    rendered: dict[str, Manifest],
    scope: Scope,
) -> rollout.Situation:
    name = wanted.metadata.name if wanted is not None and wanted.metadata.name in rendered else ""
    why = ""
    if rollout.stuck(target.deployment):
        labels = rendered[name]["spec"]["template"]["metadata"]["labels"] if name else {}
        why = rollout.why_not_ready(await scope.gatherer.pods(inp.engine.metadata.namespace, labels))
    return rollout.Situation(
        wanted=name,
        serving=served_by(target.deployment) if target.deployment else "",
        usable=rendered,
        row=target.row,
        stable=target.deployment,
        fingerprint=rollout.fingerprint(rendered[name], inp.engine) if name else "",
        why=why,
        now=scope.stamp(),
    )


def _usable(inp: EngineInput, target: TargetInput, wanted: api.EnginePlan | None) -> dict[str, api.EnginePlan]:
    """The plans that the target's pods may be given: the wanted one, what serves, and those before it."""
    row, serving = target.row, served_by(target.deployment) if target.deployment else ""
    known = [inp.plans.get(name) for name in (serving, *((row.plan, *row.previous) if row else ()))]
    return {
        plan.metadata.name: plan
        for plan in (wanted, *known)
        if plan is not None
        and plan.metadata.deletion_timestamp is None
        and plan.status is not None
        and plan.status.phase is api.Phase.BUILT
    }


def _deployment(
    inp: EngineInput, target: TargetInput, gpu_class: api.GPUClass, plan: api.EnginePlan, scope: Scope
) -> Manifest:
    uri, digest, storage = plan.spec.plan_uri, plan.spec.digest, plan.spec.storage
    return render.deployment(inp.engine, target.target, uri, digest, gpu_class, scope.settings, storage=storage)


async def _tell(inp: EngineInput, target: TargetInput, plan: api.EnginePlan, step: rollout.Step, scope: Scope) -> None:
    """An event where the pods move to another plan."""
    if target.deployment is not None and served_by(target.deployment) == step.plan:
        return
    name = target.target.gpu_class
    if step.rejected is not None:
        message = f"The target {name} goes back to {step.plan}: {step.rejected.message}"
        await scope.cluster.event(inp.engine, Reason.ROLLED_BACK, message, warning=True)
        return
    message = f"The target {name} moves to {step.plan}. {plan.spec.why}".strip()
    await scope.cluster.event(inp.engine, Reason.ROLLING_OUT, message)


async def service(inp: EngineInput, scope: Scope) -> None:
    """One Service for all targets."""
    await scope.cluster.apply(render.service(inp.engine, scope.settings), inp.engine, annotations={})
