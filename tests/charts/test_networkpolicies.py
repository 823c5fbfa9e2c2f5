"""NetworkPolicies: each selects its pods and opens what they need; no cluster here enforces one."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from charts.chart import NAMESPACE, Object, render

ON: dict[str, Any] = {"networkPolicy": {"enabled": True}, "watchNamespaces": ["team-a"]}
GOLDEN = Path(__file__).resolve().parents[1] / "operator" / "render" / "golden"


def policies(**more: Any) -> dict[str, Object]:
    """The specs by name."""
    values = ON | {"networkPolicy": ON["networkPolicy"] | more}
    return {each["metadata"]["name"]: each["spec"] for each in render(values).all("NetworkPolicy")}


def ports(rules: list[Object]) -> set[Any]:
    return {port["port"] for rule in rules for port in rule["ports"]}


def test_nothing_is_made_unasked():
    assert render({"watchNamespaces": ["team-a"]}).all("NetworkPolicy") == []


def test_each_policy_closes_both_directions_and_opens_only_named_ports():
    assert set(policies()) == {"ew-enginewright", "ew-enginewright-build", "ew-enginewright-serving"}
    for spec in policies().values():
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert all(rule["ports"] for rule in (*spec["ingress"], *spec["egress"]))


@pytest.mark.parametrize(("name", "golden"), [("build", "build_job"), ("serving", "deployment")])
def test_a_policy_selects_the_pods_that_the_operator_makes(name: str, golden: str):
    labels = yaml.safe_load((GOLDEN / f"{golden}.yaml").read_text())["spec"]["template"]["metadata"]["labels"]
    assert policies()[f"ew-enginewright-{name}"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_the_operators_policy_selects_its_pod_and_lets_it_reach_api_server_names_storage_and_pods_metrics():
    rendered = render(ON)
    pod = rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    spec = policies()["ew-enginewright"]
    assert spec["podSelector"]["matchLabels"].items() <= pod.items()
    assert ports(spec["ingress"]) == {9090}
    assert ports(spec["egress"]) == {53, 443, 6443, "http"}
    (metrics,) = (rule for rule in spec["egress"] if ports([rule]) == {"http"})
    (to,) = metrics["to"]
    assert to["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "runtime"
    assert rendered.one("NetworkPolicy", "ew-enginewright")["metadata"]["namespace"] == NAMESPACE


def test_nobody_reaches_a_build_and_serving_pods_are_reached_where_they_answer():
    assert policies()["ew-enginewright-build"]["ingress"] == []
    template = yaml.safe_load((GOLDEN / "deployment.yaml").read_text())["spec"]["template"]["spec"]
    answers = {port["name"] for port in template["containers"][0]["ports"]}
    assert ports(policies()["ew-enginewright-serving"]["ingress"]) <= answers
    assert ports(policies()["ew-enginewright-serving"]["egress"]) == {53, 443}


def test_clients_and_scrapers_can_be_named():
    team, prometheus = {"podSelector": {}}, {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
    found = policies(clients=[team], scrapers=[prometheus])
    *named, operator = found["ew-enginewright-serving"]["ingress"][0]["from"]
    assert named == [team, prometheus]
    assert operator["podSelector"] == found["ew-enginewright"]["podSelector"], "it judges a canary by its metrics"
    assert found["ew-enginewright"]["ingress"][0]["from"] == [prometheus]
    assert "from" not in policies(scrapers=[prometheus])["ew-enginewright-serving"]["ingress"][0], "anybody may ask"


def test_the_port_of_the_default_storage_is_open():
    values = ON | {"defaultStorage": {"uri": "s3://e", "endpoint": "http://minio:9000"}}
    for each in render(values).all("NetworkPolicy"):
        assert 9000 in ports(each["spec"]["egress"])


def test_networks_are_kept_to_where_they_are_named():
    rules = policies(storage={"cidrs": ["10.1.0.0/16"]})["ew-enginewright-build"]["egress"]
    assert {"ports": [{"protocol": "TCP", "port": 443}], "to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]} in rules


def test_an_operator_of_the_whole_cluster_names_the_namespaces_that_get_policies():
    values = {"networkPolicy": {"enabled": True, "namespaces": ["team-b"]}}
    found = {each["metadata"]["namespace"] for each in render(values).all("NetworkPolicy")}
    assert found == {NAMESPACE, "team-b"}
