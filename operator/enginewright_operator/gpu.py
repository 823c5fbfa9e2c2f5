"""Which nodes are of a GPU class: whole words of GPU Feature Discovery's labels, never parts of them.

The values of the node label nvidia.com/gpu.product that a class accepts are a finite list, made here; a node matches
if its label is one of them. So A10 can never match A100, nor L4 an L40S, and the same list goes into a pod's affinity.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from enginewright_operator.api import GPUClassSpec, parse_quantity
from enginewright_runtime.plan.target import TargetKind

PRODUCT_LABEL = "nvidia.com/gpu.product"
SHARING_LABEL = "nvidia.com/gpu.sharing-strategy"  # absent or "none" where a pod has its GPU to itself
MAJOR_LABEL, MINOR_LABEL = "nvidia.com/gpu.compute.major", "nvidia.com/gpu.compute.minor"
ARCHITECTURE_LABEL = "kubernetes.io/arch"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # what the machine says -> what Kubernetes says

_SHARING = ("time-slicing", "mps")
_SHARED_SUFFIX = "-SHARED"  # of the product, where the plugin does not give shared GPUs another resource
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What a label of a node must be, in the terms of a Kubernetes node affinity: In, NotIn (or absent), Gt."""

    label: str
    operator: str
    values: tuple[str, ...]

    def met_by(self, labels: Mapping[str, str]) -> bool:
        """As the scheduler judges it."""
        value = labels.get(self.label)
        if self.operator == "NotIn":
            return value not in self.values
        if self.operator == "Gt":
            return value is not None and value.isdigit() and int(value) > int(self.values[0])
        return value in self.values

    def __str__(self) -> str:
        words = {"In": "in", "NotIn": "not in", "Gt": "above"}
        return f"{self.label} {words[self.operator]} ({', '.join(self.values)})"


def product_labels(spec: GPUClassSpec) -> tuple[str, ...]:
    """Every value of the label nvidia.com/gpu.product that is this class; empty for a class that needs no GPU."""
    if spec.kind is TargetKind.CPU or spec.product is None:
        return ()
    names = spec.product_labels
    if names is None:
        products = (*ALIASES.get(spec.product, ()), spec.product)
        names = tuple(vendor + product for product in products for vendor in _VENDORS)
    if spec.mig_profile and spec.resource_name == "nvidia.com/gpu":  # the strategy "single" writes it into the label
        names = tuple(f"{name}-MIG-{spec.mig_profile.replace('+', '.')}" for name in names)
    return (*names, *(name + _SHARED_SUFFIX for name in names)) if spec.shared else names


def requirements(spec: GPUClassSpec) -> tuple[Requirement, ...]:
    """What the labels of a node of the class must be: of Kubernetes' own and of GPU Feature Discovery's."""
    wanted: dict[str, tuple[str, ...]] = {name: (value,) for name, value in spec.node_selector.items()}
    if spec.architecture:
        wanted[ARCHITECTURE_LABEL] = (ARCHITECTURES[spec.architecture],)
    if products := product_labels(spec):
        wanted[PRODUCT_LABEL] = products
    if spec.compute_capability:
        major, _, minor = spec.compute_capability.partition(".")
        wanted |= {MAJOR_LABEL: (major,), MINOR_LABEL: (minor,)}
    found = [Requirement(label=name, operator="In", values=values) for name, values in sorted(wanted.items())]
    if spec.memory:  # in MiB; a MIG device of the strategy "mixed" has a label of its resource's name
        least = -(-parse_quantity(spec.memory) // (1 << 20))
        found.append(Requirement(label=f"{spec.resource_name}.memory", operator="Gt", values=(str(least - 1),)))
    if spec.kind is TargetKind.CUDA and not spec.shared:
        found.append(Requirement(label=SHARING_LABEL, operator="NotIn", values=_SHARING))
    return tuple(found)


def matches(spec: GPUClassSpec, node: Node) -> bool:
    """Whether the node is of the class and has its resource."""
    if not all(requirement.met_by(node.labels) for requirement in requirements(spec)):
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
    wanted = [str(requirement) for requirement in requirements(spec)]
    wanted += [f"the resource {spec.resource_name}"] * bool(spec.resource_name)
    return (
        f"No node is of the GPUClass {name} (wanted: {' and '.join(wanted) or 'any node'}); the GPU products of this "
        f"cluster are: {describe_products(nodes)}. Add such a node, or name another class."
    )


def describe_products(nodes: Iterable[Node]) -> str:
    """The GPU products of these nodes, for a message: "NVIDIA-H200 (2 nodes), NVIDIA-L4 (1 node)"."""
    counts = Counter(described for node in nodes if (described := _described(node)))
    if not counts:
        return "none"
    return ", ".join(f"{name} ({count} node{'s' * (count > 1)})" for name, count in sorted(counts.items()))


def _described(node: Node) -> str:
    product, sharing = node.labels.get(PRODUCT_LABEL, ""), node.labels.get(SHARING_LABEL, "")
    return f"{product} shared by {sharing}" if product and sharing in _SHARING else product
