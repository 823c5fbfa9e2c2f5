"""What a scrape of the real operator tells after a real build."""

import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from engines.engine_case import EngineCase
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.cluster


def test_a_scrape_tells_of_the_build_its_gates_and_the_engines_conditions(
    serving: EngineCase, operator: str, service_proxy: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    plan = serving.target()["plan"]
    with service_proxy(operator, "enginewright-metrics") as proxy:

        def scraped() -> dict[str, list[tuple[dict[str, str], float]]]:
            with urllib.request.urlopen(f"http://127.0.0.1:{proxy.port}/metrics", timeout=60) as answer:
                text = answer.read().decode()
            found: dict[str, list[tuple[dict[str, str], float]]] = {}
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    found.setdefault(sample.name, []).append((sample.labels, sample.value))
            return found

        def ready() -> list[float]:
            wanted = {"namespace": serving.namespace, "name": serving.name, "condition": "Ready", "reason": "Serving"}
            rows = scraped().get("enginewright_condition", [])
            return [value for labels, value in rows if wanted.items() <= labels.items()]

        assert eventually(ready, 10) == [1.0]
        found = scraped()
    builds = {labels["outcome"]: value for labels, value in found["enginewright_builds_total"]}
    assert builds["DONE"] >= 1
    gates = {(labels["gate"], labels["result"]) for labels, _ in found["enginewright_gate_verdicts_total"]}
    assert {("accuracy", "passed"), ("latency", "passed")} <= gates
    ages = [value for labels, value in found["enginewright_plan_finished_timestamp_seconds"] if labels["name"] == plan]
    assert len(ages) == 1
    assert [value for _, value in found["enginewright_operator_leading"]] == [1.0]
