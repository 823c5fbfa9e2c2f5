"""EnginePlan -> build Job -> result. Read `reconcile` first: it is the whole story.

The Job is created once and never changed. What it says on ending, in its container's termination message, becomes
the plan's status; after that only a deletion is looked at.
"""

import logging

from enginewright_operator import api, availability, builds, metrics, recipes, traces
from enginewright_operator.builds import Finding
from enginewright_operator.conditions import Reason, State, Verdict, conditions
from enginewright_operator.errors import ManifestError, QuotaError
from enginewright_operator.gather import PlanInput
from enginewright_operator.reconcile import collect
from enginewright_operator.reconcile.scope import DONE, Again, Scope
from enginewright_operator.render import build_job as render
from enginewright_operator.render import claims
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.request import BuildResult

logger = logging.getLogger(__name__)

LOOK_AGAIN = 10.0  # while a Job runs: its pods are not watched, and what they wait for belongs in the message


async def reconcile(namespace: str, name: str, scope: Scope) -> Again:
    """Bring one plan nearer to being built, or to being gone."""
    manifest = await scope.gatherer.manifest("EnginePlan", namespace, name)
    if manifest is None:
        return DONE
    plan = api.read(api.EnginePlan, manifest)
    if plan.metadata.deletion_timestamp is not None:
        return await collect.reconcile(plan, scope)
    if plan.status is not None and plan.status.phase is api.Phase.BUILT:
        return DONE
    inp = await scope.gatherer.plan(plan)
    if plan.status is not None and plan.status.phase is api.Phase.FAILED:
        return await _failed(inp, plan.status, scope)
    finding = builds.judge(inp)
    if finding.create_job and await scope.gatherer.is_paused(plan):
        finding = builds.paused(plan)
    if finding.create_job and inp.gpu_class is not None:
        try:
            async with scope.turn:
                if (running := await scope.gatherer.under_way(plan)) >= scope.settings.builds_at_once:
                    finding = builds.waits_its_turn(plan, running)
                else:
                    await _start(inp, inp.gpu_class, scope)
        except ManifestError as error:
            finding = builds.failed(BuildResult.of(Outcome.USAGE, error.message))
        except QuotaError as error:
            await _report(plan, builds.over_quota(error.message), scope, inp=inp)
            return Again(failed=True)
    await _report(plan, finding, scope, inp=inp)
    if finding.phase is api.Phase.FAILED:
        return Again(seconds=0.0)  # whether another try may help: nothing else may happen that brings it back
    return DONE if finding.phase is api.Phase.BUILT else Again(seconds=LOOK_AGAIN)


async def _start(inp: PlanInput, gpu_class: api.GPUClass, scope: Scope) -> None:
    plan = inp.plan
    request = recipes.build_request(plan)
    job = render.build_job(plan, request, gpu_class, scope.settings)
    if claim := claims.template(gpu_class, plan.spec.digest, request.recipe.target.driver, building=True):
        await scope.cluster.apply(claim, plan, annotations={})
    await scope.cluster.apply(job, plan, annotations={})
    message = f"The build Job {plan.metadata.name} was made. {plan.spec.why}".strip()
    await scope.cluster.event(plan, Reason.BUILDING, message)


async def _failed(inp: PlanInput, status: api.EnginePlanStatus, scope: Scope) -> Again:
    """A failed plan rests until its delay is over, if another try may help; then its Job is made anew."""
    wait = builds.retry_in(status, now=scope.now())
    if wait is None:
        return DONE
    if wait > 0:
        return Again(seconds=wait)
    plan = inp.plan
    if await scope.gatherer.is_paused(plan):
        return Again(seconds=LOOK_AGAIN)
    if inp.job is not None:
        await scope.cluster.delete("Job", plan.metadata.namespace, plan.metadata.name, foreground=True)
        return Again(seconds=1.0)
    less = f" with {workspace} bytes of workspace" if (workspace := builds.next_workspace(plan)) else ""
    message = f"The build is tried again{less}. The last time: {status.message}"
    finding = Finding(
        phase=api.Phase.PENDING,
        verdict=Verdict(state=State.WORKING, reason=Reason.RETRYING, message=message),
    )
    await _report(plan, finding, scope, inp=inp)
    return Again(seconds=0.0)


def _conditions(inp: PlanInput, finding: Finding, scope: Scope, *, ended: bool) -> tuple[api.Condition, ...]:
    """GPUAvailable is of the build to come: nobody looks at nodes for a plan once it has ended."""
    plan = inp.plan
    generation, now = plan.metadata.generation, scope.now()
    before = plan.status.conditions if plan.status else ()
    gpu = None if ended else availability.of_target(inp.gpu_class, inp.nodes)
    return (
        *conditions(finding.verdict, generation=generation, before=before, now=now),
        *availability.conditions(gpu, generation=generation, before=before, now=now),
    )


async def _report(plan: api.EnginePlan, finding: Finding, scope: Scope, *, inp: PlanInput) -> None:
    """The one status patch of this reconciliation, and an event where the build has ended."""
    before, result = plan.status, finding.result
    generation = plan.metadata.generation
    ended = finding.phase in (api.Phase.BUILT, api.Phase.FAILED)
    status = api.EnginePlanStatus(
        observed_generation=generation,
        phase=finding.phase,
        conditions=_conditions(inp, finding, scope, ended=ended),
        outcome=result.outcome if result else "",
        message=finding.verdict.message,
        job=plan.metadata.name,
        builder_image=builds.image(inp),
        progress=builds.shown(finding.progress),
        plan_uri=plan.spec.plan_uri if finding.phase is api.Phase.BUILT else "",
        bytes=result.plan_bytes if result else 0,
        sha256=result.plan_sha256 if result else "",
        attempts=(before.attempts if before else 0) + int(ended),
        finished_at=scope.stamp() if ended else None,
        measurements=builds.measurements(result) if result else None,
        gates=builds.verdicts(result) if result else (),
        workspace=builds.next_workspace(plan),
    )
    if not await scope.cluster.patch_status(plan, status):
        return
    if ended:
        traces.build_ended(plan, status)
        metrics.built(plan.spec.gpu_class, result or BuildResult.of(Outcome.INTERNAL, ""))
        reason = finding.verdict.reason
        failed = finding.phase is api.Phase.FAILED
        await scope.cluster.event(plan, reason, finding.verdict.message, warning=failed)
        if failed and (end := builds.log_end(inp.log)):
            await scope.cluster.event(plan, Reason.BUILD_LOG, end, warning=True)
        logger.info("The EnginePlan %s: %s: %s", plan.metadata.name, reason, finding.verdict.message)
