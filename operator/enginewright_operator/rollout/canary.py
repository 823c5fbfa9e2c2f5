"""One step of a canary: when it is over, and when the whole is given up."""

import datetime
from dataclasses import dataclass

from enginewright_operator import api, stamps
from enginewright_operator.rollout import analysis
from enginewright_operator.rollout.analysis import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a step is judged by."""

    rules: api.Canary
    ready: int  # pods of the canary
    settled: bool  # both Deployments are what the weight asks for, and ready
    deadline: float  # seconds that a pod may take
    why: str  # what keeps the canary's pods from being ready
    sample: Sample | None
    promoted: bool  # a person said so
    now: datetime.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """The canary after this look at it; `failed` is why it is given up."""

    status: api.CanaryStatus
    failed: str = ""


def begin(plan: str, at: Moment) -> api.CanaryStatus:
    """A canary that has done nothing yet."""
    return api.CanaryStatus(plan=plan, weight=at.rules.all_steps[0].set_weight or 0, since=stamps.stamp(at.now))


def sample_due(status: api.CanaryStatus, rules: api.Canary, now: datetime.datetime) -> bool:
    """Whether it is time to read the metrics."""
    begun = status.window
    return begun is None or stamps.since(begun.at, now) >= api.parse_duration(rules.analysis.interval)


def walk(status: api.CanaryStatus, at: Moment) -> Walked:
    """Judge what was measured, then go on to the next step if this one is over."""
    steps = at.rules.all_steps
    if status.step >= len(steps):
        return Walked(status=status)
    if stamps.ahead(status.since, at.now):  # the clock was set back: the step's time begins anew
        status = status.model_copy(update={"since": stamps.stamp(at.now)})
    status = _counted(status, at)
    if not at.settled and steps[status.step].set_weight and stamps.since(status.since, at.now) > at.deadline:
        return Walked(status=status, failed=at.why or f"its pods were not ready within {at.deadline:g} s")
    status = _measured(status, at)
    if status.failures > at.rules.analysis.failure_limit:
        return Walked(status=status, failed=status.measurement)
    waits = _waits(status, at)
    if waits:
        return Walked(status=status.model_copy(update={"message": waits}))
    return Walked(status=_advanced(status, at))


def _counted(status: api.CanaryStatus, at: Moment) -> api.CanaryStatus:
    """Each pod that comes gives the next one the whole deadline, as it is with a Deployment's."""
    if at.ready == status.ready:
        return status
    coming = at.ready > status.ready and at.rules.all_steps[status.step].set_weight is not None
    return status.model_copy(update={"ready": at.ready} | ({"since": stamps.stamp(at.now)} if coming else {}))


def _measured(status: api.CanaryStatus, at: Moment) -> api.CanaryStatus:
    if at.sample is None:
        return status
    begun, fresh = status.window, analysis.window(at.sample, at=stamps.stamp(at.now)) if at.settled else None
    if begun is None:
        return status.model_copy(update={"window": fresh})
    found = analysis.measure(at.rules.analysis, begun, at.sample)
    if found is None:
        # Too few requests so far leave the window open; other pods or new processes begin another.
        opened = begun if fresh is None or analysis.continues(begun, fresh) else fresh
        return status.model_copy(update={"window": opened})
    return status.model_copy(
        update={
            "passed": status.passed + found.passed,
            "failures": status.failures + (not found.passed),
            "measurement": found.message,
            "window": fresh
            or begun.model_copy(update={"at": stamps.stamp(at.now), "restarts": at.sample.canary.restarts}),
        }
    )


def _waits(status: api.CanaryStatus, at: Moment) -> str:
    """What the step waits for; empty: it is over."""
    steps = at.rules.all_steps
    step, rest = steps[status.step], steps[status.step + 1 :]
    if not at.settled:
        return "its pods are on their way"
    if step.pause is not None:
        if step.pause.duration is None and not at.promoted:
            return f"a person has to say so: set the annotation enginewright.dev/promote to {status.plan}"
        if step.pause.duration and stamps.since(status.since, at.now) < api.parse_duration(step.pause.duration):
            return f"until {step.pause.duration} have passed; {_so_far(status)}"
    leaves = not rest or rest[0].set_weight is not None
    if leaves and not status.passed and at.rules.analysis.min_requests:
        problem = at.sample.problem if at.sample else ""
        return problem or f"a measurement of at least {at.rules.analysis.min_requests} requests; {_so_far(status)}"
    return ""


def _so_far(status: api.CanaryStatus) -> str:
    return f"{status.passed} measurements passed, {status.failures} failed"


def _advanced(status: api.CanaryStatus, at: Moment) -> api.CanaryStatus:
    steps, step = at.rules.all_steps, status.step + 1
    update = {"step": step, "since": stamps.stamp(at.now)}
    if step < len(steps) and (weight := steps[step].set_weight):
        update |= {"weight": weight, "passed": 0, "window": None}
    if step >= len(steps):
        update |= {"message": "it takes over", "window": None}
    return status.model_copy(update=update)
