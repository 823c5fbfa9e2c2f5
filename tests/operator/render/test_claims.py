"""Pods that claim their GPU: no resource is asked for, and the claim names the device."""

from typing import Any

import pytest
from operator_objects import engine, gpu_class

from enginewright_operator.api import ObjectMeta
from enginewright_operator.render import claims, serving
from enginewright_operator.settings import Settings

DIGEST = "a" * 64


def claiming(**spec: Any) -> Any:
    return gpu_class("c", kind="cuda", resources="DynamicResourceAllocation", product="H200", **spec)


def request(template: Any) -> dict[str, Any]:
    (found,) = template["spec"]["spec"]["devices"]["requests"]
    return found["exactly"]


def test_a_class_that_asks_for_a_resource_claims_nothing() -> None:
    assert claims.template(gpu_class("c", kind="cuda", product="H200"), DIGEST, "", building=True) is None
    assert claims.template_name(gpu_class(), DIGEST, "", building=True) == ""


def test_the_selector_says_all_that_the_class_asks_for_and_the_type_first() -> None:
    given = claiming(computeCapability="9.0", memory="100Gi")
    assert claims.selector(given.spec, "580", building=True).split(" && ") == [
        "device.driver == 'gpu.nvidia.com'",
        "device.attributes['gpu.nvidia.com'].type == 'gpu'",
        "device.attributes['gpu.nvidia.com'].productName.replace(' ', '-') in "
        '["NVIDIA-H200", "Tesla-H200", "H200"]',
        "device.attributes['gpu.nvidia.com'].cudaComputeCapability.compareTo(semver('9.0.0')) == 0",
        "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('107374182400')) >= 0",
        "device.attributes['gpu.nvidia.com'].driverVersion.major() == 580",
    ]


def test_serving_pods_take_a_newer_driver_than_the_build_had() -> None:
    assert claims.selector(claiming().spec, "580", building=False).endswith("driverVersion.major() >= 580")


@pytest.mark.parametrize(
    ("spec", "device_class"),
    [
        ({}, "gpu.nvidia.com"),
        ({"migProfile": "1g.18gb"}, "mig.nvidia.com"),
        ({"deviceClassName": "team-gpus"}, "team-gpus"),
    ],
)
def test_the_device_class_is_the_drivers_own_unless_another_is_named(spec: dict[str, str], device_class: str) -> None:
    template = claims.template(claiming(**spec), DIGEST, "", building=True)
    assert request(template)["deviceClassName"] == device_class


def test_a_template_of_other_content_has_another_name() -> None:
    names = {
        claims.template_name(given, DIGEST, driver, building=building)
        for given in (claiming(), claiming(deviceClassName="x"))
        for driver, building in (("", True), ("580", True), ("580", False))
    }
    assert len(names) == 6
    assert all(name.startswith("plan-aaaaaaaaaaaaaaaa-") for name in names)


def test_serving_pods_refer_to_the_template_and_ask_for_no_resource() -> None:
    one = engine().model_copy(update={"metadata": ObjectMeta(name="e", namespace="n")})
    made = serving.deployment(one, one.spec.targets[0], "s3://p/x.plan", DIGEST, claiming(), Settings(), driver="580")
    pod = made["spec"]["template"]["spec"]
    name = claims.template_name(claiming(), DIGEST, "580", building=False)
    assert pod["resourceClaims"] == [{"name": "gpu", "resourceClaimTemplateName": name}]
    assert pod["containers"][0]["resources"] == {"claims": [{"name": "gpu"}]}
    assert "affinity" not in pod, "the claim decides on the node"
