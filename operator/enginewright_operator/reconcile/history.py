"""Which plans of an engine are kept and which are let go. Pure.

A row's `plan` is the last one whose rollout was finished, so pods of a rollout that is under way still find the old
one; `previous` are those before it, the latest first.
"""

import datetime
from collections.abc import Iterable, Sequence

from enginewright_operator import api, stamps


def advanced(row: api.TargetStatus | None, *, serving: str, finished: bool, keep: int) -> tuple[str, tuple[str, ...]]:
    """The plan that serves and those before it, after this look at the Deployment."""
    plan, previous = (row.plan, row.previous) if row else ("", ())
    if not finished or serving in ("", plan):
        return plan or "", previous[:keep]
    former = [name for name in (plan, *previous) if name and name != serving]
    return serving, tuple(dict.fromkeys(former))[:keep]


def newly_served(before: api.InferenceEngineStatus | None, rows: Sequence[api.TargetStatus]) -> list[str]:
    """The plans whose rollout was finished just now."""
    known = {row.gpu_class: row.plan for row in (before.targets if before else ())}
    return [row.plan for row in rows if row.plan and row.plan != known.get(row.gpu_class)]


def adopted(owned: Iterable[api.EnginePlan], *, gpu_class: str, serving: str, keep: int) -> tuple[str, ...]:
    """Former plans of a target whose status was lost: the built ones of its class, the latest first."""
    built = [
        plan
        for plan in owned
        if plan.spec.gpu_class == gpu_class
        and plan.metadata.name != serving
        and plan.status is not None
        and plan.status.phase is api.Phase.BUILT
    ]
    built.sort(key=lambda plan: plan.metadata.creation_timestamp, reverse=True)
    return tuple(plan.metadata.name for plan in built)[:keep]


def age(plan: api.EnginePlan, now: datetime.datetime) -> float:
    """Seconds since the plan was built; of one that was not, none: there is nothing to come back to."""
    built = plan.status.finished_at if plan.status and plan.status.phase is api.Phase.BUILT else None
    return stamps.since(built, now) if built else float("inf")


def released(owned: Iterable[api.EnginePlan], rows: Sequence[api.TargetStatus], serving: Iterable[str]) -> list[str]:
    """The names of the owned plans that no target wants, serves or keeps."""
    kept = set(serving)
    for row in rows:
        kept |= {row.desired_plan, row.plan, *row.previous}
    return sorted(plan.metadata.name for plan in owned if plan.metadata.name not in kept)
