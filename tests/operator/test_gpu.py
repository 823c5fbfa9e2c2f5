"""A GPU class takes whole words: what is nearly its name is another GPU."""

import pytest
from operator_objects import gpu_class

from enginewright_operator import gpu


def node(product: str = "", *, resource: str = "nvidia.com/gpu", count: str = "1") -> gpu.Node:
    labels = {gpu.PRODUCT_LABEL: product} if product else {}
    return gpu.Node(name=product or "plain", labels=labels, allocatable={resource: count})


@pytest.mark.parametrize(
    ("product", "label", "matched"),
    [
        ("A10", "NVIDIA-A10", True),
        ("A10", "NVIDIA-A100-SXM4-80GB", False),
        ("A10", "NVIDIA-A10G", False),
        ("A100", "NVIDIA-A10", False),
        ("A100-80GB", "NVIDIA-A100-SXM4-80GB", True),
        ("A100-80GB", "NVIDIA-A100-80GB-PCIe", False),
        ("A100-40GB", "NVIDIA-A100-SXM4-80GB", False),
        ("L4", "NVIDIA-L4", True),
        ("L4", "NVIDIA-L40S", False),
        ("L40", "NVIDIA-L40S", False),
        ("L40S", "NVIDIA-L40S", True),
        ("T4", "Tesla-T4", True),
        ("H100", "NVIDIA-H100-80GB-HBM3", True),
        ("H100", "NVIDIA-H100-PCIe", False),
        ("H200", "NVIDIA-H200", True),
        ("H200", "H200", True),
        ("H200", "NVIDIA-H200-NVL", False),
        ("H200", "NVIDIA-H200-SHARED", False),  # time-sliced: what is timed there is the neighbours too
        ("H200", "NVIDIA-H200-MIG-1g.18gb", False),
        ("H200", "", False),
    ],
)
def test_a_product_is_a_whole_word(product: str, label: str, matched: bool) -> None:
    assert gpu.matches(gpu_class("c", kind="cuda", product=product).spec, node(label)) is matched


def test_labels_that_are_given_take_the_place_of_the_table() -> None:
    spec = gpu_class("c", kind="cuda", product="A100-80GB", productLabels=["Our-A100"]).spec
    assert gpu.matches(spec, node("Our-A100"))
    assert not gpu.matches(spec, node("NVIDIA-A100-SXM4-80GB"))


def test_a_mig_profile_of_the_single_strategy_is_in_the_label() -> None:
    spec = gpu_class("c", kind="cuda", product="H200", migProfile="1g.18gb").spec
    assert gpu.matches(spec, node("NVIDIA-H200-MIG-1g.18gb"))
    assert not gpu.matches(spec, node("NVIDIA-H200"))


def test_a_mig_profile_of_the_mixed_strategy_is_in_the_resource() -> None:
    resource = "nvidia.com/mig-1g.18gb"
    spec = gpu_class("c", kind="cuda", product="H200", migProfile="1g.18gb", resource=resource).spec
    assert gpu.matches(spec, node("NVIDIA-H200", resource=resource))
    assert not gpu.matches(spec, node("NVIDIA-H200"))


def test_a_node_whose_device_plugin_offers_none_does_not_match() -> None:
    assert not gpu.matches(gpu_class("c", kind="cuda", product="H200").spec, node("NVIDIA-H200", count="0"))


def test_the_class_cpu_takes_any_node() -> None:
    assert gpu.matches(gpu_class().spec, node())


def test_a_cpu_architecture_is_a_label_of_kubernetes() -> None:
    spec = gpu_class(architecture="aarch64").spec
    assert gpu.matches(spec, gpu.Node(name="a", labels={"kubernetes.io/arch": "arm64"}, allocatable={}))
    assert not gpu.matches(spec, gpu.Node(name="b", labels={"kubernetes.io/arch": "amd64"}, allocatable={}))


def test_where_no_node_matches_the_sentence_lists_the_products_that_there_are() -> None:
    spec = gpu_class("nvidia-l4", kind="cuda", product="L4").spec
    why = gpu.why_none("nvidia-l4", spec, [node("NVIDIA-H200"), node("NVIDIA-H200"), node("NVIDIA-L40S"), node()])
    assert "GPUClass nvidia-l4" in why
    assert "NVIDIA-H200 (2 nodes), NVIDIA-L40S (1 node)" in why
    assert gpu.why_none("nvidia-l4", spec, [node("NVIDIA-L4")]) == ""


def test_a_cluster_without_gpus_is_said_to_have_none() -> None:
    assert "are: none." in gpu.why_none("c", gpu_class("c", kind="cuda", product="L4").spec, [node()])
