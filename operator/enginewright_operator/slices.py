"""The GPUs that NVIDIA's DRA driver publishes in ResourceSlices, by node. Pure.

Attributes as in cmd/gpu-kubelet-plugin/deviceinfo.go of kubernetes-sigs/dra-driver-nvidia-gpu: type, productName,
cudaComputeCapability, driverVersion, and profile of a MIG device; the capacity memory.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from enginewright_operator.api import GPUClassSpec, parse_quantity

DRIVER = "gpu.nvidia.com"
WHOLE, PART = "gpu", "mig"  # values of the attribute type; there are others, which no plan runs on


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One GPU, or a part of one. `label` is its product as GPU Feature Discovery writes it, `memory` in bytes."""

    type: str
    label: str
    compute_capability: str = ""
    memory: int = 0
    profile: str = ""
    driver: str = ""  # its driver's branch

    def meets(self, spec: GPUClassSpec) -> bool:
        """Whether it is what the class asks for, the product apart."""
        kind = PART if spec.mig_profile else WHOLE
        return (
            (self.type, self.profile) == (kind, spec.mig_profile or "")
            and spec.compute_capability in (None, self.compute_capability)
            and (spec.memory is None or parse_quantity(spec.memory) <= self.memory)
        )


ByNode = Mapping[str, tuple[Device, ...]]


def by_node(slices: Iterable[Mapping[str, Any]]) -> ByNode:
    """The devices of each node. Of a pool that is being written anew only the newest generation counts."""
    known = [each["spec"] for each in slices if each["spec"].get("driver") == DRIVER and each["spec"].get("nodeName")]
    newest: dict[str, int] = {}
    for spec in known:
        pool = spec["pool"]
        newest[pool["name"]] = max(newest.get(pool["name"], 0), pool["generation"])
    found: dict[str, tuple[Device, ...]] = {}
    for spec in known:
        if spec["pool"]["generation"] == newest[spec["pool"]["name"]]:
            found[spec["nodeName"]] = found.get(spec["nodeName"], ()) + tuple(map(_device, spec.get("devices") or ()))
    return found


def _device(given: Mapping[str, Any]) -> Device:
    # Both may be written with the driver's name before them, which is also what they have without it.
    attributes = {name.removeprefix(f"{DRIVER}/"): value for name, value in (given.get("attributes") or {}).items()}
    capacity = {name.removeprefix(f"{DRIVER}/"): value for name, value in (given.get("capacity") or {}).items()}

    def said(name: str, kind: str = "string") -> str:
        return str(attributes.get(name, {}).get(kind, ""))

    return Device(
        type=said("type"),
        label="-".join(said("productName").split()),
        compute_capability=".".join(said("cudaComputeCapability", "version").split(".")[:2]),
        memory=parse_quantity(str(capacity.get("memory", {}).get("value", "0"))),
        profile=said("profile"),
        driver=said("driverVersion", "version").partition(".")[0],
    )
