"""One trace a plan, from the manifest that asked for it to the pods that serve it.

The trace is named when the EnginePlan is created, and stands in an annotation of it: the build's and the serving pods'
spans join it through their environment. Its first span, which covers all the others, is sent when the plan serves.
"""

import datetime

from enginewright_operator import api
from enginewright_operator.render import names
from enginewright_runtime import tracing


def begun(engine: api.InferenceEngine) -> dict[str, str]:
    """The annotations of a plan that is ordered now; in the trace of whoever applied the engine, where it names one."""
    if not tracing.enabled():
        return {}
    return {names.TRACEPARENT: tracing.begin(engine.metadata.annotations.get(names.TRACEPARENT, ""))}


def build_ended(plan: api.EnginePlan, status: api.EnginePlanStatus) -> None:
    """The build, from its order to its end: with the time that it waited for a node."""
    context = of(plan)
    if not context or status.finished_at is None:
        return
    failed = status.phase is api.Phase.FAILED
    tracing.record(
        "build job",
        tracing.begin(context),
        parent=context,
        start=_seconds(plan.metadata.creation_timestamp),
        end=_seconds(status.finished_at),
        error=status.message if failed else "",
        outcome=status.outcome,
        **_who(plan),
    )


def served(engine: api.InferenceEngine, plan: api.EnginePlan, *, now: datetime.datetime) -> None:
    """All of it, now that every pod serves the plan: and the rollout, its last part."""
    context = of(plan)
    if not context:
        return
    who = _who(plan) | {"engine": engine.metadata.name}
    ended = now.timestamp()
    if plan.status and plan.status.finished_at:
        built = _seconds(plan.status.finished_at)
        tracing.record("rollout", tracing.begin(context), parent=context, start=built, end=ended, **who)
    parent = engine.metadata.annotations.get(names.TRACEPARENT, "")
    ours = parent.split("-")[1:2] == context.split("-")[1:2]
    created = _seconds(plan.metadata.creation_timestamp)
    tracing.record("from manifest to served", context, parent=parent if ours else "", start=created, end=ended, **who)


def of(plan: api.EnginePlan) -> str:
    """The traceparent of a plan; empty where it was ordered without one."""
    return plan.metadata.annotations.get(names.TRACEPARENT, "")


def _who(plan: api.EnginePlan) -> dict[str, str]:
    return {"namespace": plan.metadata.namespace, "plan": plan.metadata.name, "gpu_class": plan.spec.gpu_class}


def _seconds(stamp: str) -> float:
    return datetime.datetime.fromisoformat(stamp).timestamp()
