"""Which nodes are of a GPU class: whole words of GPU Feature Discovery's labels, never parts of them.

The values of the node label nvidia.com/gpu.product that a class accepts are a finite list, made here; a node matches
if its label is one of them. So A10 can never match A100, nor L4 an L40S, and the same list goes into a pod's affinity.
A class that names no product takes any that its other requirements take; choice.py says which one a plan is for.

A resource has labels of its own (internal/lm/resource.go of NVIDIA's k8s-device-plugin): whole GPUs, and parts of the
strategy "single", those that begin with nvidia.com/gpu; each part of the strategy "mixed" its resource's name.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from enginewright_operator.api import DEFAULT_RESOURCE, GPUClassSpec, parse_quantity
from enginewright_operator.slices import Device
from enginewright_runtime.plan.target import TargetKind

PRODUCT, MEMORY = "product", "memory"  # ends of a resource's labels
SHARING = "sharing-strategy"  # absent or "none" where a pod has its GPU to itself
PRODUCT_LABEL = f"{DEFAULT_RESOURCE}.{PRODUCT}"
MAJOR_LABEL, MINOR_LABEL = "nvidia.com/gpu.compute.major", "nvidia.com/gpu.compute.minor"
DRIVER_LABEL = "nvidia.com/cuda.driver.major"  # GPU Feature Discovery of every age writes this one
ARCHITECTURE_LABEL = "kubernetes.io/arch"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # what the machine says -> what Kubernetes says

STRATEGIES = ("time-slicing", "mps")  # of sharing
_SHARED_SUFFIX = "-SHARED"  # of the product, where the plugin does not give shared GPUs another resource
_MIG = "-MIG-"
_MIXED = "nvidia.com/mig-"  # begins the resources of the strategy "mixed"; then comes the profile
_RENAMED = ".shared"  # ends a resource that the plugin has renamed because it is shared, and not its labels
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
    closed: bool = False  # cordoned, as for draining it: no new pod goes there
    devices: tuple[Device, ...] = ()  # those that can be claimed

    @property
    def driver(self) -> str:
        """The branch of its GPUs' driver, of which a node has one; empty where nobody tells."""
        return self.labels.get(DRIVER_LABEL) or next((each.driver for each in self.devices), "")

    def has(self, resource: str) -> int:
        """How many of a resource pods may have of it."""
        amount = self.allocatable.get(resource, "")
        return int(amount) if amount.isdecimal() else 0


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


def products(spec: GPUClassSpec) -> Mapping[str, tuple[str, ...]]:
    """The products of a class in its own order, each as its driver calls it, with the values of its node label.

    Empty for a class that needs no GPU, and for one that takes any product.
    """
    if spec.kind is TargetKind.CPU:
        return {}
    found: dict[str, list[str]] = {}
    if spec.product_labels is not None:
        for label in spec.product_labels:
            found.setdefault(_read(label).product, []).append(label)
        if len(found) == 1 and spec.product:  # a label may be anybody's; the driver's name is then the product
            found = {spec.product: list(spec.product_labels)}
    elif spec.product:
        for product in (*ALIASES.get(spec.product, ()), spec.product):
            found[product] = [vendor + product for vendor in _VENDORS]
    return {product: _as_written(spec, labels) for product, labels in found.items()}


def product_labels(spec: GPUClassSpec) -> tuple[str, ...]:
    """Every value of its resource's label of the product that is this class; empty for a class that takes any."""
    return tuple(label for labels in products(spec).values() for label in labels)


def _as_written(spec: GPUClassSpec, labels: Iterable[str]) -> tuple[str, ...]:
    """The labels with what is written behind them for a part of a GPU, and for one that is shared."""
    names = tuple(label + _mig_suffix(spec) for label in labels)
    return (*names, *(name + _SHARED_SUFFIX for name in names)) if spec.shared else names


def label_of(resource: str, what: str) -> str:
    """The node label that says this of a resource; a renamed one has those of before."""
    return f"{resource.removesuffix(_RENAMED) if resource.startswith(_MIXED) else DEFAULT_RESOURCE}.{what}"


def _mig_suffix(spec: GPUClassSpec) -> str:
    if spec.claims:
        return ""  # a device's profile is an attribute of its own
    resource = spec.resource_name.removesuffix(_RENAMED)
    profile = resource.removeprefix(_MIXED) if resource.startswith(_MIXED) else spec.mig_profile or ""
    return _MIG + profile.replace("+", ".") if profile else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Label:
    """What a value of a label of the product says."""

    product: str
    suffix: str  # "-MIG-1g.18gb" of a part of a GPU
    shared: bool


def product_of(label: str) -> str:
    """The product of a value of a label of the product, as its driver calls it."""
    return _read(label).product


