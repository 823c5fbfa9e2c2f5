"""GPUClass: a type of GPU by name, as StorageClass is for storage. Cluster-scoped; the chart ships the usual ones."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from enginewright_operator.api.base import API_VERSION, Lenient, ObjectMeta, Strict, validations
from enginewright_operator.api.quantities import Quantity
from enginewright_runtime.plan.target import TargetKind

LabelValue = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
DEFAULT_RESOURCE = "nvidia.com/gpu"
WHOLE_DEVICES, MIG_DEVICES = "gpu.nvidia.com", "mig.nvidia.com"  # the DeviceClasses of NVIDIA's DRA driver


class ResourceKind(StrEnum):
    """How a pod asks for its GPU."""

    DEVICE_PLUGIN = "DevicePlugin"
    CLAIMS = "DynamicResourceAllocation"


class Toleration(Strict):
    """A taint that pods on this class put up with, as in a Pod's spec."""

    key: str | None = Field(default=None, max_length=253, description="The taint's key; empty means every key.")
    operator: Annotated[str, Field(json_schema_extra={"enum": ["Equal", "Exists"]})] = Field(
        default="Equal", description="Equal compares the value, Exists does not."
    )
    value: str | None = Field(default=None, max_length=63, description="The taint's value.")
    effect: (
        Annotated[str, Field(json_schema_extra={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]})] | None
    ) = Field(default=None, description="The taint's effect; empty means every effect.")


class GPUClassSpec(Strict):
    """Which nodes have this GPU, and how a pod asks for it."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            (
                "self.kind != 'cuda' || has(self.product) || has(self.productLabels) || has(self.computeCapability)",
                "a GPU class of kind cuda needs spec.product, as in H200, or productLabels, or computeCapability",
            ),
            (
                "self.kind != 'cpu' || !(has(self.product) || has(self.productLabels) || has(self.computeCapability) "
                "|| has(self.memory) || has(self.migProfile) || has(self.resource) || has(self.deviceClassName) "
                "|| self.resources != 'DevicePlugin' || (has(self.shared) && self.shared))",
                "a GPU class of kind cpu needs no GPU: it has no product, productLabels, computeCapability, memory, "
                "migProfile, resource, resources, deviceClassName or shared",
            ),
            (
                "self.resources != 'DynamicResourceAllocation' "
                "|| !(has(self.resource) || (has(self.shared) && self.shared))",
                "a GPU class of resources DynamicResourceAllocation claims a device of its own: leave resource and "
                "shared out",
            ),
            (
                "self.resources == 'DynamicResourceAllocation' || !has(self.deviceClassName)",
                "deviceClassName is of claims: set resources to DynamicResourceAllocation, or leave it out",
            ),
        )
    )

    kind: TargetKind = Field(description="cuda: a GPU of NVIDIA's. cpu: no GPU at all.")
    product: str | None = Field(
        default=None,
        min_length=1,
        max_length=63,
        description="The GPU's name without the vendor: H200, A100-80GB, L4, L40S. Compared as a whole word: A10 never "
        "matches an A100. Without it, and without productLabels, any product will do that has the computeCapability "
        "and the memory.",
    )
    product_labels: Annotated[tuple[LabelValue, ...], Field(max_length=32)] | None = Field(
        default=None,
        description="The exact values of the node label nvidia.com/gpu.product that are of this class, where they are "
        "others than the product with a vendor before it. Of several products a plan is for one, since their timings "
        "differ: the first here that a node has, or where nothing is listed the one with the most GPUs; it stays that "
        "one for as long as a node has it.",
    )
    compute_capability: str | None = Field(
        default=None, max_length=8, pattern=r"^[0-9]{1,2}\.[0-9]$", description='The compute capability, as in "9.0".'
    )
    memory: Quantity | None = Field(default=None, description="The least memory of the GPU.")
    mig_profile: str | None = Field(
        default=None,
        max_length=32,
        pattern=r"^[0-9]g\.[0-9]{1,3}gb(\+[a-z.]{1,12})?$",
        description="A part of a GPU, as NVIDIA writes it: 1g.18gb.",
    )
    shared: bool = Field(
        default=False,
        description="Whether a GPU that several pods share, by time-slicing or MPS, is of this class too: what is "
        "timed there is the neighbours as well.",
    )
    architecture: Annotated[str, Field(json_schema_extra={"enum": ["x86_64", "aarch64"]})] | None = Field(
        default=None, description="The CPU's architecture; by default any."
    )
    resource: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="The resource of which a pod asks for one: nvidia.com/gpu if absent; for a MIG profile as in "
        "nvidia.com/mig-1g.18gb.",
    )
    resources: ResourceKind = Field(
        default=ResourceKind.DEVICE_PLUGIN,
        description="DevicePlugin: pods ask for the resource, and nodes are found by the labels of GPU Feature "
        "Discovery. DynamicResourceAllocation: pods claim a device of the DRA driver gpu.nvidia.com, found by the "
        "attributes in its ResourceSlices (Kubernetes 1.34 or newer).",
    )
    device_class_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="The DeviceClass of the claims: gpu.nvidia.com if absent, for a MIG profile mig.nvidia.com.",
    )
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=16)] = Field(
        default_factory=dict, description="Further labels that a node must have."
    )
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16)] = Field(
        default=(), description="Taints that pods on this class put up with."
    )
    runtime_class_name: str | None = Field(
        default=None, max_length=253, description="The RuntimeClass of pods on this class, where the cluster needs one."
    )

    @property
    def claims(self) -> bool:
        """Whether pods claim a device, instead of asking for a resource."""
        return self.kind is TargetKind.CUDA and self.resources is ResourceKind.CLAIMS

    @property
    def resource_name(self) -> str:
        """The resource to ask for; empty for a class that needs no GPU, or whose pods claim one."""
        return "" if self.kind is TargetKind.CPU or self.claims else self.resource or DEFAULT_RESOURCE

    @property
    def device_class(self) -> str:
        """The DeviceClass of which a device is claimed."""
        return self.device_class_name or (MIG_DEVICES if self.mig_profile else WHOLE_DEVICES)


class GPUClass(Lenient):
    """A type of GPU by name: which nodes have it, and how a pod asks for it."""

    KIND: ClassVar[str] = "GPUClass"
    PLURAL: ClassVar[str] = "gpuclasses"

    api_version: str = API_VERSION
    kind: str = KIND
    metadata: ObjectMeta
    spec: GPUClassSpec = Field(description="Which nodes have this GPU, and how a pod asks for it.")

    def to_manifest(self) -> dict[str, Any]:
        """The object as Kubernetes writes it, without what is absent."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
