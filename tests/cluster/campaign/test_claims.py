"""GPUs through claims: the real scheduler allocates what NVIDIA's driver would publish, and nothing else."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from campaign.replicas import Replicas
from controlplane.binaries import KUBERNETES

pytestmark = pytest.mark.cluster

CHART = Path(__file__).resolve().parents[3] / "charts" / "enginewright"
API, DRIVER = "enginewright.dev/v1alpha1", "gpu.nvidia.com"
PRODUCTS = {"stub-0": "NVIDIA A100 80GB PCIe", "stub-1": "NVIDIA H200"}
DEVICE_CLASS = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "DeviceClass",
    "metadata": {"name": DRIVER},
    "spec": {"selectors": [{"cel": {"expression": f"device.driver == '{DRIVER}'"}}]},
}


def published(node: str, product: str) -> dict[str, Any]:
    """What the driver publishes of a node with one GPU, and one device of a type that no plan runs on."""
    gpu = {
        "type": {"string": "gpu"},
        "productName": {"string": product},
        "cudaComputeCapability": {"version": "9.0.0" if "H200" in product else "8.0.0"},
        "driverVersion": {"version": "580.105.8"},
    }
    other = {"type": {"string": "vfio"}, "productName": {"string": product}}
    devices = [
        {"name": "gpu-0", "attributes": gpu, "capacity": {"memory": {"value": "143771Mi"}}},
        {"name": "gpu-vfio-0", "attributes": other},
    ]
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": DRIVER, "nodeName": node, "pool": pool, "devices": devices}
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": node}, "spec": spec}


@pytest.fixture
def devices(replicas: Replicas) -> Iterator[None]:
    """The driver's class and slices, on two nodes of two products."""
    given = [DEVICE_CLASS, *(published(node, product) for node, product in PRODUCTS.items())]
    for each in given:
        replicas.plane.apply(each)
    yield
    for each in given:
        replicas.plane.kubectl("delete", each["kind"], each["metadata"]["name"])


def claiming(name: str, **spec: Any) -> dict[str, Any]:
    made = {"kind": "cuda", "resources": "DynamicResourceAllocation"} | spec
    return {"apiVersion": API, "kind": "GPUClass", "metadata": {"name": name}, "spec": made}


@pytest.mark.usefixtures("devices")
def test_a_plan_is_built_and_served_on_the_device_that_its_claim_names(
    replicas: Replicas, eventually: Callable[..., Any]
) -> None:
    name, plane = replicas.namespace, replicas.plane
    plane.apply(claiming(name, product="H200", computeCapability="9.0", memory="140Gi"))
    replicas.start(RESYNC_SECONDS="2")
    replicas.apply("engine", gpu_class=name)
    eventually(lambda: replicas.ready("engine"), 60)

    (row,) = replicas.status("engine")["targets"]
    job: Any = plane.get("job", row["plan"], name)
    pods = listed(replicas, "pods")
    built = [pod for pod in pods if pod["metadata"].get("ownerReferences", [{}])[0]["kind"] == "Job"]
    assert [pod["spec"]["nodeName"] for pod in pods] == ["stub-1"] * 2
    assert len(built) == 1
    for pod in (job["spec"]["template"], *pods):
        assert pod["spec"]["resourceClaims"][0]["name"] == "gpu"
        assert "nvidia.com/gpu" not in json.dumps(pod["spec"]["containers"][0]["resources"])

    allocated = [
        result
        for claim in listed(replicas, "resourceclaims")
        for result in ((claim.get("status") or {}).get("allocation") or {}).get("devices", {}).get("results", ())
    ]
    assert {(each["pool"], each["device"]) for each in allocated} == {("stub-1", "gpu-0")}
    templates = listed(replicas, "resourceclaimtemplates")
    assert len(templates) == 2, "one for the build's branch of the driver, one for it and newer ones"
    assert {each["metadata"]["ownerReferences"][0]["name"] for each in templates} == {row["plan"]}

    deployment: Any = plane.get("deployment", f"engine-{name}", name)
    (claim,) = deployment["spec"]["template"]["spec"]["resourceClaims"]
    plane.kubectl("delete", "resourceclaimtemplates", "--all", "--namespace", name)
    plane.kubectl("annotate", "ie", "engine", "looked=again", "--namespace", name)
    eventually(lambda: plane.get("resourceclaimtemplate", claim["resourceClaimTemplateName"], name), 20)


