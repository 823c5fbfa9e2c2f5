"""Fixtures of the cluster tests: one real control plane and one node agent for the whole run, a namespace a test.

Where the control plane's programs are absent the tests are skipped with one loud line, and fail where CI is set:
CI must never pass because it tested nothing.
"""

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import boto3
import pytest

# tests/ has no packages on purpose; this makes `controlplane` importable here and in the node agent alike.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from controlplane import binaries
from controlplane.cluster import ControlPlane, restricted_namespace
from controlplane.nodes import Node, NodeAgent, gpu_node
from controlplane.service_proxy import ServiceProxy
from moto.server import ThreadedMotoServer

# The limits in the tests are of a quiet machine. A slow or busy one, or one that stops for a while, gets so many times
# as long: only what fails waits for a limit.
SLOWEST = 6
LONGEST = 1200  # seconds for a whole test
CRDS = Path(__file__).resolve().parents[2] / "crds"
S3_KEY, S3_SECRET = "test-key", "test-secret"


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `-n … --dist loadgroup` the tests of one control plane go to one worker; the campaign has its own.

    Their limit is longer than that of others, unless they say it themselves.
    """
    for item in items:
        if item.get_closest_marker("cluster"):
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(LONGEST))
            item.add_marker(pytest.mark.xdist_group("campaign" if "campaign" in item.path.parts else "cluster"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failed test's report ends with what its Pods wrote and the tails of the control plane's logs."""
    report = yield
    # At teardown the cluster itself may be gone already.
    if report.failed and report.when != "teardown" and (around := getattr(item, "funcargs", None)) is not None:
        if agent := around.get("node_agent"):
            report.sections.append(("logs of the Pods", agent.all_logs(around.get("namespace", "*"))))
            report.sections.append(("node agent", agent.agent_log()))
        if cluster := around.get("control_plane"):
            report.sections.append(("control plane", cluster.logs()))
    return report


def programs_or_outcome(config: pytest.Config) -> dict[str, Path]:
    """The control plane's programs; where there are none this fails (CI) or skips, and says so past all capturing."""
    try:
        return binaries.find()
    except binaries.ControlPlaneMissing as missing:
        why = str(missing)
    if binaries.must_be_there():
        pytest.fail(f"CI must not skip the cluster tests: {why}", pytrace=False)
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        sys.stderr.write(f"\n*** THE CLUSTER TESTS ARE SKIPPED: {why} ***\n")
    pytest.skip(why)


@pytest.fixture(scope="session")
def programs(request: pytest.FixtureRequest) -> dict[str, Path]:
    """The control plane's programs."""
    return programs_or_outcome(request.config)


@pytest.fixture(scope="session")
def control_plane(programs: dict[str, Path]) -> Iterator[ControlPlane]:
    """The real control plane with our CRDs; see controlplane/cluster.py for its methods."""
    # There before any test, so that garbage collection knows our kinds from the start (see controlplane/README.md).
    with ControlPlane(programs=programs, crds=sorted(CRDS.glob("*.yaml"))) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def node_agent(control_plane: ControlPlane) -> Iterator[NodeAgent]:
    """Two nodes: `cpu-0`, and `gpu-0` with four H200."""
    nodes = [
        Node(name="cpu-0"),
        gpu_node("gpu-0", product="NVIDIA-H200", compute="9.0", memory_mib=143771, count=4),
    ]
    folder = control_plane.folder / "nodes"
    with NodeAgent(kubeconfig=control_plane.kubeconfig, nodes=nodes, folder=folder) as agent:
        yield agent


@pytest.fixture(scope="session")
def new_namespace(control_plane: ControlPlane) -> Callable[[], AbstractContextManager[str]]:
    """Makes a fresh namespace that enforces the restricted Pod Security Standard, deleted (not awaited) afterwards."""

    @contextmanager
    def made() -> Iterator[str]:
        name = f"test-{secrets.token_hex(4)}"
        control_plane.apply(restricted_namespace(name))
        # A Pod is refused until the namespace has its default service account.
        wait_until(lambda: control_plane.get("serviceaccount", "default", name), 30)
        yield name
        control_plane.kubectl("delete", "namespace", name, "--wait=false")

    return made


@pytest.fixture
def namespace(new_namespace: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A fresh namespace."""
    with new_namespace() as name:
        yield name


class RunsProgram(Protocol):
    def __call__(self, *arguments: str, stdin: str | None = None) -> str: ...


@pytest.fixture
def kubectl(control_plane: ControlPlane) -> RunsProgram:
    """kubectl(*arguments, stdin=None) as administrator: its standard output; a failure raises CalledProcessError."""
    return control_plane.kubectl


@pytest.fixture
def helm(control_plane: ControlPlane) -> RunsProgram:
    """helm(*arguments, stdin=None) as administrator: its standard output; a failure raises CalledProcessError."""
    return control_plane.helm


@pytest.fixture
def service_proxy(control_plane: ControlPlane) -> Callable[..., ServiceProxy]:
    """service_proxy(namespace, service, port_name=None): a context manager with `url` and `port`."""

    def proxy(namespace: str, service: str, port_name: str | None = None) -> ServiceProxy:
        kubeconfig = control_plane.kubeconfig
        return ServiceProxy(kubeconfig=kubeconfig, namespace=namespace, service=service, port_name=port_name)

    return proxy


class ObjectStore:
    """An S3 server of this machine, for the test and for Pods alike."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.environment = {"AWS_ACCESS_KEY_ID": S3_KEY, "AWS_SECRET_ACCESS_KEY": S3_SECRET, "AWS_REGION": "us-east-1"}

    def client(self) -> Any:
        """A boto3 S3 client; close it."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=S3_KEY,
            aws_secret_access_key=S3_SECRET,
        )

    def create_bucket(self, prefix: str = "bucket") -> str:
        """A new, empty bucket; returns its name."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        client = self.client()
        try:
            client.create_bucket(Bucket=name)
        finally:
            client.close()
        return name


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """moto's S3 over HTTP. Every test makes buckets of its own."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        os.environ.pop(name, None)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield ObjectStore(f"http://{host}:{port}")
    finally:
        server.stop()


def wait_until(condition: Callable[[], Any], timeout: float = 20.0, *, every: float = 0.1) -> Any:
    """The first truthy result of `condition`; fails the test when there is none within SLOWEST times `timeout` seconds.

    An AssertionError of the condition counts as "not yet", and the last one is shown.
    """
    deadline = time.monotonic() + timeout * SLOWEST
    while True:
        last: object
        try:
            if last := condition():
                return last
        except AssertionError as not_yet:
            last = not_yet
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout * SLOWEST:g} s; the condition's last result was: {last!r}")
        time.sleep(every)


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """eventually(condition, timeout=20): the condition's first truthy result."""
    return wait_until
