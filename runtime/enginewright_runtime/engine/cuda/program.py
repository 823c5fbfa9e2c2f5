"""The device program: what a plan says about one device segment, as plain records. Pure, standard library only.

A program is a list of steps in the order in which they run: kernels from cubins, graphs of cuDNN, matrix products of
cuBLASLt, fills and copies. The executor binds its pointers to memory once, runs the steps once to warm up, captures
them into one CUDA graph, and from then on an inference is one graph launch.

Memory has four spaces. `blob` is a blob of the plan, uploaded once an engine and shared by its schedules (weights).
`arena` is the context's one block for everything between layers, workspaces included. `input` and `output` are blocks
of the context that hold the segment's inputs and outputs, so that their addresses are fixed for the graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

FORMAT_VERSION = 1


class Space(StrEnum):
    """Where a pointer points. `OPERAND`, `CONSTANT` and `WORKSPACE` stand in a builder's implementations only."""

    BLOB = "blob"
    ARENA = "arena"
    INPUT = "input"
    OUTPUT = "output"
    OPERAND = "operand"
    CONSTANT = "constant"
    WORKSPACE = "workspace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """A device address: `offset` bytes into a space. `name` is the blob's, input's, output's, operand's, constant's."""

    space: Space
    name: str = ""
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Im2col:
    """cuTensorMapEncodeIm2col instead of Tiled: the box corners of the pixels, channels and pixels a column."""

    lower: tuple[int, ...]
    upper: tuple[int, ...]
    channels: int
    pixels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorMap:
    """A TMA descriptor (CUDA driver API, cuTensorMapEncode*), passed by value as a __grid_constant__ parameter.

    `dims` and `strides` go from the innermost dimension outwards; `strides` are in bytes and leave out the innermost.
    `swizzle` is 0, 32, 64 or 128 (bytes), `l2_promotion` 0, 64, 128 or 256.
    """

    pointer: Pointer
    dtype: str
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...] = ()
    element_strides: tuple[int, ...] = ()
    swizzle: int = 0
    l2_promotion: int = 128
    im2col: Im2col | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One kernel parameter: exactly one of a pointer, a tensor map, or raw bytes in hexadecimal (scalar, struct)."""

    pointer: Pointer | None = None
    tensor_map: TensorMap | None = None
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A launch of a function of a cubin. `grid`, `block`, `cluster` have three numbers (cluster may be empty).

    `dependent` asks for programmatic dependent launch: the kernel may start before its predecessor has ended, and must
    execute griddepcontrol.wait before it reads or writes anything that is not constant.
    """

    cubin: str
    function: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    arguments: tuple[Argument, ...]
    shared_bytes: int = 0
    cluster: tuple[int, ...] = ()
    dependent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CudnnGraph:
    """A cuDNN graph with its engine chosen, serialized by the frontend (blob `graph`). Pointers by tensor uid."""

    graph: str
    tensors: Mapping[str, Pointer]
    workspace: Pointer | None = None
    workspace_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixLayout:
    """A cuBLASLt matrix: column-major as the library has it. `leading` and `batch_stride` are in elements."""

    dtype: str
    rows: int
    columns: int
    leading: int
    batch: int = 1
    batch_stride: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixProduct:
    """d = epilogue(alpha * op(a) op(b) + beta * c + bias), by cublasLtMatmul with `algorithm` (hexadecimal of
    cublasLtMatmulAlgo_t). `compute` is a name of cublasComputeType_t, `epilogue` of cublasLtEpilogue_t."""

    a: Pointer
    b: Pointer
    c: Pointer
    d: Pointer
    a_layout: MatrixLayout
    b_layout: MatrixLayout
    c_layout: MatrixLayout
    d_layout: MatrixLayout
    compute: str
    scale: str
    algorithm: str
    transpose_a: bool = False
    transpose_b: bool = False
    alpha: float = 1.0
    beta: float = 0.0
    epilogue: str = "DEFAULT"
    bias: Pointer | None = None
    bias_dtype: str = ""
    workspace: Pointer | None = None
    workspace_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """Every byte of a stretch becomes `value` (cuMemsetD8Async)."""

    pointer: Pointer
    bytes: int
    value: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """`bytes` bytes from one place on the device to another."""

    source: Pointer
    target: Pointer
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One launch: exactly one of the five. `layer` names the layer that it belongs to, for reports and errors."""

    layer: str
    kernel: Kernel | None = None
    cudnn: CudnnGraph | None = None
    product: MatrixProduct | None = None
    fill: Fill | None = None
    copy: Copy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input or output of the segment: contiguous, C order, `bytes` long, in its own space."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProgram:
    """All that a device segment needs. `libraries` names what the steps call (cudnn, cublaslt) with their versions."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    arena_bytes: int
    steps: tuple[Step, ...]
    libraries: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT_VERSION
