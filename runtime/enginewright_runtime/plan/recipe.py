"""All that decides a plan. Two equal recipes give the same plan; the digest of a recipe is a plan's name.

The operator writes recipes from manifests and the builder builds them, each on its own machine: this module is where
they agree. A field's default is left out of the canonical JSON, so a field added later keeps every older digest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from enginewright_runtime.plan import records
from enginewright_runtime.plan.target import TargetKind, TargetRequirement


class ModelFormat(StrEnum):
    """Which importer reads the model."""

    ONNX = "onnx"
    TENSORFLOW = "tensorflow"
    CAFFE = "caffe"


class Precision(StrEnum):
    """Arithmetic that a build may use. fp32 is always allowed as the fallback."""

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


class Effort(StrEnum):
    """How long to look for faster tactics."""

    FAST = "fast"
    BALANCED = "balanced"
    THOROUGH = "thorough"


class Metric(StrEnum):
    """What an accuracy gate measures, on its data.

    top1: share of samples whose largest output is the label (without labels: is the model's own largest output).
    cosine: mean cosine similarity between the plan's and the model's outputs.
    """

    TOP1 = "top1"
    COSINE = "cosine"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionRule:
    """Layers whose names match the glob `layers` keep `precision`."""

    layers: str
    precision: Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyGate:
    """The plan may lose at most `max_drop` (absolute, 0 to 1) of `metric` against the model on `data`.

    `data` is the identity of an .npz file: one array an input, first dimension the sample, and optionally `labels`.
    """

    data: str
    metric: Metric = Metric.TOP1
    max_drop: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyGate:
    """The 99th percentile of one inference at `batch`, measured in the build, in milliseconds."""

    batch: int = 1
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What a plan must pass before it serves. `memory` is the bytes that a loaded engine may take."""

    accuracy: AccuracyGate | None = None
    latency: LatencyGate | None = None
    memory: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The inputs of a build.

    `model` is the model's identity: "sha256:<hex>" of its bytes where that is known, else "version:<id>", the store's
    own version of it (an ETag). `companion` is the identity of a second model file (Caffe's prototxt).
    `shapes` holds one mapping a schedule, input name to dimensions; `batch_sizes` does where only the batch is free.
    `outputs` names what to compute; empty means the model's own. `workspace` is bytes a tactic may use for scratch.
    `builder_image` is the digest or tag of the builder's image, where that is another one than its version's own.
    `allow_host` lets layers that the GPU has no kernel for run on the CPU.
    """

    model: str
    format: ModelFormat = ModelFormat.ONNX
    companion: str = ""
    outputs: tuple[str, ...] = ()
    shapes: tuple[Mapping[str, tuple[int, ...]], ...] = ()
    batch_sizes: tuple[int, ...] = ()
    precisions: tuple[Precision, ...] = (Precision.FP32,)
    keep: tuple[PrecisionRule, ...] = ()
    calibration: str = ""
    calibration_samples: int = 512
    calibration_algorithm: str = "auto"
    workspace: int = 1 << 30
    effort: Effort = Effort.BALANCED
    plugins: tuple[str, ...] = ()
    gates: Gates = field(default_factory=Gates)
    allow_host: bool = False
    target: TargetRequirement
    builder: str
    builder_image: str = ""

    @property
    def arithmetic(self) -> Precision:
        """What a build does its floating-point arithmetic in: on a GPU the narrowest that is allowed, else fp32."""
        narrow = (Precision.FP16, Precision.BF16, Precision.TF32) if self.target.kind is TargetKind.CUDA else ()
        return next((each for each in narrow if each in self.precisions), Precision.FP32)

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON, 64 hexadecimal digits: the name of the plan."""
        return records.digest(self)
