"""What a build Job and its pods say, as a phase, a sentence and a result. Pure."""

import datetime
from dataclasses import dataclass, replace

from enginewright_operator import api, gpu_words, stamps
from enginewright_operator.conditions import Reason, State, Verdict
from enginewright_operator.gather import PlanInput
from enginewright_operator.kube import Manifest
from enginewright_operator.render import build_job
from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.progress import BuildProgress
from enginewright_runtime.plan.request import BuildResult

RETRY_FIRST, RETRY_LIMIT = 60.0, 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Where a build stands, and whether its Job has yet to be made."""

    phase: api.Phase
    verdict: Verdict
    result: BuildResult | None = None
    progress: BuildProgress | None = None
    create_job: bool = False


def judge(inp: PlanInput) -> Finding:
    """Where the build of a plan that is neither built nor failed stands."""
    if damaged := _damage(inp.plan):
        return failed(BuildResult.of(Outcome.USAGE, damaged))
    if inp.gpu_class is None:
        name = inp.plan.spec.gpu_class
        return _pending(
            State.STALLED, Reason.GPU_CLASS_MISSING, f"There is no GPUClass {name}, on whose nodes to build: create it."
        )
    if inp.job is None:
        if found := _without_nodes(inp):
            return found
        made = _pending(State.WORKING, Reason.WAITING_FOR_BUILD, "The build Job is being made.")
        return replace(made, create_job=True)
    if inp.job["metadata"].get("deletionTimestamp"):
        return _pending(State.WORKING, Reason.WAITING_FOR_BUILD, "The former build Job is being deleted.")
    if _has(inp.job, "Complete"):
        return _built(inp)
    if failure := _has(inp.job, "Failed"):
        result, status = _result(inp) or _killed(inp, failure), inp.plan.status
        return failed(result, again=_tried_again(result.outcome, status.workspace if status else 0))
    return _under_way(inp)


def _damage(plan: api.EnginePlan) -> str:
    """Why the recipe is not the one that the plan is named by; empty if it is. A plan may be written by anybody."""
    try:
        digest = plan.spec.parsed_recipe.digest
    except PlanError as error:
        return f"The EnginePlan {plan.metadata.name} cannot be read: {error.message}"
    folder = f"/plans/{plan.metadata.namespace}/{plan.spec.digest}/"
    inside = plan.spec.plan_uri.startswith(plan.spec.storage.uri.rstrip("/") + folder)
    if digest == plan.spec.digest and inside:
        return ""
    return (
        f"The EnginePlan {plan.metadata.name} does not hold together: its recipe has the digest {digest} and its file "
        f"must lie under {folder} of its storage; delete it, the operator makes the right one."
    )


def _built(inp: PlanInput) -> Finding:
    result = _result(inp) or BuildResult.of(Outcome.DONE, "The plan is built; its pod left no measurements.")
    verdict = Verdict(state=State.READY, reason=Reason.BUILT, message=result.message)
    return Finding(phase=api.Phase.BUILT, verdict=verdict, result=result)


def failed(result: BuildResult, *, again: bool = False) -> Finding:
    """A build that ended without a plan; only one that is not tried `again` needs a person."""
    state = State.WORKING if again else State.STALLED
    verdict = Verdict(state=state, reason=Reason.BUILD_FAILED, message=result.message)
    return Finding(phase=api.Phase.FAILED, verdict=verdict, result=result)


def waits_its_turn(plan: api.EnginePlan, running: int) -> Finding:
    """A build for which too many others run."""
    return _pending(
        State.WORKING,
        Reason.WAITING_FOR_TURN,
        f"{running} builds run in the namespace {plan.metadata.namespace} on the GPUClass {plan.spec.gpu_class}, as "
        f"many as may at a time: {plan.metadata.name} waits for its turn.",
    )


def paused(plan: api.EnginePlan) -> Finding:
    """A build that nobody wants to begin now."""
    return _pending(
        State.STALLED,
        Reason.PAUSED,
        f"All engines that want {plan.metadata.name} are paused, and its build does not begin: set spec.paused of one "
        "of them to false to go on.",
    )


def _pending(state: State, reason: Reason, message: str) -> Finding:
    return Finding(phase=api.Phase.PENDING, verdict=Verdict(state=state, reason=reason, message=message))


def over_quota(message: str) -> Finding:
    """A build for which the namespace's quota has no room now."""
    return _pending(State.WORKING, Reason.QUOTA_EXCEEDED, message)


