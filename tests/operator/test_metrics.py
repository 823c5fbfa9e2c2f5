"""Gauges of objects come and go with them, and builds are counted by how they ended."""

from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from enginewright_operator import metrics
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.request import BuildResult, Verdict


def condition(reason: str, status: str) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": "Stalled", "reason": reason, "status": status}]}}


def samples(objects: metrics.Objects) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and its labels' values."""
    families = text_string_to_metric_families(objects.text())
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_a_conditions_gauge_has_the_latest_reason_and_no_former_one() -> None:
    objects = metrics.Objects()
    objects.seen("InferenceEngine", "n", "e", condition("Building", "False"))
    objects.seen("InferenceEngine", "n", "e", condition("BuildFailed", "True"))
    found = {key: value for key, value in samples(objects).items() if key[0] == "enginewright_condition"}
    assert found == {("enginewright_condition", "InferenceEngine", "n", "e", "Stalled", "BuildFailed"): 1.0}


def test_a_deleted_object_has_no_gauges() -> None:
    objects = metrics.Objects()
    objects.seen("EnginePlan", "n", "p", condition("Built", "False"))
    objects.seen("EnginePlan", "n", "p", None)
    assert samples(objects) == {}


def test_a_standby_has_none_at_all() -> None:
    objects = metrics.Objects()
    objects.seen("EnginePlan", "n", "p", condition("Built", "False"))
    objects.clear()
    assert samples(objects) == {}


def test_a_plans_age_can_be_told_from_when_it_was_finished() -> None:
    objects = metrics.Objects()
    status = {"finishedAt": "1970-01-01T00:01:40Z", "bytes": 7}
    objects.seen("EnginePlan", "n", "p", {"spec": {"gpuClass": "cpu"}, "status": status})
    assert samples(objects)["enginewright_plan_finished_timestamp_seconds", "n", "p", "cpu"] == 100.0


def test_builds_are_counted_by_outcome_and_class_and_gates_by_verdict() -> None:
    def count(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    verdict = Verdict(gate="latency", passed=False, measured=9.0, limit=7.0, unit="ms")
    result = BuildResult(outcome=Outcome.GATE_FAILED.name, message="too slow", seconds=3.0, gates=(verdict,))
    before = count("enginewright_builds_total", outcome="GATE_FAILED", gpu_class="c")
    failed = count("enginewright_gate_verdicts_total", gate="latency", result="failed")
    metrics.built("c", result)
    assert count("enginewright_builds_total", outcome="GATE_FAILED", gpu_class="c") == before + 1
    assert count("enginewright_gate_verdicts_total", gate="latency", result="failed") == failed + 1
    assert count("enginewright_build_duration_seconds_sum", gpu_class="c") >= 3.0


def test_a_classs_builds_are_counted_from_zero_so_that_prometheus_sees_the_first_failure() -> None:
    metrics.Objects().seen("EnginePlan", "n", "p", {"spec": {"gpuClass": "seen"}})
    for outcome in Outcome:
        labels = {"outcome": outcome.name, "gpu_class": "seen"}
        assert REGISTRY.get_sample_value("enginewright_builds_total", labels) == 0.0


def test_pods_are_expected_of_targets_that_have_served_and_a_canarys_count_as_ready() -> None:
    served = {"plan": "p", "reason": "Canary", "replicas": 4, "readyReplicas": 3, "canary": {"ready": 1}}
    first = {"plan": "", "reason": "Building", "replicas": 8}
    paused = {"plan": "p", "reason": "Paused", "replicas": 16, "readyReplicas": 1}
    objects = metrics.Objects()
    objects.seen("InferenceEngine", "n", "e", {"status": {"targets": [served, first, paused]}})
    found = samples(objects)
    assert found["enginewright_engine_replicas", "n", "e"] == 28.0
    assert found["enginewright_engine_replicas_expected", "n", "e"] == 4.0
    assert found["enginewright_engine_replicas_ready", "n", "e"] == 5.0


def test_what_a_status_says_cannot_break_the_text() -> None:
    objects = metrics.Objects()
    objects.seen("InferenceEngine", "n", "e", condition('a"b\\c\nd', "True"))
    assert samples(objects)["enginewright_condition", "InferenceEngine", "n", "e", "Stalled", 'a"b\\c\nd'] == 1.0


def test_one_scrape_is_told_of_the_operator_and_of_its_objects() -> None:
    metrics.OBJECTS.seen("EnginePlan", "n", "scraped", condition("Built", "False"))
    families = {family.name for family in text_string_to_metric_families(metrics.told().decode())}
    metrics.OBJECTS.clear()
    assert families >= {"enginewright_operator_queue_depth", "enginewright_condition", "enginewright_plan_size_bytes"}
