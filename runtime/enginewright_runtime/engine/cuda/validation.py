"""Whether a device program holds together: every pointer inside its block, every launch within what a GPU takes.

A plan is a file that may be damaged or made by somebody else. What its kernels do cannot be known, but nothing that
the runtime itself does with the program may reach outside the memory that the program has. Pure.
"""

import math
from collections.abc import Callable, Iterator, Sequence

from enginewright_runtime.engine.cuda.program import (
    FORMAT_VERSION,
    DeviceProgram,
    Kernel,
    Pointer,
    Space,
    Step,
    Tensor,
    TensorMap,
)
from enginewright_runtime.engine.cuda.tensor_maps import DATA_TYPES, PROMOTIONS, SWIZZLES
from enginewright_runtime.engine.values import DTYPES, STRING
from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan import records
from enginewright_runtime.plan.manifest import Segment

# CUDA C++ programming guide, table "Technical specifications": the same for all compute capabilities from 7.5 on,
# but shared memory, which the driver checks against the device itself.
GRID_LIMITS = ((1 << 31) - 1, 65535, 65535)
BLOCK_LIMITS = (1024, 1024, 64)
THREAD_LIMIT = 1024
CLUSTER_LIMIT = 16
SHARED_LIMIT = 227 << 10
PARAMETER_LIMIT = 32764
MEMORY_LIMIT = 1 << 48  # bytes that an address can tell apart

Bytes = Callable[[str], int | None]


class _Misfit(Exception):
    """What is wrong, as the end of a sentence."""


def pointers(step: Step) -> Iterator[Pointer]:
    """Every pointer of a step."""
    for pointer, _ in _stretches(step):
        yield pointer


def check(program: DeviceProgram, *, what: str, blob_bytes: Bytes) -> None:
    """Raises PlanError naming the step and layer. `blob_bytes` gives a blob's length, None where there is none."""
    try:
        sizes = _sizes(program)
    except _Misfit as misfit:
        raise PlanError(f"The program of {what} {misfit}: build the plan again.") from None
    for index, step in enumerate(program.steps):
        try:
            _check_step(step, sizes, blob_bytes)
        except _Misfit as misfit:
            raise PlanError(f"Step {index} of {what} (layer {step.layer!r}) {misfit}: build the plan again.") from None


def libraries(text: bytes, *, what: str) -> dict[str, str]:
    """The vendor libraries that a program's steps call, with their versions; the rest of it is not looked at."""
    read = records.parse(text, what=what)
    named = read.get("libraries", {}) if isinstance(read, dict) else {}
    if not isinstance(named, dict) or not all(isinstance(version, str) for version in named.values()):
        raise PlanError(f"{what} has libraries that must be names with versions: build the plan again.")
    return named


def check_segment(program: DeviceProgram, segment: Segment) -> None:
    """Raises PlanError where program and manifest do not have the same inputs and outputs."""
    inputs, outputs = {t.name for t in program.inputs}, {t.name for t in program.outputs}
    if inputs != set(segment.inputs) or outputs != set(segment.outputs):
        raise PlanError(
            f"The manifest gives the device segment {segment.blob!r} the inputs {sorted(segment.inputs)} and outputs "
            f"{sorted(segment.outputs)}, and its program has {sorted(inputs)} and {sorted(outputs)}: build it again."
        )


def _sizes(program: DeviceProgram) -> dict[tuple[Space, str], int]:
    if program.format != FORMAT_VERSION:
        raise _Misfit(f"is of format {program.format}, and this runtime reads {FORMAT_VERSION}")
    if not 0 <= program.arena_bytes < MEMORY_LIMIT:
        raise _Misfit(f"wants an arena of {program.arena_bytes} bytes")
    sizes = {(Space.ARENA, ""): program.arena_bytes}
    for space, tensors in ((Space.INPUT, program.inputs), (Space.OUTPUT, program.outputs)):
        for tensor in tensors:
            if (space, tensor.name) in sizes:
                raise _Misfit(f"has two {space}s named {tensor.name!r}")
            _check_tensor(tensor, space)
            sizes[space, tensor.name] = tensor.bytes
    return sizes


