"""What Prometheus is told: counters of what the operator did, and gauges of its objects as they were last read.

Names and units follow Prometheus' conventions. Labels are names of objects, kinds and reasons: never what a person
wrote as free text. A standby has no objects, so nothing is counted twice.
"""

import datetime
from collections.abc import Mapping
from typing import Any

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

from enginewright_operator import api
from enginewright_operator.conditions import Reason
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.request import BuildResult

RECONCILES = Counter("enginewright_operator_reconciles", "Reconciliations, by kind and result.", ["kind", "result"])
SECONDS = Histogram("enginewright_operator_reconcile_duration_seconds", "How long one reconciliation takes.", ["kind"])
DEPTH = Gauge("enginewright_operator_queue_depth", "Keys that wait for a worker.")
LEADING = Gauge("enginewright_operator_leading", "1 while this process is the leader.")
REQUESTS = Counter("enginewright_operator_api_requests", "Requests to the API server, without the watches.", ["method"])
BUILDS = Counter("enginewright_builds", "Builds that ended, by outcome and GPU class.", ["outcome", "gpu_class"])
BUILD_SECONDS = Histogram(
    "enginewright_build_duration_seconds",
    "How long a build took that made a plan, by GPU class.",
    ["gpu_class"],
    buckets=(1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200),
)
GATES = Counter("enginewright_gate_verdicts", "Verdicts of gates, by gate and result.", ["gate", "result"])


def built(gpu_class: str, result: BuildResult) -> None:
    """One build ended."""
    BUILDS.labels(result.outcome, gpu_class).inc()
    if result.seconds:
        BUILD_SECONDS.labels(gpu_class).observe(result.seconds)
    for verdict in result.gates:
        GATES.labels(verdict.gate, "passed" if verdict.passed else "failed").inc()


def _count_from_zero(gpu_class: str) -> None:
    """Prometheus sees only a counter's growth: one that began with its first failure would have hidden it."""
    for outcome in Outcome:
        BUILDS.labels(outcome.name, gpu_class)


class Objects:
    """The operator's objects. A gauge of one that was deleted goes with it, which labelled gauges would keep.

    Each object's lines are written when it changes: prometheus_client writes all of them anew at each scrape, which
    takes seconds with thousands of objects, and nothing else is done meanwhile.
    """

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str, str], tuple[str, ...]] = {}  # of an object, one text a family
        self._classes: set[str] = set()

    def seen(self, kind: str, namespace: str, name: str, manifest: Mapping[str, Any] | None) -> None:
        """An object was read; None: there is no such object any more."""
        if manifest is None:
            self._lines.pop((kind, namespace, name), None)
            return
        status, spec = manifest.get("status") or {}, manifest.get("spec") or {}
        which = {"namespace": namespace, "name": name}
        gpu_class = str(spec.get("gpuClass", "")) if kind == api.EnginePlan.KIND else ""
        more = {"gpu_class": gpu_class} if kind == api.EnginePlan.KIND else {}
        gauges = _plan(status) if kind == api.EnginePlan.KIND else _engine(status)
        self._lines[kind, namespace, name] = (
            "".join(_condition({"kind": kind} | which, row) for row in status.get("conditions") or ()),
            *(_sample(family, which | more, gauges[family]) if family in gauges else "" for family in _GAUGES),
        )
        if gpu_class and gpu_class not in self._classes:
            self._classes.add(gpu_class)
            _count_from_zero(gpu_class)

    def clear(self) -> None:
        """Another process leads from now on."""
        self._lines.clear()

    def text(self) -> str:
        """What one scrape is told, in Prometheus' text format."""
        families = {_CONDITION: "1 while the condition of the object is true, else 0."} | _GAUGES
        parts: list[str] = []
        for place, (family, says) in enumerate(families.items()):
            parts.append(f"# HELP {family} {says}\n# TYPE {family} gauge\n")
            parts += (lines[place] for lines in self._lines.values())
        return "".join(parts)


_CONDITION = "enginewright_condition"
_GAUGES: dict[str, str] = {
    "enginewright_engine_targets": "Targets of the engine.",
    "enginewright_engine_targets_ready": "Targets of the engine that serve the wanted plan.",
    "enginewright_engine_replicas": "Pods that the engine wants.",
    "enginewright_engine_replicas_expected": "Of the pods that the engine wants those that are to be ready by now: of "
    "targets that have served.",
    "enginewright_engine_replicas_ready": "Pods of the engine that are ready, those of canaries among them.",
    "enginewright_plan_finished_timestamp_seconds": "When the build of the plan ended.",
    "enginewright_plan_size_bytes": "The size of the plan.",
}
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def _sample(family: str, labels: Mapping[str, str], value: float) -> str:
    said = ",".join(f'{name}="{text.translate(_ESCAPED)}"' for name, text in labels.items())
    return f"{family}{{{said}}} {value}\n"


def _condition(which: Mapping[str, str], row: Mapping[str, str]) -> str:
    labels = {**which, "condition": row["type"], "reason": row["reason"]}
    return _sample(_CONDITION, labels, float(row["status"] == "True"))


def _plan(status: Mapping[str, Any]) -> Mapping[str, float]:
    gauges = {"enginewright_plan_size_bytes": float(status.get("bytes") or 0)}
    if finished := status.get("finishedAt"):
        stamp = datetime.datetime.fromisoformat(finished).timestamp()
        gauges["enginewright_plan_finished_timestamp_seconds"] = stamp
    return gauges


def _engine(status: Mapping[str, Any]) -> Mapping[str, float]:
    targets = status.get("targets") or ()
    return {
        "enginewright_engine_targets": len(targets),
        "enginewright_engine_targets_ready": sum(bool(row.get("ready")) for row in targets),
        "enginewright_engine_replicas": sum(row.get("replicas", 0) for row in targets),
        "enginewright_engine_replicas_expected": sum(_expected(row) for row in targets),
        "enginewright_engine_replicas_ready": sum(_ready(row) for row in targets),
    }


def _expected(target: Mapping[str, Any]) -> int:
    """A first plan may take hours to be built, and a paused engine is left with the pods that it has."""
    due = target.get("plan") and target.get("reason") != Reason.PAUSED
    return int(target.get("replicas", 0)) if due else 0


def _ready(target: Mapping[str, Any]) -> int:
    return int(target.get("readyReplicas", 0)) + int((target.get("canary") or {}).get("ready", 0))


OBJECTS = Objects()


def told() -> bytes:
    """All that Prometheus is told at one scrape."""
    return prometheus_client.generate_latest() + OBJECTS.text().encode()
