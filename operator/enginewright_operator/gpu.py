"""Which nodes are of a GPU class: whole words of GPU Feature Discovery's labels, never parts of them.

The values of the node label nvidia.com/gpu.product that a class accepts are a finite list, made here; a node matches
if its label is one of them. So A10 can never match A100, nor L4 an L40S, and the same list goes into a pod's affinity.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from enginewright_operator.api import GPUClassSpec
from enginewright_runtime.plan.target import TargetKind

PRODUCT_LABEL = "nvidia.com/gpu.product"
ARCHITECTURE_LABEL = "kubernetes.io/arch"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # what the machine says -> what Kubernetes says

_VENDORS = ("NVIDIA-", "Tesla-", "")  # drivers of different ages put different words before the same name

# What people call a GPU, where its driver calls it otherwise. A form factor is a product of its own: clocks differ.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "H100": ("H100-80GB-HBM3",),  # the SXM form
    "A100-40GB": ("A100-SXM4-40GB",),
    "A100-80GB": ("A100-SXM4-80GB",),
    "V100-16GB": ("V100-SXM2-16GB",),
    "V100-32GB": ("V100-SXM2-32GB",),
    "GH200": ("GH200-480GB",),
    "RTX-6000-Ada": ("RTX-6000-Ada-Generation",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What matters of a node: its labels, and how much of each resource pods may have of it."""

    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, str]


def product_labels(spec: GPUClassSpec) -> tuple[str, ...]:
    """Every value of the label nvidia.com/gpu.product that is this class; empty for a class that needs no GPU."""
    if spec.kind is TargetKind.CPU or spec.product is None:
        return ()
    names = spec.product_labels
    if names is None:
        products = (*ALIASES.get(spec.product, ()), spec.product)
        names = tuple(vendor + product for product in products for vendor in _VENDORS)
    if spec.mig_profile and spec.resource_name == "nvidia.com/gpu":  # the strategy "single" writes it into the label
        return tuple(f"{name}-MIG-{spec.mig_profile.replace('+', '.')}" for name in names)
    return names


def node_labels(spec: GPUClassSpec) -> Mapping[str, tuple[str, ...]]:
    """Each label that a node of the class must have, with the values that it may have."""
    wanted: dict[str, tuple[str, ...]] = {name: (value,) for name, value in spec.node_selector.items()}
    if spec.architecture:
        wanted[ARCHITECTURE_LABEL] = (ARCHITECTURES[spec.architecture],)
    if products := product_labels(spec):
        wanted[PRODUCT_LABEL] = products
    return wanted


def matches(spec: GPUClassSpec, node: Node) -> bool:
    """Whether the node is of the class and has its resource."""
    if any(node.labels.get(name) not in values for name, values in node_labels(spec).items()):
        return False
    resource = spec.resource_name
    return not resource or node.allocatable.get(resource, "0") != "0"


def why_none(name: str, spec: GPUClassSpec, nodes: Iterable[Node] | None) -> str:
    """The sentence for a class that no node is of; empty if there is one, or nodes may not be read (None)."""
    if nodes is None:
        return ""
    nodes = tuple(nodes)
    if any(matches(spec, node) for node in nodes):
        return ""
    wanted = [f"{label} in ({', '.join(values)})" for label, values in node_labels(spec).items()]
    wanted += [f"the resource {spec.resource_name}"] * bool(spec.resource_name)
    return (
        f"No node is of the GPUClass {name} (wanted: {' and '.join(wanted) or 'any node'}); the GPU products of this "
        f"cluster are: {describe_products(nodes)}. Add such a node, or name another class."
    )


def describe_products(nodes: Iterable[Node]) -> str:
    """The GPU products of these nodes, for a message: "NVIDIA-H200 (2 nodes), NVIDIA-L4 (1 node)"."""
    counts = Counter(product for node in nodes if (product := node.labels.get(PRODUCT_LABEL)))
    if not counts:
        return "none"
    return ", ".join(f"{name} ({count} node{'s' * (count > 1)})" for name, count in sorted(counts.items()))
