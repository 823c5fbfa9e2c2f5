"""The operator's pod: what it is told, where it may run, and what it may not do."""

import json
from typing import Any

import pytest
from charts.chart import NAMESPACE, Object, Render, refusal, render

from enginewright_operator.api import Storage
from enginewright_operator.settings import PREFIX, Settings, read

DIGEST = "sha256:" + "ab" * 32


def pod(rendered: Render) -> Object:
    return rendered.one("Deployment")["spec"]["template"]["spec"]


def pods(rendered: Render) -> list[Object]:
    """The pod of every workload that the chart may ever render."""
    kinds = ("Deployment", "StatefulSet", "DaemonSet", "Job")
    return [each["spec"]["template"]["spec"] for kind in kinds for each in rendered.all(kind)]


def test_every_pod_meets_the_restricted_pod_security_standard():
    found = pods(render())
    assert found
    for each in found:
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(each)
        assert each["securityContext"]["runAsNonRoot"] is True
        assert each["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert all(
            set(volume) - {"name"} <= {"emptyDir", "configMap", "secret", "projected"} for volume in each["volumes"]
        )
        for container in (*each["containers"], *each.get("initContainers", ())):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert not any("hostPort" in port for port in container["ports"])


def test_the_pod_starts_the_operator_and_gets_no_variables_of_services():
    assert pod(render())["containers"][0]["command"] == ["enginewright-operator"]
    assert pod(render())["enableServiceLinks"] is False


def test_only_the_operators_pod_gets_a_token():
    rendered = render()
    assert rendered.one("ServiceAccount")["automountServiceAccountToken"] is False
    assert pod(rendered)["automountServiceAccountToken"] is True
    assert pod(rendered)["serviceAccountName"] == rendered.one("ServiceAccount")["metadata"]["name"]


def test_an_existing_service_account_must_be_named():
    assert "serviceAccount.name is empty" in refusal({"serviceAccount": {"create": False}})
    rendered = render({"serviceAccount": {"create": False, "name": "mine"}})
    assert rendered.all("ServiceAccount") == []
    assert pod(rendered)["serviceAccountName"] == "mine"


def test_images_carry_the_charts_version_by_default():
    rendered = render()
    environment = rendered.environment()
    version = rendered.one("Deployment")["metadata"]["labels"]["app.kubernetes.io/version"]
    assert pod(rendered)["containers"][0]["image"] == f"enginewright/operator:{version}"
    assert environment["ENGINEWRIGHT_OPERATOR_BUILDER_IMAGE"] == f"enginewright/builder:{version}"
    assert environment["ENGINEWRIGHT_OPERATOR_RUNTIME_IMAGE"] == f"enginewright/runtime:{version}"


def test_a_digest_wins_over_the_tag():
    rendered = render(
        {"images": {"registry": "registry.example.com/team/", "tag": "1.2", "builder": {"digest": DIGEST}}}
    )
    assert pod(rendered)["containers"][0]["image"] == "registry.example.com/team/enginewright/operator:1.2"
    wanted = f"registry.example.com/team/enginewright/builder@{DIGEST}"
    assert rendered.environment()["ENGINEWRIGHT_OPERATOR_BUILDER_IMAGE"] == wanted


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nodeSelector", {"pool": "system"}),
        ("tolerations", [{"key": "system", "operator": "Exists"}]),
        ("affinity", {"nodeAffinity": {}}),
        ("topologySpreadConstraints", [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]),
        ("priorityClassName", "system-cluster-critical"),
    ],
)
def test_where_the_operator_runs_is_passed_through(field: str, value: Any):
    assert pod(render({"operator": {field: value}}))[field] == value
    assert field not in pod(render())


def test_the_probes_and_the_metrics_service_ask_ports_that_the_container_has():
    rendered = render({"metrics": {"port": 9123}, "operator": {"healthPort": 8123}})
    container = pod(rendered)["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"metrics": 9123, "health": 8123}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    service = rendered.one("Service")["spec"]
    assert service["ports"][0]["targetPort"] == "metrics"
    assert service["selector"].items() <= rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"].items()


def test_the_metrics_service_can_be_left_out():
    assert render({"metrics": {"service": {"enabled": False}}}).all("Service") == []


def test_the_default_storage_is_told_to_the_operator_without_what_is_empty():
    storage = {"uri": "s3://engines", "endpoint": "http://minio:9000", "pathStyle": True, "credentialsSecret": "minio"}
    told = json.loads(render({"defaultStorage": storage}).environment()["ENGINEWRIGHT_OPERATOR_DEFAULT_STORAGE"])
    wanted = {"uri": "s3://engines", "endpoint": "http://minio:9000", "path_style": True, "credentials_secret": "minio"}
    assert told == wanted
    assert "ENGINEWRIGHT_OPERATOR_DEFAULT_STORAGE" not in render().environment()


def test_the_operator_reads_every_variable_that_the_chart_sets(monkeypatch: pytest.MonkeyPatch):
    values = {
        "watchNamespaces": ["team-a"],
        "defaultStorage": {"uri": "s3://engines", "pathStyle": True, "region": "eu"},
        "operator": {"healthPort": 8123, "resyncSeconds": 60, "leaseSeconds": 2},
        "serving": {"drainDelaySeconds": 15},
    }
    told = render(values).environment()
    assert {name.removeprefix(PREFIX).lower() for name in told} <= set(Settings.model_fields)
    for name, value in told.items():
        monkeypatch.setenv(name, value if isinstance(value, str) else NAMESPACE)
    settings = read()
    assert settings.watch_namespaces == ("team-a",)
    assert settings.default_storage == Storage(uri="s3://engines", path_style=True, region="eu")
    assert (settings.health_port, settings.resync_seconds, settings.lease_seconds) == (8123, 60, 2)
    assert settings.drain_delay == 15
    assert settings.operator_namespace == NAMESPACE


def test_the_charts_defaults_are_the_programs():
    told, fields = render().environment(), Settings.model_fields
    for name in (
        "builder_image",
        "runtime_image",
        "metrics_port",
        "health_port",
        "build_cpu",
        "build_memory",
        "build_scratch",
        "build_retries",
        "serving_cache",
    ):
        assert told[PREFIX + name.upper()] == str(fields[name].default), name
    assert float(told[f"{PREFIX}DRAIN_DELAY"]) == fields["drain_delay"].default


def test_a_default_storage_without_a_uri_is_refused():
    assert "set defaultStorage.uri" in refusal({"defaultStorage": {"region": "eu-central-1"}})


def test_the_namespaces_to_serve_are_told_to_the_operator():
    told = render({"watchNamespaces": ["team-a", "team-b"]}).environment()["ENGINEWRIGHT_OPERATOR_WATCH_NAMESPACES"]
    assert json.loads(told) == ["team-a", "team-b"]
    assert "ENGINEWRIGHT_OPERATOR_WATCH_NAMESPACES" not in render().environment()


def test_pods_metrics_are_read_through_a_proxy_only_where_one_is_named():
    assert f"{PREFIX}SCRAPE_PROXY" not in render().environment()
    named = render({"operator": {"scrapeProxy": "http://proxy:3128"}})
    assert named.environment()[f"{PREFIX}SCRAPE_PROXY"] == "http://proxy:3128"
    assert "scrapeProxy" in refusal({"operator": {"scrapeProxy": "proxy"}})
