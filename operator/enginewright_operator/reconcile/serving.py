"""A target's pods: which plan they serve, and how many. rollout decides; this applies it."""

from dataclasses import dataclass, replace

from enginewright_operator import api, recipes, rollout, traces
from enginewright_operator.conditions import Reason
from enginewright_operator.gather import EngineInput, TargetInput
from enginewright_operator.kube import Manifest
from enginewright_operator.reconcile import surroundings
from enginewright_operator.reconcile.scope import Scope
from enginewright_operator.render import claims, names
from enginewright_operator.render import serving as render
from enginewright_operator.render.names import Track
from enginewright_runtime.errors import PlanError


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A target's pods after this reconciliation."""

    deployment: Manifest | None
    others: tuple[str, ...] = ()  # plans that pods beside the Deployment's serve
    weight: int = 0  # percent of what comes through Gateways that goes to the canary
    canary: api.CanaryStatus | None = None
    rejected: api.Rejection | None = None

    @property
    def plan(self) -> str:
        """The plan that the Deployment names; empty where there is none."""
        return rollout.served_by(self.deployment)


def untouched(target: TargetInput) -> Served:
    """A target that is left as it is."""
    row, trial = target.row, rollout.served_by(target.canary)
    return Served(
        deployment=target.deployment,
        others=(trial,) if trial else (),
        weight=row.canary.weight if row and row.canary else 0,
        canary=row.canary if row else None,
        rejected=row.rejected if row else None,
    )


