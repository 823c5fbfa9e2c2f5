"""The chart on a real control plane that has never seen it: first install, upgrades, removal, and the rights in force.

A control plane of its own, because the other cluster tests' one has our CRDs from the start, and the first install
into a cluster that lacks them is what this is about.
"""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from charts import chart
from charts.chart import NAMESPACE, RELEASE
from controlplane import binaries
from controlplane.cluster import ControlPlane, restricted_namespace

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("chart")]

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{RELEASE}-enginewright"
MEMORY_OF_A_CLASS = "gpuClasses.classes.nvidia-t4.memory=%s"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    try:
        programs = binaries.find()
    except binaries.ControlPlaneMissing as missing:
        if binaries.must_be_there():
            pytest.fail(str(missing), pytrace=False)
        chart.say_once(f"THE CHART IS NOT INSTALLED ANYWHERE IN THIS RUN: {missing}")
        pytest.skip(str(missing))
    with ControlPlane(programs=programs) as control_plane:
        control_plane.apply(restricted_namespace(NAMESPACE))
        yield control_plane


@pytest.fixture
def installed(cluster: ControlPlane) -> ControlPlane:
    """The chart with its own values: the first test installs it afresh, the others set it back to this."""
    install(cluster)
    return cluster


def install(cluster: ControlPlane, *values: str) -> None:
    flags = [part for value in values for part in ("--set", value)]
    cluster.helm("upgrade", "--install", RELEASE, str(chart.CHART), "--namespace", NAMESPACE, *flags)


def listed(cluster: ControlPlane, kind: str, *arguments: str) -> list[Any]:
    return list(json.loads(cluster.kubectl("get", kind, "-o", "json", *arguments))["items"])


def class_named(cluster: ControlPlane, name: str) -> Any:
    return json.loads(cluster.kubectl("get", "gpuclasses.enginewright.dev", name, "-o", "json"))


def may(cluster: ControlPlane, *question: str) -> bool:
    answer = cluster.kubectl("auth", "can-i", *question, f"--as={ACCOUNT}", check=False)
    return answer.strip().splitlines()[-1] == "yes"


def test_the_first_install_brings_crds_and_gpu_classes_at_once(installed: ControlPlane):
    names = {each["metadata"]["name"] for each in listed(installed, "gpuclasses.enginewright.dev")}
    assert {"cpu", "nvidia-t4", "nvidia-h200"} <= names
    assert len(listed(installed, "crd")) == 3


def test_an_upgrade_that_changes_nothing_leaves_every_class_as_it_is(installed: ControlPlane):
    before = class_named(installed, "nvidia-t4")
    install(installed)
    assert class_named(installed, "nvidia-t4")["metadata"]["uid"] == before["metadata"]["uid"]


def test_upgrades_change_the_classes_that_the_first_install_made(installed: ControlPlane):
    untouched = class_named(installed, "nvidia-l4")["metadata"]["uid"]
    for memory in ("8Gi", "9Gi"):
        install(installed, MEMORY_OF_A_CLASS % memory)
        assert class_named(installed, "nvidia-t4")["spec"]["memory"] == memory
    assert class_named(installed, "nvidia-l4")["metadata"]["uid"] == untouched


def test_crds_and_classes_outlive_the_release_and_a_new_one_takes_them_over(installed: ControlPlane):
    before = {each["metadata"]["name"]: each["metadata"]["uid"] for each in listed(installed, "crd")}
    kept = class_named(installed, "nvidia-l4")["metadata"]["uid"]
    installed.helm("uninstall", RELEASE, "--namespace", NAMESPACE)
    assert class_named(installed, "nvidia-t4")
    installed.kubectl("delete", "gpuclasses.enginewright.dev", "nvidia-t4")  # what the README says of one that changes
    install(installed, MEMORY_OF_A_CLASS % "10Gi")
    assert {each["metadata"]["name"]: each["metadata"]["uid"] for each in listed(installed, "crd")} == before
    assert class_named(installed, "nvidia-l4")["metadata"]["uid"] == kept
    assert class_named(installed, "nvidia-t4")["spec"]["memory"] == "10Gi"


def test_the_command_in_the_notes_upgrades_crds_that_helm_installed(installed: ControlPlane):
    done = installed.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(chart.CHART / "crds"))
    assert done.count("serverside-applied") == 3
    install(installed)


def test_the_api_server_takes_the_manifest_that_the_notes_show(installed: ControlPlane):
    text = installed.helm("get", "notes", RELEASE, "--namespace", NAMESPACE)
    manifest = textwrap.dedent(text[text.rindex("\n", 0, text.index("apiVersion:")) :].split("\n\n")[0])
    assert "inferenceengine.enginewright.dev/resnet50 created" in installed.kubectl(
        "create", "--dry-run=server", "-f", "-", stdin=manifest
    )


def test_the_operator_may_do_what_a_reconciliation_does_and_no_more(installed: ControlPlane):
    assert may(installed, "patch", "engineplans.enginewright.dev", "-n", "default")
    assert may(installed, "patch", "inferenceengines.enginewright.dev", "--subresource=status", "-n", "default")
    assert may(installed, "get", "secrets", "-n", "default")
    assert may(installed, "update", f"leases/{RELEASE}-enginewright", "-n", NAMESPACE)
    for refused in (
        ("list", "secrets", "-n", "default"),
        ("patch", "inferenceengines.enginewright.dev", "-n", "default"),
        ("create", "pods", "-n", "default"),
        ("update", "leases/another", "-n", NAMESPACE),
        ("update", f"leases/{RELEASE}-enginewright", "-n", "default"),
        ("create", "clusterroles"),
    ):
        assert not may(installed, *refused), refused


def test_a_restricted_namespace_admits_the_operators_pod(installed: ControlPlane):
    selector = ("-n", NAMESPACE, "-l", "app.kubernetes.io/component=operator")
    installed.kubectl("wait", "--for=create", "pod", "--timeout=300s", *selector)
    assert listed(installed, "pods", *selector)
