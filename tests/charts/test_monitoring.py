"""Alerts and the dashboard ask only for metrics and labels that there are, in expressions that Prometheus parses.

promql-parser is a port of Prometheus' own parser; nothing here evaluates an expression.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from charts.chart import CHART, refusal, render
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from enginewright_operator import metrics
from enginewright_operator.reconcile import plan  # the counters are there as soon as the reconcilers are
from enginewright_runtime.server.metrics import Metrics

ON = {"metrics": {"serviceMonitor": {"enabled": True}, "rules": {"enabled": True}, "dashboard": {"enabled": True}}}
DASHBOARD = json.loads((CHART / "monitoring" / "dashboard.json").read_text())
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
OF_PROMETHEUS = {"namespace"}  # labels that the scrape adds


def rules() -> list[dict[str, Any]]:
    groups = render(ON).one("PrometheusRule")["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> Iterator[tuple[str, str]]:
    """Every expression with where it stands; a dashboard's variables as what Grafana would put there."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"].replace("$namespace", ".*")


def selectors(node: Any) -> list[tuple[str, set[str]]]:
    """The metrics that an expression reads, each with the labels that it is selected by."""
    found: list[tuple[str, set[str]]] = []

    def look(each: Any) -> bool:
        if isinstance(each, promql.VectorSelector):
            found.append((each.name, {matcher.name for matcher in each.matchers.matchers}))
        return True

    promql.walk(node, look)
    return found


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """Every series that the operator or a server exports, with its labels (those of the scrape not among them)."""
    manifest = {
        "spec": {"gpuClass": "cpu"},
        "status": {
            "bytes": 1,
            "finishedAt": "2026-01-01T00:00:00Z",
            "conditions": [{"type": "Ready", "reason": "Built", "status": "True"}],
        },
    }
    assert plan
    objects = metrics.Objects()
    objects.seen("EnginePlan", "n", "p", manifest)
    objects.seen("InferenceEngine", "n", "e", {"status": {"targets": [{"ready": True}]}})
    series: dict[str, set[str]] = {}
    for registry in (REGISTRY, Metrics().registry):
        for collector in set(registry._names_to_collectors.values()):
            for family in collector.collect():
                for name in names(family):
                    series.setdefault(name, set()).update(getattr(collector, "_labelnames", ()))
    for family in text_string_to_metric_families(objects.text()):
        for sample in family.samples:
            series.setdefault(sample.name, set()).update(sample.labels)
    return series


def names(family: Metric) -> list[str]:
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
    return [family.name + ending for ending in endings]


@pytest.mark.parametrize(("where", "expression"), list(queries()) if CHART.exists() else [])
def test_an_expression_parses_and_reads_metrics_and_labels_that_there_are(
    exported: dict[str, set[str]], where: str, expression: str
) -> None:
    found = selectors(promql.parse(expression))
    assert found, where
    for name, labels in found:
        assert name in exported, f"{where}: nothing exports {name}"
        assert labels <= exported[name] | OF_PROMETHEUS, f"{where}: {name} has no label {labels - exported[name]}"


def test_every_alert_says_how_bad_it_is_and_the_page_says_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert f"`{rule['alert']}`" in PAGE, f"docs/operations.md does not tell of {rule['alert']}"


def test_annotations_name_labels_that_the_expression_keeps() -> None:
    for rule in rules():
        used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        grouped = re.search(r"by \(([\w, ]+)\)", rule["expr"])
        kept = set(grouped[1].replace(" ", "").split(",")) if grouped else {"kind", "namespace", "name", "reason"}
        assert used <= kept, rule["alert"]


def test_every_metric_of_ours_is_named_by_convention() -> None:
    ours = [f for c in set(REGISTRY._names_to_collectors.values()) for f in c.collect() if f.name.startswith("engine")]
    assert ours
    for family in ours:
        assert not re.search(r"_(milliseconds|ms|minutes|kilobytes|total)$", family.name), family.name
        if family.type == "histogram":
            assert family.name.endswith("_duration_seconds")


def test_monitors_find_the_operator_and_the_serving_pods() -> None:
    rendered = render(ON)
    monitor, service = rendered.one("ServiceMonitor")["spec"], rendered.one("Service")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert monitor["endpoints"][0]["honorLabels"] is True
    golden = CHART.parents[1] / "tests" / "operator" / "render" / "golden" / "deployment.yaml"
    template = yaml.safe_load(golden.read_text())["spec"]["template"]
    pods = rendered.one("PodMonitor")["spec"]
    assert pods["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    ports = [port["name"] for port in template["spec"]["containers"][0]["ports"]]
    assert pods["podMetricsEndpoints"][0]["port"] in ports


def test_monitors_of_a_team_look_into_its_namespaces_alone() -> None:
    rendered = render(ON | {"watchNamespaces": ["team-a"]})
    assert rendered.one("PodMonitor")["spec"]["namespaceSelector"] == {"matchNames": ["team-a"]}


def test_nothing_of_it_is_made_unasked_and_a_monitor_without_its_service_is_refused() -> None:
    kinds = {each["kind"] for each in render().objects}
    assert kinds.isdisjoint({"ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap"})
    values = {"metrics": {"service": {"enabled": False}, "serviceMonitor": {"enabled": True}}}
    assert "metrics.service.enabled" in refusal(values)


def test_the_dashboard_in_the_cluster_is_the_file() -> None:
    made = render(ON).one("ConfigMap")
    assert json.loads(made["data"]["enginewright.json"]) == DASHBOARD
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    panels = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(panels) == len(set(panels))
