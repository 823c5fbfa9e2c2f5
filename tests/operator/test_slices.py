"""Devices that NVIDIA's DRA driver publishes: which node has what, and which of them a class takes."""

from typing import Any

import pytest
from operator_objects import gpu_class

from enginewright_operator import choice, gpu, gpu_words, slices

NAME = "NVIDIA H100 80GB HBM3"


def device(name: str = NAME, *, kind: str = "gpu", **more: Any) -> dict[str, Any]:
    """As the driver writes one, in resource.k8s.io/v1."""
    attributes = {
        "type": {"string": kind},
        "productName": {"string": name},
        "cudaComputeCapability": {"version": "9.0.0"},
        "driverVersion": {"version": "580.105.8"},
    }
    return {"name": "gpu-0", "attributes": attributes | more, "capacity": {"memory": {"value": "81559Mi"}}}


def published(*devices: dict[str, Any], node: str = "n", generation: int = 1, driver: str = slices.DRIVER) -> Any:
    pool = {"name": node, "generation": generation, "resourceSliceCount": 1}
    return {"spec": {"driver": driver, "nodeName": node, "pool": pool, "devices": list(devices)}}


def node(*devices: dict[str, Any]) -> gpu.Node:
    return gpu.Node(name="n", labels={}, allocatable={}, devices=slices.by_node([published(*devices)])["n"])


def claiming(**spec: Any) -> Any:
    return gpu_class("c", kind="cuda", resources="DynamicResourceAllocation", **spec)


def test_a_device_is_read_as_the_labels_would_have_it() -> None:
    (found,) = slices.by_node([published(device())])["n"]
    assert found == slices.Device(
        type="gpu", label="NVIDIA-H100-80GB-HBM3", compute_capability="9.0", memory=81559 << 20, driver="580"
    )


def test_attributes_may_bear_their_drivers_name() -> None:
    plain = device()
    named = plain | {"attributes": {f"gpu.nvidia.com/{name}": value for name, value in plain["attributes"].items()}}
    assert slices.by_node([published(named)]) == slices.by_node([published(plain)])


def test_only_the_newest_generation_of_a_pool_counts_and_no_other_driver() -> None:
    old, new = published(device(), device(), generation=1), published(device(), generation=2)
    assert len(slices.by_node([old, new])["n"]) == 1
    assert slices.by_node([published(device(), driver="gpu.example.com")]) == {}


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({"product": "H100"}, True),
        ({"product": "H100-80GB-HBM3", "computeCapability": "9.0", "memory": "79Gi"}, True),
        ({"product": "H100-PCIe"}, False),
        ({"product": "H100", "computeCapability": "8.0"}, False),
        ({"product": "H100", "memory": "80Gi"}, False),
        ({"computeCapability": "9.0"}, True),
        ({"product": "H100", "migProfile": "1g.10gb"}, False),
        ({"product": "H100", "nodeSelector": {"pool": "a"}}, False),
    ],
)
def test_a_class_takes_whole_words_of_attributes(spec: dict[str, Any], fits: bool) -> None:
    assert gpu.matches(claiming(**spec).spec, node(device())) is fits


def test_a_part_of_a_gpu_is_its_profile_and_what_is_no_gpu_is_never_taken() -> None:
    part = claiming(product="H100", migProfile="1g.10gb")
    assert gpu.matches(part.spec, node(device(kind="mig", profile={"string": "1g.10gb"})))
    assert not gpu.matches(part.spec, node(device(kind="mig", profile={"string": "2g.20gb"})))
    assert not gpu.matches(claiming(product="H100").spec, node(device(kind="vfio")))


def test_a_device_plugin_of_the_same_node_is_another_matter() -> None:
    plugin = gpu.Node(name="n", labels={gpu.PRODUCT_LABEL: "NVIDIA-H200"}, allocatable={"nvidia.com/gpu": "1"})
    assert not gpu.matches(claiming(product="H200").spec, plugin)
    assert not gpu.matches(gpu_class("c", kind="cuda", product="H100").spec, node(device()))


def test_product_and_driver_are_chosen_from_devices_too() -> None:
    found = choice.choose(claiming(computeCapability="9.0"), [node(device(), device("NVIDIA H200"), device())])
    assert found is not None
    assert (found.product, found.driver) == ("H100-80GB-HBM3", "580")


def test_where_none_fits_the_sentence_says_what_was_asked_and_what_there_is() -> None:
    why = gpu_words.why_none("c", claiming(product="L4", memory="20Gi").spec, [node(device(), device("NVIDIA H200"))])
    assert "a device of gpu.nvidia.com productName (NVIDIA-L4, Tesla-L4, L4) memory (20Gi)" in why
    assert "NVIDIA-H100-80GB-HBM3 (1 node), NVIDIA-H200 (1 node)" in why