def _read(label: str) -> _Label:
    name = label.removesuffix(_SHARED_SUFFIX)
    name, dash, profile = name.partition(_MIG)
    vendor = next(each for each in _VENDORS if name.startswith(each))
    return _Label(product=name.removeprefix(vendor), suffix=dash + profile, shared=label.endswith(_SHARED_SUFFIX))


def requirements(spec: GPUClassSpec) -> tuple[Requirement, ...]:
    """What the labels of a node of the class must be: of Kubernetes' own and of GPU Feature Discovery's.

    Where pods claim a device, what it must be stands in the claim.
    """
    wanted: dict[str, tuple[str, ...]] = {name: (value,) for name, value in spec.node_selector.items()}
    if spec.architecture:
        wanted[ARCHITECTURE_LABEL] = (ARCHITECTURES[spec.architecture],)
    if spec.claims:
        return tuple(Requirement(label=name, operator="In", values=values) for name, values in sorted(wanted.items()))
    if labels := product_labels(spec):
        wanted[label_of(spec.resource_name, PRODUCT)] = labels
    if spec.compute_capability:
        major, _, minor = spec.compute_capability.partition(".")
        wanted |= {MAJOR_LABEL: (major,), MINOR_LABEL: (minor,)}
    found = [Requirement(label=name, operator="In", values=values) for name, values in sorted(wanted.items())]
    if spec.memory:  # in MiB
        least, label = -(-parse_quantity(spec.memory) // (1 << 20)), label_of(spec.resource_name, MEMORY)
        found.append(Requirement(label=label, operator="Gt", values=(str(least - 1),)))
    if spec.kind is TargetKind.CUDA and not spec.shared:
        label = label_of(spec.resource_name, SHARING)
        found.append(Requirement(label=label, operator="NotIn", values=STRATEGIES))
    return tuple(found)


def matches(spec: GPUClassSpec, node: Node) -> bool:
    """Whether the node is of the class and has its resource."""
    if spec.kind is TargetKind.CPU:
        return _is_labelled(spec, node)
    return bool(offered(spec, node))


def offered(spec: GPUClassSpec, node: Node) -> Counter[str]:
    """How many GPUs of the class pods may have of the node, by product; empty where the node is not of the class."""
    if spec.claims:
        return _claimable(spec, node) if _is_labelled(spec, node) else Counter()
    label, count = node.labels.get(label_of(spec.resource_name, PRODUCT), ""), node.has(spec.resource_name)
    if not label or not count or not _is_labelled(spec, node):
        return Counter()
    known = products(spec)
    if known:
        return Counter({product: count for product, labels in known.items() if label in labels})
    read = _read(label)
    fits = read.suffix == _mig_suffix(spec) and (spec.shared or not read.shared)
    return Counter({read.product: count} if fits else {})


def _claimable(spec: GPUClassSpec, node: Node) -> Counter[str]:
    known = {label: product for product, labels in products(spec).items() for label in labels}
    fit = [each.label for each in node.devices if each.meets(spec) and (not known or each.label in known)]
    return Counter(known.get(label) or product_of(label) for label in fit)


def _is_labelled(spec: GPUClassSpec, node: Node) -> bool:
    return all(requirement.met_by(node.labels) for requirement in requirements(spec))


def oldest_driver(nodes: Iterable[Node]) -> str:
    """The branch of the oldest driver of these nodes, whose plans all of them load; empty where one does not tell."""
    branches = [node.driver for node in nodes]
    return min(branches, key=int, default="") if all(map(str.isdecimal, branches)) else ""


def driver_requirement(spec: GPUClassSpec, branch: str, *, building: bool) -> tuple[Requirement, ...]:
    """Which drivers a plan of this branch is built with, or loads on.

    None where the branch is not known, or stands in the claim.
    """
    if not branch or spec.claims:
        return ()
    if building:
        return (Requirement(label=DRIVER_LABEL, operator="In", values=(branch,)),)
    return (Requirement(label=DRIVER_LABEL, operator="Gt", values=(str(int(branch) - 1),)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """The GPUs of one product on one node, as far as plans depend on them."""

    node: str
    product: str
    count: int
    closed: bool
    driver: str


def gpus(spec: GPUClassSpec, nodes: Iterable[Node]) -> frozenset[Gpus]:
    """All GPUs of a class; empty for a class that needs none."""
    if spec.kind is TargetKind.CPU:
        return frozenset()
    return frozenset(
        Gpus(
            node=node.name,
            product=product,
            count=count,
            closed=node.closed,
            driver=node.driver,
        )
        for node in nodes
        for product, count in offered(spec, node).items()
    )