@pytest.mark.usefixtures("devices")
def test_where_no_device_fits_the_products_that_are_published_are_named(
    replicas: Replicas, eventually: Callable[..., Any]
) -> None:
    name = replicas.namespace
    replicas.plane.apply(claiming(name, product="L4"))
    replicas.start(RESYNC_SECONDS="2")
    replicas.apply("engine", gpu_class=name)
    told = eventually(lambda: replicas.condition("engine", "GPUAvailable", "False"), 60)
    assert "a device of gpu.nvidia.com productName (NVIDIA-L4, Tesla-L4, L4)" in told["message"]
    assert "NVIDIA-A100-80GB-PCIe (1 node), NVIDIA-H200 (1 node)" in told["message"]
    assert listed(replicas, "jobs") == []


@pytest.mark.usefixtures("devices")
def test_a_device_that_is_published_or_withdrawn_is_noticed_at_once_and_not_by_a_resync(
    replicas: Replicas, eventually: Callable[..., Any]
) -> None:
    name, plane = replicas.namespace, replicas.plane
    plane.apply(claiming(name, computeCapability="9.0"))  # of any product: without one there is no plan that looks on
    plane.kubectl("delete", "resourceslice", "stub-1")
    number = replicas.start(RESYNC_SECONDS="3600")
    replicas.apply("engine", gpu_class=name)
    eventually(lambda: replicas.condition("engine", "GPUAvailable", "False"), 60)
    eventually(lambda: replicas.log(number).count("Resynced") == 2, 30)  # the next one is in an hour

    plane.apply(published("stub-1", PRODUCTS["stub-1"]))
    eventually(lambda: replicas.condition("engine", "GPUAvailable", "True"), 10)
    eventually(lambda: replicas.ready("engine"), 60)
    plane.kubectl("delete", "resourceslice", "stub-1")
    eventually(lambda: replicas.condition("engine", "GPUAvailable", "False"), 10)
    assert replicas.log(number).count("Resynced") == 2
    assert "not watched" not in replicas.log(number)
    plane.apply(published("stub-1", PRODUCTS["stub-1"]))  # as the test found it


@pytest.mark.usefixtures("devices")
def test_an_operator_that_may_not_watch_devices_says_so_once_and_finds_them_by_their_lists(
    replicas: Replicas, eventually: Callable[..., Any]
) -> None:
    name, plane = replicas.namespace, replicas.plane
    templates = [f"--show-only=templates/{each}.yaml" for each in ("rbac", "serviceaccount")]
    release = ["--namespace", name, "--set", f"watchNamespaces={{{name}}}", "--kube-version", KUBERNETES, *templates]
    for each in yaml.safe_load_all(plane.helm("template", "enginewright", str(CHART), *release)):
        for rule in each.get("rules", ()):
            if rule["resources"] == ["resourceslices"]:
                rule["verbs"].remove("watch")  # as in a chart from before
        plane.apply(each)
    plane.apply(claiming(name, product="H200"))
    number = replicas.start(
        kubeconfig=plane.kubeconfig_for("enginewright", name), RESYNC_SECONDS="2", LEASE_NAME="enginewright"
    )
    replicas.apply("engine", gpu_class=name)
    eventually(lambda: replicas.ready("engine"), 60)
    assert replicas.condition("engine", "GPUAvailable", "True")
    log = replicas.log(number)
    assert log.count("ResourceSlices are not watched") == 1
    assert "the operator's ClusterRole lacks watch of resourceslices.resource.k8s.io" in log
    assert "forbidden" not in log


def listed(replicas: Replicas, kind: str) -> list[dict[str, Any]]:
    """All objects of a kind in the namespace."""
    text = replicas.plane.kubectl("get", kind, "--namespace", replicas.namespace, "--output=json")
    found: list[dict[str, Any]] = json.loads(text)["items"]
    return found