def _under_way(inp: PlanInput) -> Finding:
    if inp.job is not None and inp.job["spec"].get("suspend"):
        where = f"in the queue {inp.plan.spec.queue}" if inp.plan.spec.queue else "suspended"
        return _pending(State.WORKING, Reason.QUEUED, f"The build Job waits {where} until it is admitted.")
    pod = inp.pods[-1] if inp.pods else None
    phase = ((pod or {}).get("status") or {}).get("phase", "Pending")
    if phase != "Pending":
        where = (pod or {}).get("spec", {}).get("nodeName", "a node")
        progress = BuildProgress.last_in(inp.log)
        how_far = f": {progress.sentence}" if progress else "."
        message = f"The plan is being built on {where}{how_far}"
        verdict = Verdict(state=State.WORKING, reason=Reason.BUILDING, message=message)
        return Finding(phase=api.Phase.BUILDING, verdict=verdict, progress=progress)
    if found := _without_nodes(inp):
        return found
    if pod is None and inp.refusal:
        if "exceeded quota" in inp.refusal:
            return over_quota(f"The build's pod is not made: {inp.refusal}")
        return _pending(State.WORKING, Reason.WAITING_FOR_NODE, f"The build's pod is not made: {inp.refusal}")
    waiting = _has(pod, "PodScheduled", status="False") if pod else None
    why = (waiting or {}).get("message") or _container_waits(pod) or "its pod has not begun"
    return _pending(State.WORKING, Reason.WAITING_FOR_NODE, f"The build waits: {why}")


def _without_nodes(inp: PlanInput) -> Finding | None:
    """No node of the class, so no Job either: its deadline would run out while it waits for what may never come."""
    if inp.gpu_class is None:
        return None
    why = gpu_words.why_none(inp.plan.spec.gpu_class, inp.gpu_class.spec, inp.nodes)
    return _pending(State.STALLED, Reason.NO_MATCHING_NODE, why) if why else None


def _result(inp: PlanInput) -> BuildResult | None:
    """What the last container that ended said, if it said anything."""
    for pod in reversed(inp.pods):
        for state in _terminated(pod):
            if result := BuildResult.from_termination_message(state.get("message") or ""):
                return result
    return None


def _killed(inp: PlanInput, failure: Manifest) -> BuildResult:
    """A result for a build that could not tell one itself."""
    name = inp.plan.metadata.name
    status = inp.plan.status
    if failure.get("reason") == "DeadlineExceeded" and (status is None or status.phase is api.Phase.PENDING):
        return BuildResult.of(
            Outcome.INTERRUPTED,
            f"The build of {name} found no node within {inp.plan.spec.deadline} ({status.message if status else ''}): "
            "it is tried again later.",
        )
    if failure.get("reason") == "DeadlineExceeded":
        return BuildResult.of(
            Outcome.USAGE,
            f"The build of {name} was stopped after {inp.plan.spec.deadline}: set spec.build.deadline to more, or "
            "spec.build.effort to fast.",
        )
    states = [state for pod in inp.pods for state in _terminated(pod)]
    if states and states[-1].get("reason") == "OOMKilled":
        return BuildResult.of(
            Outcome.OUT_OF_MEMORY,
            f"The build of {name} was OOMKilled: it needed more memory than its node or its limit gives"
            f"{_advice(status)}.",
        )
    told = f"exit code {states[-1].get('exitCode')}" if states else failure.get("message") or "no reason given"
    return BuildResult.of(
        Outcome.INTERNAL, f"The build of {name} ended without a word ({told}): see `kubectl logs job/{name}`."
    )


