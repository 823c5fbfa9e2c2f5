"""The operator as a person installs it, by the chart, and an engine to try on it."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from controlplane.cluster import ControlPlane, restricted_namespace
from controlplane.nodes import NodeAgent
from controlplane.pod_proxy import PodProxy
from engines.engine_case import EngineCase

CHART = Path(__file__).resolve().parents[3] / "charts" / "enginewright"
SYSTEM = "enginewright-system"
RESYNC_SECONDS = 2
LEASE_SECONDS = 6  # shorter ones run out on a busy machine
DRAIN_SECONDS = 10  # longer than a busy machine may take to tell everybody that a pod is no endpoint any more
RBAC_REFUSAL = r"is forbidden: User [^\n]{0,200}"  # RBAC's own words, which a quota's refusal does not have


@pytest.fixture(scope="session")
def pod_proxy() -> Iterator[str]:
    """Where the operator reaches pods at the addresses that they report."""
    with PodProxy() as proxy:
        yield proxy.url


@pytest.fixture(scope="session")
def operator(control_plane: ControlPlane, node_agent: NodeAgent, pod_proxy: str, object_store: Any) -> Iterator[str]:
    """The operator, installed by the chart with exactly the chart's rights; the value is its namespace."""
    control_plane.apply(restricted_namespace(SYSTEM))
    control_plane.helm(
        "install", "enginewright", str(CHART), "--namespace", SYSTEM,
        "--wait", "--timeout=300s",
        "--set", f"operator.resyncSeconds={RESYNC_SECONDS}", "--set", f"operator.leaseSeconds={LEASE_SECONDS}",
        "--set", "operator.collectAfterSeconds=0", "--set", f"serving.drainDelaySeconds={DRAIN_SECONDS}",
        "--set", f"operator.scrapeProxy={pod_proxy}",
    )  # fmt: skip
    yield SYSTEM
    logs = node_agent.all_logs(SYSTEM, 1_000_000)
    assert re.findall(RBAC_REFUSAL, logs) == [], "the chart's Role lacks a right"
    assert object_store.environment["AWS_SECRET_ACCESS_KEY"] not in node_agent.all_logs("*", 1_000_000)
    assert "not watched" not in logs, (
        "the chart's ClusterRole lacks a right that the operator asks for before it uses it"
    )


@contextmanager
def digits(control_plane: ControlPlane, namespace: str, object_store: Any) -> Iterator[EngineCase]:
    """The digits example, its files in a new bucket; not yet applied."""
    client = object_store.client()
    case = EngineCase(
        cluster=control_plane,
        namespace=namespace,
        bucket=object_store.create_bucket(),
        endpoint=object_store.endpoint,
        client=client,
        keys={name: value for name, value in object_store.environment.items() if name != "AWS_REGION"},
    )
    yield case.prepare()
    # What the operator does at deletion needs the Secret, which goes with the namespace: so the engine goes first.
    control_plane.kubectl("delete", "ie", "--all", "--namespace", namespace, "--wait=false")
    client.close()


@pytest.fixture
def engine(operator: str, control_plane: ControlPlane, namespace: str, object_store: Any) -> Iterator[EngineCase]:
    """An engine of the test's own; not yet applied."""
    with digits(control_plane, namespace, object_store) as case:
        yield case


@pytest.fixture(scope="session")
def serving(operator: str, control_plane: ControlPlane, new_namespace: Any, object_store: Any) -> Iterator[EngineCase]:
    """An engine that serves, for every test that leaves it as it found it."""
    with new_namespace() as namespace, digits(control_plane, namespace, object_store) as case:
        case.apply()
        case.becomes_ready()
        yield case
