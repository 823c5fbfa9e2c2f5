"""What a plan says about itself: a JSON text that a person can read (`enginewright inspect`).

The manifest names every blob with its sha256, so whoever trusts the manifest trusts the whole plan.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from enginewright_runtime.plan.recipe import Recipe
from enginewright_runtime.plan.target import Target

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Bytes in the plan: `offset` counts from the start of the blob area."""

    offset: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """An input or output of the whole engine.

    `dtype` is NumPy's name (ml_dtypes' for bfloat16 and the small floats), "string" for text. A dimension of -1 is
    known only when it has been computed; `shape` is None where even the rank is. `container` is "tensor", "sequence"
    or "optional": what is not "tensor" cannot be served over the network.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None = None
    container: str = "tensor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of layers that one executor takes. `options` is the executor's own, chosen by tuning."""

    executor: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    blob: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a tensor lies in the arena, and from which layer to which it lives (both inclusive)."""

    offset: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """The memory plan of one schedule, in bytes. `lower_bound` is the most that is alive at one layer."""

    bytes: int
    sum_of_tensors: int
    lower_bound: int
    tensors: Mapping[str, Placement] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How the engine runs for one set of input shapes."""

    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]
    segments: tuple[Segment, ...]
    arena: Arena | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenTensor:
    """A tensor kept in the plan, C order, little endian."""

    blob: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Inputs and the outputs that they must give before an engine is ready.

    An output agrees where |got - kept| <= absolute + relative * |kept|.
    """

    schedule: int
    inputs: Mapping[str, GoldenTensor]
    outputs: Mapping[str, GoldenTensor]
    absolute: float
    relative: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The whole of a plan but its blobs. `report` is for people: its inside is not part of the format."""

    recipe: Recipe
    digest: str
    target: Target
    builder: str
    schedules: tuple[Schedule, ...]
    blobs: Mapping[str, Blob]
    goldens: tuple[Golden, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT_VERSION