def _advice(status: api.EnginePlanStatus | None) -> str:
    if status is None or not status.workspace:
        return ""  # it is tried again by itself
    return ", also with half of the workspace; set spec.build.resources to more memory, or spec.build.workspace to less"


def _terminated(pod: Manifest) -> list[Manifest]:
    rows = (pod.get("status") or {}).get("containerStatuses") or ()
    return [state["terminated"] for row in rows if (state := row.get("state") or {}).get("terminated")]


def image(inp: PlanInput) -> str:
    """The image that the last build ran, as its node's kubelet names it; what is known of it where no pod tells."""
    rows = [row for pod in inp.pods for row in (pod.get("status") or {}).get("containerStatuses") or ()]
    told = [str(row.get("imageID") or "") for row in rows if row.get("name") == build_job.CONTAINER]
    known = inp.plan.status.builder_image if inp.plan.status else ""
    return next(filter(None, reversed(told)), known)


def _container_waits(pod: Manifest | None) -> str:
    """Why a container has not begun: an image that cannot be pulled, a Secret that is not there."""
    status = (pod or {}).get("status") or {}
    for row in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        if waiting := (row.get("state") or {}).get("waiting"):
            return f"{waiting.get('reason', '')} {waiting.get('message', '')}".strip()
    return ""


def _has(manifest: Manifest, kind: str, *, status: str = "True") -> Manifest | None:
    rows = (manifest.get("status") or {}).get("conditions") or ()
    return next((row for row in rows if row["type"] == kind and row["status"] == status), None)


def retry_in(status: api.EnginePlanStatus, *, now: datetime.datetime) -> float | None:
    """Seconds until a failed build is tried again; None if the same request would end the same way."""
    if not _tried_again(status.outcome, status.workspace) or status.finished_at is None:
        return None
    if status.outcome == Outcome.OUT_OF_MEMORY.name:
        return 0.0
    delay = min(RETRY_LIMIT, RETRY_FIRST * 2.0 ** min(max(status.attempts - 1, 0), 10))
    return max(0.0, delay - stamps.since(status.finished_at, now))


def _tried_again(outcome: str, workspace: int) -> bool:
    """Whether another try may end otherwise: what ran out of memory with the recipe's workspace has one with less."""
    ended = Outcome.__members__.get(outcome, Outcome.INTERNAL)
    return not workspace if ended is Outcome.OUT_OF_MEMORY else not ended.permanent


def shown(progress: BuildProgress | None) -> api.BuildProgress | None:
    """The progress, for the status."""
    if progress is None:
        return None
    return api.BuildProgress(
        phase=progress.phase[:100], done=progress.done, total=progress.total, seconds_left=progress.seconds_left
    )


LOG_LINES, LOG_CHARACTERS = 12, 900  # an event's message has 1,024 characters at most


def log_end(log: str) -> str:
    """The last lines of a build's log for an event; empty if there are none."""
    lines = [line for line in log.splitlines() if line.strip() and not BuildProgress.is_line(line)]
    end = "\n".join(lines[-LOG_LINES:])[-LOG_CHARACTERS:]
    return f"The end of the build's log:\n{end}" if end else ""


def next_workspace(plan: api.EnginePlan) -> int:
    """Bytes of workspace for the next build: half of the recipe's after one that ran out of memory; 0: the recipe's."""
    status = plan.status
    if status is None or status.outcome != Outcome.OUT_OF_MEMORY.name:
        return status.workspace if status else 0
    return max(1, plan.spec.parsed_recipe.workspace // 2)


def measurements(result: BuildResult) -> api.Measurements:
    """What the build measured, for the status."""
    return api.Measurements(
        layers_before=result.layers_before,
        layers_after=result.layers_after,
        seconds=result.seconds,
        latency_ms=dict(result.latency_ms),
    )


def verdicts(result: BuildResult) -> tuple[api.GateVerdict, ...]:
    """The gates' verdicts, for the status."""
    return tuple(
        api.GateVerdict(
            gate=each.gate,
            passed=each.passed,
            measured=each.measured,
            limit=each.limit,
            unit=each.unit,
            message=each.message,
        )
        for each in result.gates
    )
