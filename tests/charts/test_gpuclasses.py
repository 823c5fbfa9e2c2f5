"""The GPU classes that the chart brings: exact products, each an ordinary object of the release."""

import re

import pytest
from charts.chart import Object, render

from enginewright_operator import gpu
from enginewright_operator.api import GPUClassSpec


def classes(values: Object | None = None) -> dict[str, Object]:
    return {each["metadata"]["name"]: each for each in render(values).all("GPUClass")}


def products() -> list[tuple[str, str]]:
    """Each class's name with each value of the node label nvidia.com/gpu.product that the operator takes for it."""
    specs = {name: GPUClassSpec.model_validate(each["spec"]) for name, each in classes().items()}
    return [(name, product) for name, spec in specs.items() for product in gpu.product_labels(spec)]


def test_every_gpu_class_names_exact_products_and_a_compute_capability():
    for name, each in classes().items():
        if name == "cpu":
            continue
        spec = each["spec"]
        # What the driver calls it is the label without the vendor: so a plan's target and a node's label agree.
        assert [f"{vendor}-{spec['product']}" for vendor in ("NVIDIA", "Tesla")].count(*spec["productLabels"]) == 1, (
            name
        )
        assert re.fullmatch(r"\d+\.\d", spec["computeCapability"]), name


def test_pods_on_a_gpu_put_up_with_the_usual_taint_unless_the_class_says_otherwise():
    taint = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    found = classes({"gpuClasses": {"classes": {"nvidia-l4": {"tolerations": []}}}})
    assert found["nvidia-t4"]["spec"]["tolerations"] == [taint]
    assert found["nvidia-l4"]["spec"]["tolerations"] == []
    assert "tolerations" not in found["cpu"]["spec"]


def test_no_product_is_in_two_classes():
    found = [product for _, product in products()]
    assert sorted(found) == sorted(set(found))


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("nvidia-t4", "Tesla-T4"),
        ("nvidia-a10", "NVIDIA-A10"),
        ("nvidia-a10g", "NVIDIA-A10G"),
        ("nvidia-a100-sxm4-80gb", "NVIDIA-A100-SXM4-80GB"),
        ("nvidia-a100-80gb-pcie", "NVIDIA-A100-80GB-PCIe"),
        ("nvidia-l4", "NVIDIA-L4"),
        ("nvidia-l40s", "NVIDIA-L40S"),
        ("nvidia-h100-80gb-hbm3", "NVIDIA-H100-80GB-HBM3"),
        ("nvidia-h200", "NVIDIA-H200"),
    ],
)
def test_a_product_is_in_its_own_class_and_not_in_one_whose_name_it_begins_like(name: str, product: str):
    assert [each for each, its in products() if its == product] == [name]


def test_the_class_cpu_asks_for_no_gpu():
    assert classes()["cpu"]["spec"] == {"kind": "cpu"}


def test_no_class_is_made_by_a_hook():
    # A hook's object is none of the release: no upgrade would change it, and Helm asks for its kind when the hook runs.
    for each in classes({"gpuClasses": {"keep": False}}).values():
        assert "annotations" not in each["metadata"]


def test_a_class_can_be_added_and_another_dropped():
    found = classes({"gpuClasses": {"classes": {"mine": {"kind": "cuda", "product": "L20"}, "nvidia-t4": None}}})
    assert "mine" in found
    assert "nvidia-t4" not in found
    assert "nvidia-l4" in found


@pytest.mark.parametrize("keep", [True, False])
def test_classes_stay_on_uninstall_if_they_are_kept(keep: bool):
    for each in classes({"gpuClasses": {"keep": keep}}).values():
        assert (each["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep") is keep


def test_the_classes_can_be_left_out():
    assert classes({"gpuClasses": {"enabled": False}}) == {}