async def serve(
    inp: EngineInput, target: TargetInput, gpu_class: api.GPUClass, wanted: api.EnginePlan | None, scope: Scope
) -> Served:
    """One step: apply the Deployment of the plan whose turn it is, and the canary's, or take that away."""
    usable = _usable(inp, target, gpu_class, wanted)
    pods = _Pods(inp=inp, target=target, gpu_class=gpu_class, scope=scope)
    step = rollout.next_step(await _situation(pods, wanted, usable))
    if not step.plan:
        return replace(untouched(target), rejected=step.rejected)
    await _tell(inp, target, usable[step.plan], step, scope)
    before = target.row.canary if target.row else None
    if before is not None and step.weight < before.weight:
        await surroundings.lower(inp, scope, weight=step.weight)
    deployment = await pods.apply(usable[step.plan], Track.STABLE, replicas=step.replicas, surge=step.surge)
    if step.canary_plan:
        surge = inp.engine.spec.rollout.max_surge
        await pods.apply(usable[step.canary_plan], Track.CANARY, replicas=step.canary_replicas, surge=surge)
    elif target.canary is not None:
        await scope.cluster.delete("Deployment", inp.engine.metadata.namespace, target.canary["metadata"]["name"])
    return Served(
        deployment=deployment,
        others=(step.canary_plan,) if step.canary_plan else (),
        weight=step.weight,
        canary=step.canary,
        rejected=step.rejected,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pods:
    """The Deployments of one target."""

    inp: EngineInput
    target: TargetInput
    gpu_class: api.GPUClass
    scope: Scope

    def rendered(self, plan: api.EnginePlan, track: Track, *, replicas: int, surge: int) -> Manifest:
        """One of them, as it is to be."""
        return render.deployment(
            self.inp.engine,
            self.target.target,
            plan.spec.plan_uri,
            plan.spec.digest,
            self._class_of(plan),
            self.scope.settings,
            storage=plan.spec.storage,
            track=track,
            replicas=replicas,
            surge=surge,
            traceparent=traces.of(plan),
            driver=_driver(plan),
        )

    def _class_of(self, plan: api.EnginePlan) -> api.GPUClass:
        return recipes.class_of(plan, self.gpu_class) or self.gpu_class

    async def _claim(self, plan: api.EnginePlan) -> None:
        """See to it that there is the template by which the plan's pods claim their GPU, where they do."""
        wanted = claims.template(self._class_of(plan), plan.spec.digest, _driver(plan), building=False)
        if wanted is None:
            return
        namespace = plan.metadata.namespace
        if await self.scope.gatherer.manifest(wanted["kind"], namespace, wanted["metadata"]["name"]) is None:
            await self.scope.cluster.apply(wanted, plan, annotations={})

    async def apply(self, plan: api.EnginePlan, track: Track, *, replicas: int, surge: int) -> Manifest:
        """Make it so."""
        await self._claim(plan)
        manifest = self.rendered(plan, track, replicas=replicas, surge=surge)
        annotations = {names.PLAN: plan.metadata.name}
        return await self.scope.cluster.apply(manifest, self.inp.engine, annotations=annotations)

    async def of(self, track: Track) -> list[Manifest]:
        """Its pods that are to stay."""
        labels = render.selector(self.inp.engine, self.target.target.gpu_class, track)
        found = await self.scope.gatherer.pods(self.inp.engine.metadata.namespace, labels)
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


async def _situation(
    pods: _Pods, wanted: api.EnginePlan | None, usable: dict[str, api.EnginePlan]
) -> rollout.Situation:
    engine, target, scope = pods.inp.engine, pods.target, pods.scope
    plan = wanted if wanted is not None and wanted.metadata.name in usable else None
    template = pods.rendered(plan, Track.STABLE, replicas=0, surge=0) if plan else {}
    return rollout.Situation(
        rules=engine.spec.rollout,
        replicas=engine.spec.replicas_on(target.target),
        wanted=plan.metadata.name if plan else "",
        usable=usable,
        row=target.row,
        stable=target.deployment,
        canary=target.canary,
        fingerprint=rollout.fingerprint(template, engine) if plan else "",
        deadline=render.deadline(engine, scope.settings),
        why=await _why(pods, plan),
        promoted=engine.metadata.annotations.get(names.PROMOTE_ANNOTATION, ""),
        sample=await _sample(pods),
        now=scope.now(),
    )


async def _why(pods: _Pods, plan: api.EnginePlan | None) -> str:
    """What keeps the wanted plan's pods from being ready, asked only where that may matter."""
    target = pods.target
    if plan is None or not (rollout.stuck(target.deployment) or target.canary is not None):
        return ""
    digest = plan.spec.digest[: names.DIGEST_LABEL_LENGTH]
    found = [*await pods.of(Track.STABLE), *await pods.of(Track.CANARY)]
    return rollout.why_not_ready([pod for pod in found if pod["metadata"]["labels"].get(names.DIGEST_LABEL) == digest])


async def _sample(pods: _Pods) -> rollout.Sample | None:
    """Both Deployments' metrics, where a canary is under way and it is time."""
    engine, row, scope = pods.inp.engine, pods.target.row, pods.scope
    status = row.canary if row else None
    if status is None or pods.target.canary is None:
        return None
    if not rollout.sample_due(status, engine.spec.rollout.canary_rules, scope.now()):
        return None
    stable, canary = await pods.of(Track.STABLE), await pods.of(Track.CANARY)
    return await scope.scraper.sample(stable, canary, model=engine.metadata.name)


def _usable(
    inp: EngineInput, target: TargetInput, gpu_class: api.GPUClass, wanted: api.EnginePlan | None
) -> dict[str, api.EnginePlan]:
    """The plans that the target's pods may be given: the wanted one, what serves, and those before it.

    Where the class has changed none of these fits, and the pods stay as they are until one is built that does.
    """
    row, serving = target.row, (rollout.served_by(target.deployment), rollout.served_by(target.canary))
    known = [inp.plans.get(name) for name in (*serving, *((row.plan, *row.previous) if row else ()))]
    return {
        plan.metadata.name: plan
        for plan in (wanted, *known)
        if plan is not None
        and plan.metadata.deletion_timestamp is None
        and plan.status is not None
        and plan.status.phase is api.Phase.BUILT
        and _fits(plan, gpu_class)
    }


def _driver(plan: api.EnginePlan) -> str:
    """The driver's branch that the plan was built with; empty where it is not known."""
    try:
        return plan.spec.parsed_recipe.target.driver
    except PlanError:
        return ""


def _fits(plan: api.EnginePlan, gpu_class: api.GPUClass) -> bool:
    """Whether the class still is what the plan was built for: pods on its nodes of now would refuse another."""
    pinned = recipes.class_of(plan, gpu_class)
    try:
        return pinned is not None and replace(plan.spec.parsed_recipe.target, driver="") == recipes.requirement(pinned)
    except PlanError:
        return True  # of another version of Enginewright: its pods serve, and may go on


async def _tell(inp: EngineInput, target: TargetInput, plan: api.EnginePlan, step: rollout.Step, scope: Scope) -> None:
    """An event where the pods move to another plan, and where a plan is given up."""
    name, before = target.target.gpu_class, target.row.rejected if target.row else None
    if step.rejected is not None and step.rejected != before:
        message = f"The target {name} goes back to {step.plan}. {step.rejected.plan}: {step.rejected.message}"
        await scope.cluster.event(inp.engine, Reason.ROLLED_BACK, message, warning=True)
    elif step.canary_plan and rollout.served_by(target.canary) != step.canary_plan:
        message = f"The target {name} tries {step.canary_plan} beside {step.plan}."
        await scope.cluster.event(inp.engine, Reason.CANARY, message)
    elif step.rejected is None and rollout.served_by(target.deployment) != step.plan:
        message = f"The target {name} moves to {step.plan}. {plan.spec.why}".strip()
        await scope.cluster.event(inp.engine, Reason.ROLLING_OUT, message)
