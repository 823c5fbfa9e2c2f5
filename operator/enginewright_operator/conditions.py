"""Verdicts to conditions: one place that knows how kstatus wants Ready, Reconciling and Stalled to go together.

A condition keeps its lastTransitionTime while its status stays, so that writing the same again changes nothing.
"""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from enginewright_operator import stamps
from enginewright_operator.api import Condition

MESSAGE_LIMIT = 4000


class State(StrEnum):
    """What a verdict means for whoever waits."""

    READY = "ready"
    WORKING = "working"
    STALLED = "stalled"  # only a person can mend it


class Reason(StrEnum):
    """Every reason that a condition or an event may give. Tools match on them: none is ever renamed."""

    ACCEPTED = "Accepted"  # seen for the first time
    PAUSED = "Paused"
    GATEWAY_API_MISSING = "GatewayAPIMissing"
    NAME_TAKEN = "NameTaken"
    GPU_CLASS_MISSING = "GPUClassMissing"
    NO_MATCHING_NODE = "NoMatchingNode"
    GPU_FOUND = "GPUFound"  # of GPUAvailable: a node has the GPU of the target's class
    UP_TO_DATE = "UpToDate"  # of Stale, as the two after it: what serves is what is asked for
    REBUILDING = "Rebuilding"
    REBUILD_HELD = "RebuildHeld"  # spec.build.rebuildOn leaves it alone
    STORAGE_UNKNOWN = "StorageUnknown"
    CREDENTIALS_MISSING = "CredentialsMissing"
    SIGNING_KEYS_MISSING = "SigningKeysMissing"
    PLUGINS_REFUSED = "PluginsRefused"
    FORMAT_UNKNOWN = "FormatUnknown"
    FILE_STORAGE_REFUSED = "FileStorageRefused"
    OBJECT_MISSING = "ObjectMissing"
    STORAGE_DENIED = "StorageDenied"
    STORAGE_UNREACHABLE = "StorageUnreachable"
    WAITING_FOR_BUILD = "WaitingForBuild"
    WAITING_FOR_TURN = "WaitingForTurn"  # as many builds run as may
    WAITING_FOR_NODE = "WaitingForNode"
    QUEUED = "Queued"  # Kueue, or whoever suspended the Job, has not admitted it yet
    QUOTA_EXCEEDED = "QuotaExceeded"  # it goes on by itself as soon as there is room
    BUILDING = "Building"
    BUILT = "Built"
    BUILD_FAILED = "BuildFailed"
    BUILD_LOG = "BuildLog"  # of an event: how the log of a failed build ends
    RETRYING = "Retrying"
    ROLLING_OUT = "RollingOut"
    CANARY = "Canary"  # a new plan is tried on a share of the pods
    ROLLOUT_STUCK = "RolloutStuck"
    ROLLED_BACK = "RolledBack"  # a plan did not come up, and the one before it serves again
    SERVING = "Serving"
    IDLE = "Idle"  # zero replicas are wanted
    PLAN_TERMINATING = "PlanTerminating"
    FILES_LEFT = "FilesLeft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A judgement about an object or one of its targets, ready to be shown."""

    state: State
    reason: Reason
    message: str


def conditions(
    verdict: Verdict, *, generation: int, before: Iterable[Condition], now: datetime.datetime
) -> tuple[Condition, ...]:
    """Ready, Reconciling and Stalled for a verdict.

    Ready is Unknown while an object was only just accepted, since nothing is known of it yet.
    """
    ready = {State.READY: "True", State.WORKING: "False", State.STALLED: "False"}[verdict.state]
    statuses = {
        "Ready": "Unknown" if verdict.reason is Reason.ACCEPTED else ready,
        "Reconciling": str(verdict.state is State.WORKING),
        "Stalled": str(verdict.state is State.STALLED),
    }
    known = {condition.type: condition for condition in before}
    return tuple(
        condition(kind, status, verdict, generation=generation, before=known.get(kind), now=now)
        for kind, status in statuses.items()
    )


def condition(
    kind: str, status: str, verdict: Verdict, *, generation: int, before: Condition | None, now: datetime.datetime
) -> Condition:
    """One condition, which keeps its time of change where its status is that of `before`."""
    stamp = stamps.stamp(now)
    same = before is not None and before.status == status
    return Condition(
        type=kind,
        status=status,
        reason=verdict.reason,
        message=shortened(verdict.message),
        last_transition_time=before.last_transition_time if same and before is not None else stamp,
        observed_generation=generation,
    )


def shortened(message: str) -> str:
    """A message that fits into a condition, cut with an ellipsis where it is longer."""
    return message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 2].rstrip() + " …"


_WORST_FIRST = (State.STALLED, State.WORKING, State.READY)


def summary(rows: Sequence[tuple[str, Verdict]]) -> Verdict:
    """The verdict on the whole from the verdicts on its parts, each with its name: the worst one speaks."""
    for state in _WORST_FIRST:
        found = [(name, verdict) for name, verdict in rows if verdict.state is state]
        if found:
            name, verdict = found[0]
            rest = f" (and {len(found) - 1} more like it)" if len(found) > 1 and state is not State.READY else ""
            message = verdict.message if len(rows) == 1 else f"{name}: {verdict.message}{rest}"
            if state is State.READY and len(rows) > 1:
                message = f"All {len(rows)} targets serve."
            return Verdict(state=state, reason=verdict.reason, message=message)
    raise ValueError("there is nothing to sum up")
