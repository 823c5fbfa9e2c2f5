"""An operator of one namespace, with Roles alone and signed plans: it needs nothing of the cluster but its kinds.

The operator of the whole cluster rests meanwhile, or both would serve the namespace.
"""

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from collector import Collector, collecting
from controlplane.cluster import ControlPlane
from controlplane.nodes import NodeAgent
from engines.conftest import CHART, RBAC_REFUSAL, RESYNC_SECONDS
from engines.engine_case import EngineCase, retrained

pytestmark = pytest.mark.cluster

RELEASE = "tenant-enginewright"
SIGNING = {"policy": "require", "secret": "plan-signing", "trustedKeys": "plan-keys"}


@pytest.fixture(scope="module")
def resting(operator: str, control_plane: ControlPlane) -> Iterator[None]:
    """The cluster's own operator has no pod while the block runs."""

    def scale(replicas: int) -> None:
        control_plane.kubectl("scale", "deployment/enginewright", f"--replicas={replicas}", "--namespace", operator)

    scale(0)
    control_plane.kubectl("wait", "--for=delete", "pod", "--all", "--namespace", operator, "--timeout=300s")
    yield
    scale(1)
    control_plane.kubectl("rollout", "status", "deployment/enginewright", "--namespace", operator, "--timeout=300s")


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Where the operator of the namespace, its builds and its serving pods send their traces."""
    with collecting() as running:
        yield running


@pytest.fixture
def tenant(
    resting: None,
    engine: EngineCase,
    control_plane: ControlPlane,
    node_agent: NodeAgent,
    namespace: str,
    collector: Collector,
) -> Iterator[EngineCase]:
    """An engine in the namespace of an operator that serves this one alone; not yet applied."""
    signing = [f"--set=signing.{name}={value}" for name, value in SIGNING.items()]
    control_plane.helm(
        "install", RELEASE, str(CHART), "--namespace", namespace, "--skip-crds", "--wait", "--timeout=300s",
        "--set", f"watchNamespaces={{{namespace}}}", "--set", "rbac.clusterReader=false",
        "--set", "networkPolicy.enabled=true", "--set", f"tracing.endpoint={collector.url}",
        "--set", f"operator.resyncSeconds={RESYNC_SECONDS}", *signing,
    )  # fmt: skip
    yield engine
    logs = node_agent.all_logs(namespace, 1_000_000)
    control_plane.kubectl("delete", "ie", "--all", "--namespace", namespace, "--timeout=300s")
    control_plane.helm("uninstall", RELEASE, "--namespace", namespace)
    assert re.findall(RBAC_REFUSAL, logs) == [], "the chart's Role lacks a right"


@pytest.fixture
def give_keys(tenant: EngineCase, key_pair: Callable[[str], tuple[Path, Path]]) -> Callable[..., str]:
    """give_keys(signing, *trusted): the Secret and the ConfigMap with new or known keys of these names."""
    known: dict[str, tuple[Path, Path]] = {}

    def give(signing: str, *trusted: str) -> str:
        for name in (signing, *trusted):
            if name not in known:
                known[name] = key_pair(name)
        private = known[signing][0].read_bytes()
        secret = {"metadata": {"name": "plan-signing"}, "data": {"signing.key": base64.b64encode(private).decode()}}
        keys = {
            "metadata": {"name": "plan-keys"},
            "data": {f"{name}.pub": known[name][1].read_text() for name in trusted},
        }
        tenant.cluster.apply({"apiVersion": "v1", "kind": "Secret"} | secret, tenant.namespace)
        tenant.cluster.apply({"apiVersion": "v1", "kind": "ConfigMap"} | keys, tenant.namespace)
        return private.decode().splitlines()[1]

    return give


def test_an_operator_with_roles_alone_builds_signs_and_serves(
    tenant: EngineCase, give_keys: Callable[..., str], node_agent: NodeAgent, eventually: Callable[..., Any]
) -> None:
    tenant.apply()
    message = eventually(tenant.stalled, 20)
    assert "The Secret plan-signing, which the operator's signing settings name, is not in the namespace" in message
    assert tenant.objects("job") == []

    secret = give_keys("old", "old")
    first = tenant.becomes_ready()
    roles = tenant.cluster.kubectl("get", "clusterrolebindings", "--output=json")
    assert RELEASE not in roles

    # Rotation: the new key is trusted beside the old one, then signs; the old plan's pods would still start.
    give_keys("new", "old", "new")
    tenant.put_model(retrained())
    second = tenant.becomes_ready(other_than=first)
    assert second != first

    logs = node_agent.all_logs(tenant.namespace, 1_000_000)
    assert secret not in logs
    assert tenant.keys["AWS_SECRET_ACCESS_KEY"] not in logs


def test_a_plan_is_one_trace_from_the_manifest_to_the_pods_that_serve_it(
    tenant: EngineCase, give_keys: Callable[..., str], collector: Collector, eventually: Callable[..., Any]
) -> None:
    give_keys("team", "team")
    manifest = tenant.manifest()
    pipeline = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"  # the trace of whoever applies it
    manifest["metadata"]["annotations"] = {"enginewright.dev/traceparent": pipeline}
    tenant.cluster.apply(manifest, tenant.namespace)
    plan = tenant.becomes_ready()
    (whole,) = eventually(lambda: collector.named("from manifest to served"), 20)
    assert (whole.trace, whole.parent) == tuple(pipeline.split("-")[1:3])
    assert whole.attributes["plan"] == plan
    (load,) = eventually(lambda: collector.named("load"), 20)
    services = {"build": "builder", "build job": "operator", "load": "server", "rollout": "operator"}
    parts = [collector.named(name)[0] for name in services]
    assert {part.name: part.service.removeprefix("enginewright-") for part in parts} == services
    assert {(part.trace, part.parent) for part in parts} == {(whole.trace, whole.id)}
    assert collector.named("Trying tactics")[0].parent == collector.named("build")[0].id
    assert collector.named("replay goldens")[0].parent == load.id
    assert all(whole.start <= part.start <= part.end for part in parts)


def test_a_plan_that_was_tampered_with_is_not_served_and_what_serves_goes_on(
    tenant: EngineCase, give_keys: Callable[..., str], eventually: Callable[..., Any]
) -> None:
    give_keys("team", "team")
    tenant.apply()
    tenant.becomes_ready()
    (key,) = tenant.files()
    body = bytearray(tenant.client.get_object(Bucket=tenant.bucket, Key=key)["Body"].read())
    body[40] ^= 1  # of the manifest's digest, as if another manifest stood there
    tenant.client.put_object(Bucket=tenant.bucket, Key=key, Body=bytes(body))
    tenant.apply(targets=[{"gpuClass": "cpu", "replicas": 2}])

    def told() -> str:
        return tenant.cluster.kubectl(
            "get", "pods", "--namespace", tenant.namespace, "--selector", "app.kubernetes.io/component=runtime",
            "--output=jsonpath={.items[*].status.containerStatuses[*].lastState.terminated.message}",
        )  # fmt: skip

    assert "it, or its signature, was changed" in eventually(told, 40)
    assert tenant.target()["readyReplicas"] == 1
    assert not tenant.ready()
