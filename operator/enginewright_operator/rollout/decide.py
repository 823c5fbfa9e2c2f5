"""The next step of one target's rollout: which plan its pods serve, and which plan is not tried again."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256

from enginewright_operator import api
from enginewright_operator.kube import Manifest
from enginewright_operator.render import names
from enginewright_operator.rollout import deployments


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that decides a target's next step. Plans are named; `wanted` is empty until the wanted one is built."""

    wanted: str
    serving: str  # what the Deployment's pods are told to serve
    usable: Collection[str]  # plans that pods can be given: built, and not on their way out
    row: api.TargetStatus | None
    stable: Manifest | None
    fingerprint: str  # of the wanted plan's pods and the rollout's rules
    why: str  # what keeps the pods from being ready, where that was asked
    now: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What the Deployment is to be; no plan: leave it as it is."""

    plan: str
    rejected: api.Rejection | None


def next_step(at: Situation) -> Step:
    """What to do now. A plan that does not come up gives way to the last one that did."""
    if not at.wanted:
        return Step(plan=at.serving if at.serving in at.usable else "", rejected=at.row.rejected if at.row else None)
    former = _former(at)
    rejected = (_standing(at) or _given_up(at)) if former else None
    return Step(plan=former if rejected else at.wanted, rejected=rejected)


def _former(at: Situation) -> str:
    """The plan to go back to: the last whose rollout was finished."""
    known = (at.row.plan, *at.row.previous) if at.row else ()
    return next((name for name in known if name != at.wanted and name in at.usable), "")


def _standing(at: Situation) -> api.Rejection | None:
    """An earlier rejection, while nothing of what led to it has changed."""
    rejected = at.row.rejected if at.row else None
    same = rejected is not None and (rejected.plan, rejected.fingerprint) == (at.wanted, at.fingerprint)
    return rejected if same else None


def _given_up(at: Situation) -> api.Rejection | None:
    """A rejection of the plan whose rollout is stuck."""
    stuck = deployments.stuck(at.stable)
    if at.serving != at.wanted or not stuck or (at.row and at.row.plan == at.wanted):
        return None
    return api.Rejection(plan=at.wanted, message=at.why or stuck, at=at.now, fingerprint=at.fingerprint)


def fingerprint(deployment: Manifest, engine: api.InferenceEngine) -> str:
    """Of all that a rollout depends on beside the cluster; a person changes it by hand with the annotation `retry`."""
    tried = {
        "template": deployment["spec"]["template"],
        "rollout": engine.spec.rollout.model_dump(mode="json"),
        "retry": engine.metadata.annotations.get(names.RETRY_ANNOTATION, ""),
    }
    return sha256(json.dumps(tried, sort_keys=True).encode()).hexdigest()[:16]
