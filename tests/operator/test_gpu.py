"""A GPU class takes whole words: what is nearly its name is another GPU."""

import pytest
from operator_objects import gpu_class

from enginewright_operator import gpu, gpu_words
from enginewright_operator.api import GPUClassSpec


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


@pytest.mark.parametrize(
    ("profile", "label", "matched"),
    [
        ("1g.18gb", "NVIDIA-H200-MIG-1g.18gb", True),
        ("1g.18gb+me", "NVIDIA-H200-MIG-1g.18gb.me", True),
        ("1g.18gb", "NVIDIA-H200-MIG-1g.18gb.me", False),
        ("1g.18gb", "NVIDIA-H200-MIG-1g.18gb-SHARED", False),
        ("1g.18gb", "NVIDIA-H200-MIG-INVALID", False),
        ("1g.18gb", "NVIDIA-H200", False),
    ],
)
def test_a_mig_profile_of_the_single_strategy_is_in_the_label(profile: str, label: str, matched: bool) -> None:
    spec = gpu_class("c", kind="cuda", product="H200", migProfile=profile).spec
    assert gpu.matches(spec, node(label)) is matched


PART = "nvidia.com/mig-1g.18gb"


def mixed(
    product: str = "NVIDIA-H200", *, part: str = "", offers: str = PART, whole: str = "0", **more: str
) -> gpu.Node:
    """A node of the strategy mixed: the labels of its GPUs, of their parts (`more` of these), and what is to be had."""
    own = {"product": part or f"{product}-MIG-1g.18gb", "memory": "16384", "sharing-strategy": "none"}
    own |= {name.replace("_", "-"): value for name, value in more.items()}
    labels = {gpu.PRODUCT_LABEL: product, "nvidia.com/gpu.memory": "143771", "nvidia.com/gpu.sharing-strategy": "none"}
    labels |= {gpu.MAJOR_LABEL: "9", gpu.MINOR_LABEL: "0"} | {f"{PART}.{name}": value for name, value in own.items()}
    return gpu.Node(name="n", labels=labels, allocatable={offers: "7", "nvidia.com/gpu": whole})


def part(resource: str = PART, **more: object) -> GPUClassSpec:
    named = {} if "computeCapability" in more else {"product": "H200"}
    return gpu_class("c", kind="cuda", migProfile="1g.18gb", resource=resource, **named, **more).spec


def test_a_mig_profile_of_the_mixed_strategy_has_a_resource_and_labels_of_its_own() -> None:
    assert gpu.matches(part(), mixed())
    assert not gpu.matches(part(), mixed("NVIDIA-H200-NVL"))
    assert not gpu.matches(part(), mixed(offers="nvidia.com/mig-2g.35gb"))
    assert not gpu.matches(part(), node("NVIDIA-H200"))
    assert not gpu.matches(part(), node("NVIDIA-H200-MIG-1g.18gb")), "the strategy single has no such resource"
    assert gpu.offered(
        part(computeCapability="9.0"), mixed("NVIDIA-A100-SXM4-80GB", part="NVIDIA-H200-MIG-1g.18gb")
    ) == {"H200": 7}, "whatever the node's other GPUs are"


def test_a_whole_gpu_beside_parts_of_others_is_to_be_had_where_there_is_one() -> None:
    whole = gpu_class("c", kind="cuda", product="H200").spec
    assert not gpu.matches(whole, mixed())
    assert gpu.matches(whole, mixed(whole="1"))


def test_a_shared_part_of_the_mixed_strategy_says_so_in_its_own_labels() -> None:
    sliced = mixed(part="NVIDIA-H200-MIG-1g.18gb-SHARED", sharing_strategy="time-slicing")
    renamed = mixed(offers=f"{PART}.shared", sharing_strategy="time-slicing")
    for resource, there in ((PART, sliced), (f"{PART}.shared", renamed)):
        assert not gpu.matches(part(resource), there)
        assert gpu.matches(part(resource, shared=True, memory="16Gi"), there)
    unmarked = mixed(sharing_strategy="mps")
    assert not gpu.matches(part(), unmarked), "the strategy alone is enough"


def labelled(product: str = "NVIDIA-H200", **labels: str) -> gpu.Node:
    """A node with more of GPU Feature Discovery's labels; `_` stands for the dots and dashes of their names."""
    names = {"major": gpu.MAJOR_LABEL, "minor": gpu.MINOR_LABEL, "sharing": "nvidia.com/gpu.sharing-strategy"}
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
    assert gpu.matches(part(memory="16Gi"), mixed())
    assert not gpu.matches(part(memory="17Gi"), mixed())


def test_a_shared_gpu_that_was_renamed_keeps_its_labels() -> None:
    labels = {gpu.PRODUCT_LABEL: "NVIDIA-H200", "nvidia.com/gpu.memory": "143771"}
    labels |= {"nvidia.com/gpu.sharing-strategy": "time-slicing"}
    there = gpu.Node(name="n", labels=labels, allocatable={"nvidia.com/gpu.shared": "8"})
    wanted = {"kind": "cuda", "product": "H200", "memory": "140Gi", "resource": "nvidia.com/gpu.shared"}
    assert gpu.matches(gpu_class("c", **wanted, shared=True).spec, there)
    assert not gpu.matches(gpu_class("c", **wanted).spec, there)


@pytest.mark.parametrize("strategy", ["time-slicing", "mps"])
@pytest.mark.parametrize("product", ["NVIDIA-H200", "NVIDIA-H200-SHARED"])
def test_a_shared_gpu_is_of_a_class_only_if_that_asks_for_it(strategy: str, product: str) -> None:
    node = labelled(product, sharing=strategy)
    assert not gpu.matches(gpu_class("c", kind="cuda", product="H200").spec, node)
    assert gpu.matches(gpu_class("c", kind="cuda", product="H200", shared=True).spec, node)
    assert gpu.matches(gpu_class("c", kind="cuda", product="H200").spec, labelled(sharing="none"))


def test_the_sentence_says_which_gpus_are_shared() -> None:
    spec = gpu_class("h200", kind="cuda", product="H200").spec
    assert "NVIDIA-H200 shared by time-slicing (1 node)" in gpu_words.why_none(
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
    why = gpu_words.why_none("nvidia-l4", spec, [node("NVIDIA-H200"), node("NVIDIA-H200"), node("NVIDIA-L40S"), node()])
    assert "GPUClass nvidia-l4" in why
    assert "NVIDIA-H200 (2 nodes), NVIDIA-L40S (1 node)" in why
    assert gpu_words.why_none("nvidia-l4", spec, [node("NVIDIA-L4")]) == ""


def test_the_sentence_tells_parts_from_whole_gpus_and_of_which_there_is_none_to_be_had() -> None:
    spec = gpu_class("h200", kind="cuda", product="H200").spec
    assert "are: NVIDIA-H200 without nvidia.com/gpu (1 node), NVIDIA-H200-MIG-1g.18gb (1 node)." in gpu_words.why_none(
        "h200", spec, [mixed()]
    )
    assert gpu_words.describe_products([mixed(whole="1")], of=part()) == "NVIDIA-H200-MIG-1g.18gb (1 node)"


def test_a_cluster_without_gpus_is_said_to_have_none() -> None:
    assert "are: none." in gpu_words.why_none("c", gpu_class("c", kind="cuda", product="L4").spec, [node()])
