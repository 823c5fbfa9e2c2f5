"""GPUs that change below their engines: products of one class, drivers; what is said, what is built, what stays."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from campaign.replicas import Replicas

pytestmark = pytest.mark.cluster

API = "enginewright.dev/v1alpha1"
PRODUCTS = {"stub-0": "A100-80GB-PCIe", "stub-1": "A100-SXM4-40GB"}


@pytest.fixture
def gpus(replicas: Replicas) -> Iterator[Callable[[str, int], None]]:
    """Nodes with a GPU each, of two products; the value changes how many a node has. Afterwards they have none."""

    def has(node: str, count: int) -> None:
        amounts = {"nvidia.com/gpu": str(count) if count else None}
        patch = json.dumps({"status": {"capacity": amounts, "allocatable": amounts}})
        replicas.plane.kubectl("patch", "node", node, "--subresource=status", "--type=merge", f"--patch={patch}")

    for node, product in PRODUCTS.items():
        replicas.plane.kubectl("label", "node", node, f"nvidia.com/gpu.product=NVIDIA-{product}")
        has(node, 4)
    yield has
    for node in PRODUCTS:
        replicas.plane.kubectl("uncordon", node)
        replicas.plane.kubectl("label", "node", node, "nvidia.com/gpu.product-", "nvidia.com/cuda.driver.major-")
        has(node, 0)


def test_a_plan_is_for_one_product_of_its_class_until_no_node_takes_pods_for_it(
    replicas: Replicas, gpus: Callable[[str, int], None], eventually: Callable[..., Any]
) -> None:
    name, plane = replicas.namespace, replicas.plane
    listed = [f"NVIDIA-{product}" for product in ("A30", *reversed(PRODUCTS.values()))]
    spec = {"kind": "cuda", "productLabels": listed}
    plane.apply({"apiVersion": API, "kind": "GPUClass", "metadata": {"name": name}, "spec": spec})
    replicas.start(RESYNC_SECONDS="2")
    replicas.apply("engine", gpu_class=name)
    eventually(lambda: replicas.ready("engine"), 60)

    first = row(replicas)
    assert first["product"] == "A100-SXM4-40GB"
    assert "A100-80GB-PCIe (4), A100-SXM4-40GB (4), its plans are for A100-SXM4-40GB" in first["message"]
    assert nodes_of_pods(replicas) == {"stub-1"}

    gpus("stub-0", 8)
    eventually(lambda: "A100-80GB-PCIe (8)" in row(replicas)["message"], 30)
    assert row(replicas)["desiredPlan"] == first["plan"], "more GPUs of another product rebuilt it"

    plane.kubectl("cordon", "stub-1")
    moved = eventually(
        lambda: replicas.ready("engine") and row(replicas)["plan"] != first["plan"] and row(replicas), 60
    )
    assert moved["product"] == "A100-80GB-PCIe"
    why = plane.get("engineplan", moved["plan"], name)["spec"]["why"]
    assert "the target's product (was A100-SXM4-40GB, is A100-80GB-PCIe)" in why
    eventually(lambda: nodes_of_pods(replicas) == {"stub-0"}, 30)

    plane.kubectl("uncordon", "stub-1")
    eventually(lambda: "A100-SXM4-40GB (4)" in row(replicas)["message"], 30)
    assert row(replicas)["desiredPlan"] == moved["plan"], "it went back to where it was driven from"


def test_a_newer_driver_is_said_and_left_alone_and_an_older_one_is_built_for(
    replicas: Replicas, gpus: Callable[[str, int], None], eventually: Callable[..., Any]
) -> None:
    name, plane = replicas.namespace, replicas.plane

    def driver(branch: str) -> None:
        plane.kubectl("label", "node", "stub-1", "--overwrite", f"nvidia.com/cuda.driver.major={branch}")

    driver("580")
    spec = {"kind": "cuda", "product": "A100-SXM4-40GB"}
    plane.apply({"apiVersion": API, "kind": "GPUClass", "metadata": {"name": name}, "spec": spec})
    replicas.start(RESYNC_SECONDS="2")
    replicas.apply("engine", gpu_class=name)
    eventually(lambda: replicas.ready("engine"), 60)
    first = row(replicas)["plan"]
    eventually(lambda: replicas.condition("engine", "Stale", "False"), 20)

    driver("590")
    told = eventually(lambda: replicas.condition("engine", "Stale", "True"), 30)
    assert told["reason"] == "RebuildHeld"
    assert "the target's driver (was 580, is 590)" in told["message"]
    assert replicas.ready("engine")
    assert row(replicas)["desiredPlan"] == first

    driver("570")
    second = eventually(lambda: replicas.ready("engine") and row(replicas)["plan"] != first and row(replicas), 60)
    eventually(lambda: replicas.condition("engine", "Stale", "False"), 20)
    job = json.dumps(plane.get("job", second["plan"], name)["spec"]["template"])
    assert '"key": "nvidia.com/cuda.driver.major", "operator": "In", "values": ["570"]' in job
    template = json.dumps(plane.get("deployment", f"engine-{name}", name)["spec"]["template"])
    assert '"key": "nvidia.com/cuda.driver.major", "operator": "Gt", "values": ["569"]' in template

    for process in replicas.processes:
        process.kill()
    replicas.start(RESYNC_SECONDS="2", BUILDER_IMAGE="enginewright/builder@sha256:abc")
    told = eventually(lambda: replicas.condition("engine", "Stale", "True"), 60)
    assert "the builder's image (was none, is sha256:abc)" in told["message"]


def test_a_pool_that_is_partitioned_anew_is_said_and_built_for_as_soon_as_its_class_follows(
    replicas: Replicas, gpus: Callable[[str, int], None], eventually: Callable[..., Any]
) -> None:
    name, plane = replicas.namespace, replicas.plane

    def partitioned(profile: str) -> str:
        label = f"NVIDIA-H200-MIG-{profile}"  # the strategy single
        plane.kubectl("label", "node", "stub-0", "--overwrite", f"nvidia.com/gpu.product={label}")
        return label

    def wanted(profile: str) -> None:
        spec = {"kind": "cuda", "product": "H200", "migProfile": profile}
        plane.apply({"apiVersion": API, "kind": "GPUClass", "metadata": {"name": name}, "spec": spec})

    partitioned("1g.18gb")
    wanted("1g.18gb")
    replicas.start(RESYNC_SECONDS="2")
    replicas.apply("engine", gpu_class=name)
    eventually(lambda: replicas.ready("engine"), 60)
    first = row(replicas)["plan"]

    label = partitioned("2g.35gb")
    told = eventually(lambda: replicas.condition("engine", "GPUAvailable", "False"), 30)
    assert f"{label} (1 node)" in told["message"]
    assert replicas.ready("engine"), "its pod is there"

    wanted("2g.35gb")
    second = eventually(lambda: replicas.ready("engine") and row(replicas)["plan"] != first and row(replicas), 60)
    why = plane.get("engineplan", second["plan"], name)["spec"]["why"]
    assert "the target's mig profile (was 1g.18gb, is 2g.35gb)" in why
    assert replicas.condition("engine", "GPUAvailable", "True")


def test_a_plan_that_waits_for_a_gpu_names_the_products_that_there_are(
    replicas: Replicas, gpus: Callable[[str, int], None], eventually: Callable[..., Any]
) -> None:
    name, plane = replicas.namespace, replicas.plane
    spec = {"kind": "cuda", "product": "L4"}
    plane.apply({"apiVersion": API, "kind": "GPUClass", "metadata": {"name": name}, "spec": spec})
    replicas.start(RESYNC_SECONDS="2")
    replicas.apply("engine", gpu_class=name)
    plan = eventually(lambda: (replicas.status("engine").get("targets") or [{}])[0].get("desiredPlan"), 60)

    def available() -> dict[str, Any]:
        status = (plane.get("engineplan", plan, name) or {}).get("status") or {}
        return next((row for row in status.get("conditions", ()) if row["type"] == "GPUAvailable"), {})

    said = eventually(available, 30)
    assert (said["status"], said["reason"]) == ("False", "NoMatchingNode")
    assert "NVIDIA-A100-80GB-PCIe (1 node), NVIDIA-A100-SXM4-40GB (1 node)" in said["message"]


def row(replicas: Replicas) -> dict[str, Any]:
    """The status of the engine's one target."""
    found: dict[str, Any] = replicas.status("engine")["targets"][0]
    return found


def nodes_of_pods(replicas: Replicas) -> set[str]:
    """The nodes of all pods of the namespace that serve."""
    listed = json.loads(
        replicas.plane.kubectl(
            "get", "pods", "--namespace", replicas.namespace, "--selector=enginewright.dev/engine", "--output=json"
        )
    )
    return {pod["spec"]["nodeName"] for pod in listed["items"] if not pod["metadata"].get("deletionTimestamp")}