def _check_tensor(tensor: Tensor, space: Space) -> None:
    if tensor.dtype not in DTYPES or tensor.dtype == STRING:
        raise _Misfit(f"has the {space} {tensor.name!r} of dtype {tensor.dtype!r}, which no GPU segment takes")
    if any(extent < 0 for extent in tensor.shape):
        raise _Misfit(f"has the {space} {tensor.name!r} of shape {list(tensor.shape)}")
    wanted = math.prod(tensor.shape) * DTYPES[tensor.dtype].itemsize
    if tensor.bytes != wanted or wanted >= MEMORY_LIMIT:
        raise _Misfit(
            f"gives the {space} {tensor.name!r} {tensor.bytes} bytes, "
            f"and {tensor.dtype} {list(tensor.shape)} takes {wanted}"
        )


def _check_step(step: Step, sizes: dict[tuple[Space, str], int], blob_bytes: Bytes) -> None:
    kinds = (step.kernel, step.cudnn, step.product, step.fill, step.copy)
    if sum(each is not None for each in kinds) != 1:
        raise _Misfit("must be exactly one of kernel, cudnn, product, fill and copy")
    if step.kernel is not None:
        _check_kernel(step.kernel, blob_bytes)
    if step.cudnn is not None and blob_bytes(step.cudnn.graph) is None:
        raise _Misfit(f"names the cuDNN graph {step.cudnn.graph!r}, which is no blob of the plan")
    if step.fill is not None and not 0 <= step.fill.value <= 255:
        raise _Misfit(f"fills with {step.fill.value}, which is no byte")
    for pointer, extent in _stretches(step):
        _check_pointer(pointer, extent, sizes, blob_bytes)


def _check_pointer(pointer: Pointer, extent: int, sizes: dict[tuple[Space, str], int], blob_bytes: Bytes) -> None:
    if pointer.space is Space.BLOB:
        size = blob_bytes(pointer.name)
    else:
        size = sizes.get((pointer.space, "" if pointer.space is Space.ARENA else pointer.name))
    place = pointer.space if pointer.space is Space.ARENA else f"{pointer.space} {pointer.name!r}"
    if size is None:
        raise _Misfit(f"points to the {place}, which there is not")
    if pointer.offset < 0 or extent < 0 or pointer.offset + extent > size:
        reach = f"{extent} bytes at offset {pointer.offset}" if extent else f"offset {pointer.offset}"
        raise _Misfit(f"points to {reach} of the {place}, which has {size} bytes")


def _stretches(step: Step) -> Iterator[tuple[Pointer, int]]:
    """Pointers with how many bytes from there on are surely touched; 0 where only the kernel knows."""
    if step.kernel is not None:
        for argument in step.kernel.arguments:
            if argument.pointer is not None:
                yield argument.pointer, 0
            if argument.tensor_map is not None:
                yield argument.tensor_map.pointer, _span(argument.tensor_map)
    if step.cudnn is not None:
        yield from ((pointer, 0) for pointer in step.cudnn.tensors.values())
        if step.cudnn.workspace is not None:
            yield step.cudnn.workspace, step.cudnn.workspace_bytes
    if step.product is not None:
        product = step.product
        yield from ((pointer, 0) for pointer in (product.a, product.b, product.c, product.d))
        if product.bias is not None:
            yield product.bias, 0
        if product.workspace is not None:
            yield product.workspace, product.workspace_bytes
    if step.fill is not None:
        yield step.fill.pointer, step.fill.bytes
    if step.copy is not None:
        yield step.copy.source, step.copy.bytes
        yield step.copy.target, step.copy.bytes


def _span(tensor_map: TensorMap) -> int:
    item = DTYPES[tensor_map.dtype].itemsize if tensor_map.dtype in DTYPES else 0
    strides = (item, *tensor_map.strides)
    return sum((extent - 1) * stride for extent, stride in zip(tensor_map.dims, strides, strict=False)) + item


