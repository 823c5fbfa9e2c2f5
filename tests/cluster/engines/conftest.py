"""The operator as a person installs it, by the chart, and an engine to try on it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from controlplane.cluster import ControlPlane
from controlplane.nodes import NodeAgent
from engines.engine_case import EngineCase

REPOSITORY = Path(__file__).resolve().parents[3]
SYSTEM = "enginewright-system"
RESYNC_SECONDS = 2
LEASE_SECONDS = 3


@pytest.fixture(scope="session")
def operator(control_plane: ControlPlane, node_agent: NodeAgent) -> Iterator[str]:
    """The operator, installed by the chart with exactly the chart's rights; the value is its namespace."""
    control_plane.helm(
        "install", "enginewright", str(REPOSITORY / "charts" / "enginewright"), "--namespace", SYSTEM,
        "--create-namespace", "--wait", "--timeout=60s",
        "--set", f"operator.resyncSeconds={RESYNC_SECONDS}", "--set", f"operator.leaseSeconds={LEASE_SECONDS}",
    )  # fmt: skip
    yield SYSTEM
    assert "forbidden" not in node_agent.all_logs(SYSTEM, 1_000_000).lower(), "the chart's Role lacks a right"


@pytest.fixture
def engine(operator: str, control_plane: ControlPlane, namespace: str, object_store: Any) -> Iterator[EngineCase]:
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
