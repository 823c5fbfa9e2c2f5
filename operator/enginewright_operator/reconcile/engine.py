"""InferenceEngine -> EnginePlans -> Deployments and a Service. Read `reconcile` first: it is the whole story.

A target switches to a new plan only when that plan is built; until then, and whenever anything is wrong, what serves
is left alone.
"""

import logging
from dataclasses import dataclass, replace

from enginewright_operator import api, availability, drift, policies, rollout, traces
from enginewright_operator.conditions import Reason, State, Verdict, conditions, summary
from enginewright_operator.errors import NameTakenError, QuotaError
from enginewright_operator.gather import EngineInput, TargetInput
from enginewright_operator.policies import TargetView
from enginewright_operator.reconcile import history, serving, surroundings, wanting
from enginewright_operator.reconcile.scope import DONE, Again, Scope
from enginewright_operator.render import serving as render

logger = logging.getLogger(__name__)

RETRY_TERMINATING = 2.0
CANARY_LOOKS = (1.0, 10.0)  # seconds between two looks at a canary: half its interval, within these


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One target after its reconciliation."""

    row: api.TargetStatus
    verdict: Verdict
    serving: str  # the plan that its Deployment names
    others: tuple[str, ...] = ()  # plans that a canary's pods serve
    weight: int = 0  # percent of what comes through Gateways that goes to them
    gpu: Verdict | None = None  # whether a node has its GPU
    stale: Verdict | None = None  # whether what serves is other than what is asked for


async def reconcile(namespace: str, name: str, scope: Scope) -> Again:
    """Bring one engine nearer to what its spec says."""
    manifest = await scope.gatherer.manifest("InferenceEngine", namespace, name)
    if manifest is None or manifest["metadata"].get("deletionTimestamp"):
        return DONE  # its children go with it: ownerReferences see to that
    engine = api.read(api.InferenceEngine, manifest)
    if engine.status is None and not scope.gatherer.knows_inputs(engine):
        await _accept(engine, scope)  # a store may take its time; without one the report below is as soon
    inp = await scope.gatherer.engine(engine)
    blocked = policies.first(policies.ENGINE_CHECKS, inp)
    outcomes = [await _target(inp, target, blocked, scope) for target in inp.targets]
    held: Verdict | None = None
    due: float | None = None
    if not engine.spec.paused:
        held = await _around(inp, outcomes, scope)
        due = await _collect(inp, outcomes, blocked, scope)
    await _report(inp, outcomes, held, scope)
    return _again(engine, outcomes, held, scope).at_the_latest(due)


async def _accept(engine: api.InferenceEngine, scope: Scope) -> None:
    """Say Ready=Unknown before anything else, for whoever waits for a condition to be there at all."""
    verdict = Verdict(state=State.WORKING, reason=Reason.ACCEPTED, message="The engine was seen; work begins.")
    generation = engine.metadata.generation
    rows = conditions(verdict, generation=generation, before=(), now=scope.now())
    status = api.InferenceEngineStatus(observed_generation=generation, conditions=rows)
    if await scope.cluster.patch_status(engine, status):
        await scope.cluster.event(engine, verdict.reason, verdict.message)


async def _target(inp: EngineInput, target: TargetInput, blocked: Verdict | None, scope: Scope) -> Outcome:
    served = serving.untouched(target)
    wanted = wanting.Wanted()
    if blocked is None and target.gpu_class is not None:
        try:
            wanted = await wanting.ensure(inp, target, target.gpu_class, scope)
            served = await serving.serve(inp, target, target.gpu_class, wanted.plan, scope)
        except (QuotaError, NameTakenError) as error:
            blocked = _refused(error)
    view = TargetView(
        target=target.target,
        replicas=inp.engine.spec.replicas_on(target.target),
        gpu_class=target.gpu_class,
        gpu_classes=inp.gpu_classes,
        nodes=inp.nodes,
        wanted=wanted.plan,
        serving=served.plan,
        deployment=served.deployment,
        rejected=served.rejected,
        canary=served.canary,
    )
    verdict = blocked or policies.first(policies.TARGET_CHECKS, view)
    if verdict is None:
        raise AssertionError("the last check of a target always has a verdict")
    if wanted.choice and wanted.choice.sentence:
        verdict = replace(verdict, message=f"{verdict.message.rstrip('.')}. {wanted.choice.sentence}")
    gpu = availability.of_target(target.gpu_class, inp.nodes)
    return Outcome(
        row=_row(inp, target, view, verdict, gpu, scope, wanted=wanted),
        verdict=verdict,
        serving=served.plan,
        others=served.others,
        weight=served.weight,
        gpu=gpu,
        stale=wanted.stale,
    )


def _refused(error: QuotaError | NameTakenError) -> Verdict:
    if isinstance(error, NameTakenError):
        return Verdict(state=State.STALLED, reason=Reason.NAME_TAKEN, message=error.message)
    return Verdict(state=State.WORKING, reason=Reason.QUOTA_EXCEEDED, message=error.message)


async def _around(inp: EngineInput, outcomes: list[Outcome], scope: Scope) -> Verdict | None:
    """What stands around the pods, as soon as there are any; a verdict where it cannot be made."""
    if any(outcome.serving for outcome in outcomes) and not inp.in_the_way and inp.gateways:
        try:
            await surroundings.keep(inp, scope, weight=max(outcome.weight for outcome in outcomes))
        except (QuotaError, NameTakenError) as error:
            return _refused(error)
    return None


def _row(
    inp: EngineInput,
    target: TargetInput,
    view: TargetView,
    verdict: Verdict,
    gpu: Verdict | None,
    scope: Scope,
    *,
    wanted: wanting.Wanted,
) -> api.TargetStatus:
    keep, name = inp.engine.spec.rollout.keep_last, target.target.gpu_class
    plan, previous = history.advanced(
        target.row, serving=view.serving, finished=rollout.finished(view.deployment), keep=keep
    )
    if target.row is None and view.serving:
        previous = history.adopted(inp.owned, gpu_class=name, serving=view.serving, keep=keep)
    return api.TargetStatus(
        gpu_class=name,
        product=wanted.choice.product if wanted.choice else (target.row.product if target.row else ""),
        ready=verdict.state is State.READY,
        reason=verdict.reason,
        message=verdict.message,
        desired_plan=view.wanted.metadata.name if view.wanted else (target.row.desired_plan if target.row else ""),
        plan=plan,
        previous=previous,
        canary=view.canary,
        rejected=view.rejected,
        replicas=view.replicas,
        ready_replicas=rollout.pods(view.deployment).ready,
        conditions=_conditions(inp.engine, verdict, gpu, wanted.stale, target.row, scope),
    )


def _conditions(
    engine: api.InferenceEngine,
    verdict: Verdict,
    gpu: Verdict | None,
    stale: Verdict | None,
    before: api.TargetStatus | api.InferenceEngineStatus | None,
    scope: Scope,
) -> tuple[api.Condition, ...]:
    generation, known, now = engine.metadata.generation, before.conditions if before else (), scope.now()
    return (
        *conditions(verdict, generation=generation, before=known, now=now),
        *availability.conditions(gpu, generation=generation, before=known, now=now),
        *drift.conditions(stale, generation=generation, before=known, now=now),
    )


async def _collect(inp: EngineInput, outcomes: list[Outcome], blocked: Verdict | None, scope: Scope) -> float | None:
    """Delete Deployments of targets that are no more, and let go of plans that nobody here needs.

    Returns in how many seconds the next of these plans is old enough; None where none is too young.
    """
    namespace = inp.engine.metadata.namespace
    for deployment in inp.stray_deployments:
        await scope.cluster.delete("Deployment", namespace, deployment["metadata"]["name"])
    if blocked is not None or inp.stray_deployments:
        return None  # their pods may still load what they serve: the next look, when they are gone, lets go of them
    rows = [outcome.row for outcome in outcomes]
    due: list[float] = []
    for name in history.released(inp.owned, rows, [name for each in outcomes for name in (each.serving, *each.others)]):
        plan = inp.plans[name]
        if (left := scope.settings.collect_after - history.age(plan, scope.now())) > 0:
            due.append(left)
            continue
        if plan.metadata.deletion_timestamp is None and await scope.cluster.release(plan, inp.engine):
            logger.info("Let go of the EnginePlan %s, which nobody needs any more.", name)
    return min(due, default=None)


async def _report(inp: EngineInput, outcomes: list[Outcome], held: Verdict | None, scope: Scope) -> None:
    """The one status patch of this reconciliation, and an event for each verdict that is new.

    `held` is what keeps the engine as a whole from being ready, whatever its targets are.
    """
    engine, rows = inp.engine, tuple(outcome.row for outcome in outcomes)
    overall = held or summary([(outcome.row.gpu_class, outcome.verdict) for outcome in outcomes])
    served = any(outcome.serving for outcome in outcomes)
    status = api.InferenceEngineStatus(
        observed_generation=engine.metadata.generation,
        conditions=_conditions(
            engine,
            overall,
            availability.of_engine([outcome.gpu for outcome in outcomes]),
            drift.of_engine([(outcome.row.gpu_class, outcome.stale) for outcome in outcomes]),
            engine.status,
            scope,
        ),
        model=api.ModelStatus(uri=engine.spec.model.uri, identity=inp.identities.model)
        if inp.identities
        else (engine.status.model if engine.status else None),
        targets_ready=f"{sum(row.ready for row in rows)}/{len(rows)}",
        replicas=sum(rollout.pods(each.deployment).there + rollout.pods(each.canary).there for each in inp.targets),
        selector=",".join(f"{name}={value}" for name, value in render.selector(engine).items()),
        route=engine.metadata.name if served and engine.spec.serving.route else "",
        url=render.service_url(engine, scope.settings) if served else "",
        targets=rows,
    )
    if await scope.cluster.patch_status(engine, status):
        await _tell(engine, outcomes, scope)
        for name in history.newly_served(engine.status, rows):
            if plan := inp.plans.get(name):
                traces.served(engine, plan, now=scope.now())


async def _tell(engine: api.InferenceEngine, outcomes: list[Outcome], scope: Scope) -> None:
    before = {row.gpu_class: row for row in (engine.status.targets if engine.status else ())}
    for outcome in outcomes:
        old, verdict = before.get(outcome.row.gpu_class), outcome.verdict
        if old is not None and (old.reason, old.message) == (verdict.reason, outcome.row.message):
            continue
        if verdict.state is State.STALLED or verdict.reason is Reason.BUILD_FAILED:
            message = f"{outcome.row.gpu_class}: {verdict.message}"
            await scope.cluster.event(engine, verdict.reason, message, warning=True)
        elif (old is None or old.reason != verdict.reason) and verdict.reason is not Reason.ROLLING_OUT:
            # A rollout was told when it began, with what changed.
            await scope.cluster.event(engine, verdict.reason, f"{outcome.row.gpu_class}: {verdict.message}")


def _again(engine: api.InferenceEngine, outcomes: list[Outcome], held: Verdict | None, scope: Scope) -> Again:
    reasons = {outcome.verdict.reason for outcome in outcomes} | ({held.reason} if held else set())
    if reasons & {Reason.STORAGE_UNREACHABLE, Reason.QUOTA_EXCEEDED}:
        return Again(failed=True)
    if Reason.PLAN_TERMINATING in reasons:
        return Again(seconds=RETRY_TERMINATING)
    if any(outcome.row.canary for outcome in outcomes):
        interval = api.parse_duration(engine.spec.rollout.canary_rules.analysis.interval)
        return Again(seconds=min(max(CANARY_LOOKS[0], interval / 2), CANARY_LOOKS[1]))
    if held is not None or any(outcome.verdict.state is not State.READY for outcome in outcomes):
        return Again(seconds=scope.settings.resync_seconds)  # a Secret that comes, a node that joins: nobody tells
    return DONE
