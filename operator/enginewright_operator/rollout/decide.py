"""The next step of one target's rollout: which plan its pods serve, how many of them, and what is not tried again."""

import datetime
import json
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256

from enginewright_operator import api, stamps
from enginewright_operator.kube import Manifest
from enginewright_operator.render import names
from enginewright_operator.rollout import canary, deployments, weights
from enginewright_operator.rollout.analysis import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that decides a target's next step. Plans are named; `wanted` is empty until the wanted one is built."""

    rules: api.Rollout
    replicas: int
    wanted: str
    usable: Collection[str]  # plans that pods can be given: built, and not on their way out
    row: api.TargetStatus | None
    stable: Manifest | None  # the Deployment of the plan that serves
    canary: Manifest | None
    fingerprint: str  # of the wanted plan's pods and the rollout's rules
    deadline: float  # seconds without progress after which a rollout is given up
    why: str  # what keeps the wanted plan's pods from being ready, where that was asked
    promoted: str  # the plan that may pass a pause without a duration
    sample: Sample | None  # the metrics of both, where it was time to read them
    now: datetime.datetime

    @property
    def former(self) -> str:
        """The plan to go back to: the last whose rollout was finished."""
        known = (self.row.plan, *self.row.previous) if self.row else ()
        return next((name for name in known if name != self.wanted and name in self.usable), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What the Deployments are to be. No plan: leave it as it is; no pods of the canary: it is taken away."""

    plan: str
    replicas: int
    surge: int
    canary_plan: str = ""
    canary_replicas: int = 0
    weight: int = 0  # percent of what comes through Gateways that goes to the canary
    canary: api.CanaryStatus | None = None
    rejected: api.Rejection | None = None


def next_step(at: Situation) -> Step:
    """What to do now. A plan that does not come up, or does worse, gives way to the last one that did well."""
    serving, row = deployments.served_by(at.stable), at.row
    if not at.wanted:
        return _whole(at, serving if serving in at.usable else "", rejected=row.rejected if row else None)
    if at.former and (rejected := _standing(at) or _given_up(at)):
        return _whole(at, at.former, rejected=rejected)
    if at.rules.strategy is not api.Strategy.CANARY or not _can_compare(at):
        return _whole(at, at.wanted)
    return _canary(at)


def _can_compare(at: Situation) -> bool:
    """Whether another plan serves, against which the wanted one can be held."""
    return bool(at.stable is not None and at.row and at.row.plan == at.former and at.former and at.replicas)


def _whole(at: Situation, plan: str, *, rejected: api.Rejection | None = None) -> Step:
    """All pods are one Deployment's; a canary gives way pod by pod, a rejected one at once."""
    surge = at.rules.max_surge
    left = deployments.served_by(at.canary)
    if at.canary is None or rejected or left not in at.usable or not plan:
        return Step(plan=plan, replicas=at.replicas, surge=surge, rejected=rejected)
    stable, rest = _towards(at, (at.replicas, 0))
    return Step(plan=plan, replicas=stable, surge=surge, canary_plan=left if rest else "", canary_replicas=rest)


def _canary(at: Situation) -> Step:
    rules, row = at.rules.canary_rules, at.row
    before = row.canary if row and row.canary and row.canary.plan == at.wanted else None
    goal = weights.goals(at.replicas, before.weight if before else 0)
    moment = canary.Moment(
        rules=rules,
        ready=_ready(at),
        settled=_settled(at, goal),
        deadline=at.deadline,
        why=at.why,
        sample=at.sample,
        promoted=at.promoted == at.wanted,
        now=at.now,
    )
    walked = canary.walk(before, moment) if before else canary.Walked(status=canary.begin(at.wanted, moment))
    stuck = deployments.stuck(at.canary) if deployments.served_by(at.canary) == at.wanted else ""
    if failed := walked.failed or (stuck and (at.why or stuck)):
        return _whole(at, at.former, rejected=_rejection(at, failed))
    goal = weights.goals(at.replicas, walked.status.weight)
    stable, trial = _towards(at, goal)
    takes_over = walked.status.step >= len(rules.all_steps)
    return Step(
        plan=at.wanted if takes_over else at.former,
        replicas=stable,
        surge=max(0, at.replicas + at.rules.max_surge - stable - trial) if takes_over else at.rules.max_surge,
        canary_plan=at.wanted if trial else "",
        canary_replicas=trial,
        weight=_weight(at, walked.status.weight, goal[1]),
        canary=walked.status,
    )


def _weight(at: Situation, wanted: int, pods: int) -> int:
    """The canary's share of requests: what the step says, less while only some of its pods are ready."""
    return wanted * min(_ready(at), pods) // pods


def _ready(at: Situation) -> int:
    return deployments.pods(at.canary).ready if deployments.served_by(at.canary) == at.wanted else 0


def _towards(at: Situation, goal: tuple[int, int]) -> tuple[int, int]:
    return weights.towards(
        deployments.pods(at.stable), deployments.pods(at.canary), goal, replicas=at.replicas, surge=at.rules.max_surge
    )


def _settled(at: Situation, goal: tuple[int, int]) -> bool:
    """Whether both Deployments have as many ready pods of their plans as the weight asks for."""
    there = (deployments.pods(at.stable).wanted, deployments.pods(at.canary).wanted)
    return (
        there == goal
        and deployments.served_by(at.canary) == at.wanted
        and deployments.finished(at.stable)
        and deployments.finished(at.canary)
    )


def _standing(at: Situation) -> api.Rejection | None:
    """An earlier rejection, while nothing of what led to it has changed."""
    rejected = at.row.rejected if at.row else None
    same = rejected is not None and (rejected.plan, rejected.fingerprint) == (at.wanted, at.fingerprint)
    return rejected if same else None


def _given_up(at: Situation) -> api.Rejection | None:
    """A rejection of the plan whose rollout is stuck."""
    stuck = deployments.stuck(at.stable)
    if deployments.served_by(at.stable) != at.wanted or not stuck or (at.row and at.row.plan == at.wanted):
        return None
    return _rejection(at, at.why or stuck)


def _rejection(at: Situation, message: str) -> api.Rejection:
    return api.Rejection(plan=at.wanted, message=message, at=stamps.stamp(at.now), fingerprint=at.fingerprint)


def fingerprint(deployment: Manifest, engine: api.InferenceEngine) -> str:
    """Of all that a rollout depends on beside the cluster; a person changes it by hand with the annotation `retry`."""
    tried = {
        "template": deployment["spec"]["template"],
        "rollout": engine.spec.rollout.model_dump(mode="json"),
        "retry": engine.metadata.annotations.get(names.RETRY_ANNOTATION, ""),
    }
    return sha256(json.dumps(tried, sort_keys=True).encode()).hexdigest()[:16]