def _check_kernel(kernel: Kernel, blob_bytes: Bytes) -> None:
    if blob_bytes(kernel.cubin) is None:
        raise _Misfit(f"names the cubin {kernel.cubin!r}, which is no blob of the plan")
    _check_extents("grid", kernel.grid, GRID_LIMITS)
    _check_extents("block", kernel.block, BLOCK_LIMITS)
    if math.prod(kernel.block) > THREAD_LIMIT:
        raise _Misfit(f"has a block of {math.prod(kernel.block)} threads, and {THREAD_LIMIT} are the most")
    if kernel.cluster:
        _check_extents("cluster", kernel.cluster, (CLUSTER_LIMIT,) * 3)
        if math.prod(kernel.cluster) > CLUSTER_LIMIT:
            raise _Misfit(f"has a cluster of {math.prod(kernel.cluster)} blocks, and {CLUSTER_LIMIT} are the most")
        if any(blocks % extent for blocks, extent in zip(kernel.grid, kernel.cluster, strict=True)):
            raise _Misfit(f"has a grid of {list(kernel.grid)}, which clusters of {list(kernel.cluster)} do not divide")
    if not 0 <= kernel.shared_bytes <= SHARED_LIMIT:
        raise _Misfit(f"wants {kernel.shared_bytes} bytes of shared memory, and {SHARED_LIMIT} are the most")
    _check_arguments(kernel)


def _check_extents(name: str, extents: Sequence[int], limits: Sequence[int]) -> None:
    fits = len(extents) == 3 and all(1 <= extent <= limit for extent, limit in zip(extents, limits, strict=True))
    if not fits:
        raise _Misfit(f"has the {name} {list(extents)}, and it must be three numbers from 1 to {list(limits)}")


def _check_arguments(kernel: Kernel) -> None:
    total = 0
    for number, argument in enumerate(kernel.arguments):
        given = (argument.pointer is not None) + (argument.tensor_map is not None) + bool(argument.value)
        if given != 1:
            raise _Misfit(f"has an argument {number} that is not exactly one of pointer, tensor map and value")
        if argument.tensor_map is not None:
            _check_tensor_map(argument.tensor_map, number)
            total += 128
        elif argument.pointer is not None:
            total += 8
        else:
            total += _value_bytes(argument.value, number)
    if total > PARAMETER_LIMIT:
        raise _Misfit(f"has {total} bytes of arguments, and {PARAMETER_LIMIT} are the most")


def _value_bytes(text: str, number: int) -> int:
    try:
        return len(bytes.fromhex(text))
    except ValueError:
        raise _Misfit(f"has an argument {number} that is not hexadecimal") from None


def _check_tensor_map(tensor_map: TensorMap, number: int) -> None:
    rank = len(tensor_map.dims)
    fits = (
        1 <= rank <= 5
        and len(tensor_map.strides) == rank - 1
        and len(tensor_map.element_strides) in (0, rank)
        and all(1 <= extent <= 1 << 32 for extent in tensor_map.dims)
        and all(0 <= stride < 1 << 40 and stride % 16 == 0 for stride in tensor_map.strides)
        and all(1 <= step <= 8 for step in tensor_map.element_strides)
        and _traversal_fits(tensor_map, rank)
    )
    known = tensor_map.dtype in DATA_TYPES and tensor_map.swizzle in SWIZZLES and tensor_map.l2_promotion in PROMOTIONS
    if not fits or not known:
        raise _Misfit(f"has an argument {number} whose tensor map no GPU takes ({tensor_map})")


def _traversal_fits(tensor_map: TensorMap, rank: int) -> bool:
    """cuTensorMapEncodeTiled: a box for every dimension; cuTensorMapEncodeIm2col: corners for the spatial ones."""
    if tensor_map.im2col is None:
        return len(tensor_map.box) == rank and all(1 <= extent <= 256 for extent in tensor_map.box)
    im2col = tensor_map.im2col
    corners = len(im2col.lower) == len(im2col.upper) == rank - 2
    inside = all(-(1 << 15) <= corner < 1 << 15 for corner in (*im2col.lower, *im2col.upper))
    return rank >= 3 and corners and inside and 1 <= im2col.channels <= 256 and 1 <= im2col.pixels <= 1024
