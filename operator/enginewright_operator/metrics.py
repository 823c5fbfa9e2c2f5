"""What Prometheus is told: counters of what the operator did, and gauges of its objects as they were last read.

Names and units follow Prometheus' conventions. Labels are names of objects, kinds and reasons: never what a person
wrote as free text. A standby has no objects, so nothing is counted twice.
"""

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

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

Labels = tuple[str, ...]
_WHICH = ("namespace", "name")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """What is kept of one object."""

    conditions: tuple[tuple[str, str, bool], ...]  # type, reason, whether it is true
    gauges: Mapping[str, float]
    gpu_class: str = ""


class Objects(Collector):
    """The operator's objects. A gauge of one that was deleted goes with it, which labelled gauges would keep."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str], _Row] = {}
        self._classes: set[str] = set()

    def seen(self, kind: str, namespace: str, name: str, manifest: Mapping[str, Any] | None) -> None:
        """An object was read; None: there is no such object any more."""
        if manifest is None:
            self._rows.pop((kind, namespace, name), None)
            return
        row = _row(kind, manifest.get("status") or {}, manifest.get("spec") or {})
        self._rows[kind, namespace, name] = row
        if row.gpu_class and row.gpu_class not in self._classes:
            self._classes.add(row.gpu_class)
            _count_from_zero(row.gpu_class)

    def clear(self) -> None:
        """Another process leads from now on."""
        self._rows.clear()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families, for one scrape."""
        condition = GaugeMetricFamily(
            "enginewright_condition",
            "1 while the condition of the object is true, else 0.",
            labels=("kind", *_WHICH, "condition", "reason"),
        )
        families = {name: _family(name) for name in _GAUGES}
        for (kind, namespace, name), row in tuple(self._rows.items()):
            for kind_of_condition, reason, true in row.conditions:
                condition.add_metric((kind, namespace, name, kind_of_condition, reason), float(true))
            more: Labels = (row.gpu_class,) if kind == api.EnginePlan.KIND else ()
            for gauge, value in row.gauges.items():
                families[gauge].add_metric((namespace, name, *more), value)
        yield condition
        yield from families.values()


# name -> (what it says, its labels beside namespace and name)
_GAUGES: Mapping[str, tuple[str, Labels]] = {
    "enginewright_engine_targets": ("Targets of the engine.", ()),
    "enginewright_engine_targets_ready": ("Targets of the engine that serve the wanted plan.", ()),
    "enginewright_engine_replicas": ("Pods that the engine wants.", ()),
    "enginewright_engine_replicas_expected": (
        "Of the pods that the engine wants those that are to be ready by now: of targets that have served.",
        (),
    ),
    "enginewright_engine_replicas_ready": ("Pods of the engine that are ready, those of canaries among them.", ()),
    "enginewright_plan_finished_timestamp_seconds": ("When the build of the plan ended.", ("gpu_class",)),
    "enginewright_plan_size_bytes": ("The size of the plan.", ("gpu_class",)),
}


def _family(name: str) -> GaugeMetricFamily:
    says, more = _GAUGES[name]
    return GaugeMetricFamily(name, says, labels=(*_WHICH, *more))


def _row(kind: str, status: Mapping[str, Any], spec: Mapping[str, Any]) -> _Row:
    conditions = tuple((row["type"], row["reason"], row["status"] == "True") for row in status.get("conditions") or ())
    if kind == api.EnginePlan.KIND:
        gauges = {"enginewright_plan_size_bytes": float(status.get("bytes") or 0)}
        if finished := status.get("finishedAt"):
            stamp = datetime.datetime.fromisoformat(finished).timestamp()
            gauges["enginewright_plan_finished_timestamp_seconds"] = stamp
        return _Row(conditions=conditions, gauges=gauges, gpu_class=str(spec.get("gpuClass", "")))
    targets = status.get("targets") or ()
    return _Row(
        conditions=conditions,
        gauges={
            "enginewright_engine_targets": len(targets),
            "enginewright_engine_targets_ready": sum(bool(row.get("ready")) for row in targets),
            "enginewright_engine_replicas": sum(row.get("replicas", 0) for row in targets),
            "enginewright_engine_replicas_expected": sum(_expected(row) for row in targets),
            "enginewright_engine_replicas_ready": sum(_ready(row) for row in targets),
        },
    )


def _expected(target: Mapping[str, Any]) -> int:
    """A first plan may take hours to be built, and a paused engine is left with the pods that it has."""
    due = target.get("plan") and target.get("reason") != Reason.PAUSED
    return int(target.get("replicas", 0)) if due else 0


def _ready(target: Mapping[str, Any]) -> int:
    return int(target.get("readyReplicas", 0)) + int((target.get("canary") or {}).get("ready", 0))


OBJECTS = Objects()
REGISTRY.register(OBJECTS)
