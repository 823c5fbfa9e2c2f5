"""Which GPUs a cluster has, and which a class asks for, in words for messages. Pure."""

import re
from collections import Counter
from collections.abc import Iterable

from enginewright_operator import gpu
from enginewright_operator.api import GPUClassSpec
from enginewright_operator.slices import DRIVER
from enginewright_runtime.plan.target import TargetKind

_PRODUCTS = re.compile(r"nvidia\.com/(gpu|mig-.+)\.product")


def why_none(name: str, spec: GPUClassSpec, nodes: Iterable[gpu.Node] | None) -> str:
    """The sentence for a class that no node is of; empty if there is one, or nodes may not be read (None)."""
    if nodes is None:
        if spec.kind is TargetKind.CPU or gpu.products(spec):
            return ""
        return (
            f"The GPUClass {name} takes any product, and the operator may not read nodes to choose one: give the class "
            "its product."
        )
    nodes = tuple(nodes)
    if any(gpu.matches(spec, node) for node in nodes):
        return ""
    wanted = [str(requirement) for requirement in gpu.requirements(spec)]
    wanted += [f"the resource {spec.resource_name}"] * bool(spec.resource_name)
    wanted += [device_in_words(spec)] * spec.claims
    return (
        f"No node is of the GPUClass {name} (wanted: {' and '.join(wanted) or 'any node'}); the GPU products of this "
        f"cluster are: {describe_products(nodes)}. Add such a node, or name another class."
    )


def device_in_words(spec: GPUClassSpec) -> str:
    """The device that is claimed, for a message."""
    asks = {
        "productName": ", ".join(gpu.product_labels(spec)),
        "cudaComputeCapability": spec.compute_capability,
        "profile": spec.mig_profile,
        "memory": spec.memory,
    }
    return " ".join([f"a device of {DRIVER}", *(f"{name} ({value})" for name, value in asks.items() if value)])


def describe_products(nodes: Iterable[gpu.Node], *, of: GPUClassSpec | None = None) -> str:
    """The GPU products of these nodes, for a message: "NVIDIA-H200 (2 nodes), NVIDIA-L4 (1 node)".

    `of` a class only those of its resource.
    """
    counts = Counter(described for node in nodes for described in _described(node, of))
    if not counts:
        return "none"
    return ", ".join(f"{name} ({count} node{'s' * (count > 1)})" for name, count in sorted(counts.items()))


def _described(node: gpu.Node, of: GPUClassSpec | None) -> set[str]:
    if of is not None and of.claims:
        return _devices(node)
    every = [name for name in node.labels if _PRODUCTS.fullmatch(name)]
    names = every if of is None else [gpu.label_of(of.resource_name, gpu.PRODUCT)]
    told = {name.removesuffix(f".{gpu.PRODUCT}"): node.labels.get(name, "") for name in names}
    return {product + _reserve(node, resource) for resource, product in told.items() if product} or _devices(node)


def _devices(node: gpu.Node) -> set[str]:
    return {each.label for each in node.devices if each.label}


def _reserve(node: gpu.Node, resource: str) -> str:
    """What keeps pods from having a GPU that a label tells of, or from having it alone."""
    sharing = node.labels.get(gpu.label_of(resource, gpu.SHARING), "")
    if sharing in gpu.STRATEGIES:
        return f" shared by {sharing}"
    return "" if node.has(resource) or node.devices else f" without {resource}"
