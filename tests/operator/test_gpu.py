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


def labelled(product: str = "NVIDIA-H200", **labels: str) -> gpu.Node:
    """A node with more of GPU Feature Discovery's labels; `_` stands for the dots and dashes of their names."""
    names = {"major": gpu.MAJOR_LABEL, "minor": gpu.MINOR_LABEL, "sharing": gpu.SHARING_LABEL}
    more = {names.get(name, f"nvidia.com/{name}.memory"): value for name, value in labels.items()}
    return gpu.Node(name="n", labels={gpu.PRODUCT_LABEL: product, **more}, allocatable={"nvidia.com/gpu": "1"})


@pytest.mark.parametrize(
    ("capability", "major", "minor", "matched"),
    [("9.0", "9", "0", True), ("9.0", "9", "1", False), ("8.0", "8", "6", False), ("12.0", "12", "0", True)],
)
def test_a_compute_capability_is_both_numbers(capability: str, major: str, minor: str, matched: bool) -> None:
    spec = gpu_class("c", kind="cuda", product="H200", computeCapability=capability).spec
    assert gpu.matches(spec, labelled(major=major, minor=minor)) is matched
    assert not gpu.matches(spec, labelled())


@pytest.mark.parametrize(
    ("memory", "mib", "matched"),
    [("140Gi", "143771", True), ("141Gi", "143771", False), ("143771Mi", "143771", True), ("1Gi", "much", False)],
)
def test_memory_is_the_least_there_may_be(memory: str, mib: str, matched: bool) -> None:
    spec = gpu_class("c", kind="cuda", product="H200", memory=memory).spec
    assert gpu.matches(spec, labelled(gpu=mib)) is matched


def test_the_memory_of_a_mixed_mig_device_has_a_label_of_its_own() -> None:
    resource = "nvidia.com/mig-1g.18gb"
    spec = gpu_class("c", kind="cuda", product="H200", migProfile="1g.18gb", resource=resource, memory="16Gi").spec
    labels = {gpu.PRODUCT_LABEL: "NVIDIA-H200", "nvidia.com/gpu.memory": "143771", f"{resource}.memory": "16384"}
    assert gpu.matches(spec, gpu.Node(name="n", labels=labels, allocatable={resource: "7"}))
    del labels[f"{resource}.memory"]
    assert not gpu.matches(spec, gpu.Node(name="n", labels=labels, allocatable={resource: "7"}))


@pytest.mark.parametrize("strategy", ["time-slicing", "mps"])
@pytest.mark.parametrize("product", ["NVIDIA-H200", "NVIDIA-H200-SHARED"])
def test_a_shared_gpu_is_of_a_class_only_if_that_asks_for_it(strategy: str, product: str) -> None:
    node = labelled(product, sharing=strategy)
    assert not gpu.matches(gpu_class("c", kind="cuda", product="H200").spec, node)
    assert gpu.matches(gpu_class("c", kind="cuda", product="H200", shared=True).spec, node)
    assert gpu.matches(gpu_class("c", kind="cuda", product="H200").spec, labelled(sharing="none"))


def test_the_sentence_says_which_gpus_are_shared() -> None:
    spec = gpu_class("h200", kind="cuda", product="H200").spec
    assert "NVIDIA-H200 shared by time-slicing (1 node)" in gpu.why_none(
        "h200", spec, [labelled(sharing="time-slicing")]
    )


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
