"""What the Hopper matrix kernels (hopper_gemm.cu, hopper_split_gemm.cu) share on the builder's side: what they
take, how k is cut into chunks, how weights are packed, the kernel's text and its struct Geometry. Pure.

It repeats what kernels/hopper_tiles.cuh lays down and must never be changed without it.
"""

import functools
import math
import struct
from collections.abc import Callable, Mapping

import numpy as np

from enginewright_builder.device.implementation import Array, Constants
from enginewright_builder.device.problem import Problem
from enginewright_builder.tactics import epilogue_text, hopper_form, hopper_operand, hopper_pool
from enginewright_builder.tactics.hopper_form import Form
from enginewright_builder.tactics.hopper_operand import Matrix, Windows
from enginewright_builder.tactics.kernel_text import kernel_text
from enginewright_runtime.engine.cuda.program import Argument, Pointer, Space, TensorMap

ELEMENTS = {"float16": "Half", "bfloat16": "Bfloat16", "float32": "Float"}
WGMMA_KINDS = {"float16": "f16", "bfloat16": "bf16"}
ACTIVATIONS = {
    "": "none", "Relu": "relu", "Clip": "clip", "LeakyRelu": "leaky_relu", "Elu": "elu", "Sigmoid": "sigmoid",
    "HardSigmoid": "hard_sigmoid", "HardSwish": "hard_swish", "Tanh": "tanh", "Gelu": "gelu",
}  # fmt: skip
PARAMETERS = {  # of an activation: its names and what they are where absent (ONNX operators)
    "Clip": (("min", -math.inf), ("max", math.inf)),
    "LeakyRelu": (("alpha", 0.01),),
    "Elu": (("alpha", 1.0),),
    "HardSigmoid": (("alpha", 0.2), ("beta", 0.5)),
}
STEP = 64  # k a stage
ABSENT = Argument(value="00" * 128)  # a tensor map that the kernel does not read


def takes(problem: Problem, form: Form) -> bool:
    """Whether dtypes and strides are the kernel's; any epilogue is."""
    inputs = [problem.inputs[0], problem.inputs[1], *(problem.inputs[4:6])]
    kinds = {each.dtype for each in inputs if each is not None}
    out = problem.outputs[0].dtype
    halves = len(kinds) == 1 and next(iter(kinds)) in WGMMA_KINDS
    operands = (form.a, form.b, form.second, form.residual, form.out)
    return (
        halves
        and out in (*kinds, "float32")
        and (form.residual is None or form.residual.dtype == out)
        and all(each.addressable for each in operands if each is not None)
        and min(form.rows, form.columns, form.depth) > 0
    )


def chunk(form: Form) -> int:
    """k that a swizzled row of the buffers holds: less than 64 where that leaves less of each tap empty."""
    if not isinstance(form.a, Windows) or form.b is not None:
        return STEP
    return min((64, 32, 16), key=lambda size: (-(-form.depth // size) * size, -size))


def chunks(form: Form) -> tuple[int, int]:
    """Chunks of k of the first picture and of the second."""
    size = chunk(form)
    return form.taps * -(-form.depth // size), -(-form.second_depth // size)


def steps(form: Form) -> int:
    """Stages of 64 k a tile."""
    return -(-sum(chunks(form)) * chunk(form) // STEP)


def tile_count(form: Form, rows: int, columns: int) -> int:
    """Tiles of rows x columns in the whole problem."""
    return -(-form.rows // rows) * -(-form.columns // columns) * math.prod(form.batch)


def source(file: str, form: Form, tile: tuple[int, int, int], choices: Mapping[str, int | str]) -> str:
    """The text of a kernel: what is chosen as macros, then the file with its headers inside. `tile` is (warpgroups,
    columns, stages)."""
    dtype, tail = element(form), epilogue_text.tail(form.attributes, ACTIVATIONS)
    macros = {
        "WARPGROUPS": tile[0], "COLUMNS": tile[1], "STAGES": tile[2], "RESULTS": tile[1], **choices,
        "CHUNK": chunk(form),
        "ELEMENT": ELEMENTS[dtype], "OUTPUT": ELEMENTS[form.out.dtype], "WINDOWED": int(isinstance(form.a, Windows)),
        "PAIRED": int(form.second is not None), "BATCHED": int(form.batched),
        "RESIDUAL": int(form.residual is not None), "K_MAJOR": int(form.k_major), "PACKED": int(form.b is None),
        "ACTIVATION": activation(form), "GATED": int(bool(form.attributes.get("gated"))), **_patch(form),
    }  # fmt: skip
    if tail:
        macros |= {"ACTIVATION": "none", "GATED": 0, "TAIL(y, r)": "tail(y, r)",
                   "APART": int(epilogue_text.takes_residual(tail))}  # fmt: skip
    products = wgmma(tile[1], WGMMA_KINDS[dtype], transposed=not form.k_major)
    return kernel_text(file, macros, epilogue_text.text(tail)).replace('#include "wgmma.generated"\n', products)


def _patch(form: Form) -> dict[str, int]:
    patch = form.patches
    sizes = (patch.width, patch.height, patch.images) if patch else (0, 0, 0)
    return dict(zip(("PATCH_WIDTH", "PATCH_HEIGHT", "PATCH_IMAGES"), sizes, strict=True))


def wgmma(
    columns: int, kind: str, *, transposed: bool, left_in_registers: bool = False, name: str = "multiply_add"
) -> str:
    """A function `name`: d (64 x columns) += a (64 x 16) b (columns x 16), the sums in this warpgroup's registers; a in
    shared memory, or in registers too."""
    count = columns // 2
    names = ", ".join(f"%{i}" for i in range(count))
    registers = ", ".join(f'"+f"(d[{i}])' for i in range(count))
    if left_in_registers:
        taken, flags = 4, f"p, 1, 1, {int(transposed)}"
        parameter, left = "const uint32_t (&a)[4]", "{" + ", ".join(f"%{count + i}" for i in range(taken)) + "}"
        given = ", ".join(f'"r"(a[{i}])' for i in range(taken))
    else:
        taken, flags = 1, f"p, 1, 1, 0, {int(transposed)}"
        parameter, left, given = "uint64_t a", f"%{count}", '"l"(a)'
    right = count + taken
    return (
        f"INLINE void {name}(float (&d)[{count}], {parameter}, uint64_t b, bool add) {{\n"
        f'    asm volatile("{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{right + 1}, 0;\\n"\n'
        f'        "wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{kind}.{kind} {{{names}}}, "\n'
        f'        "{left}, %{right}, {flags};\\n}}"\n'
        f'        : {registers} : {given}, "l"(b), "r"((int)add));\n}}\n'
    )


def packers(form: Form, columns: int) -> Mapping[str, Callable[[Constants], Array]]:
    """What makes the constants, for tiles of so many columns."""
    made: dict[str, Callable[[Constants], Array]] = {
        "bias": functools.partial(pack_bias, -(-form.columns // columns) * columns)
    }
    if form.b is None:
        made["weights"] = functools.partial(pack_weights, form)
    return made


def pack_weights(form: Form, constants: Constants) -> Array:
    """[chunk][output][k of a chunk], tap by tap; a tap's channels (and the pair's behind all) filled up with zeros."""
    weights, size = constants[hopper_form.WEIGHTS], chunk(form)
    if form.product:  # (..., k, n), the same for the whole batch
        weights = weights[(0,) * (weights.ndim - 2)].T
    parts = [weights.reshape(form.columns, form.depth, form.taps).transpose(0, 2, 1)]
    if form.second is not None:
        parts.append(constants[hopper_form.SECOND_WEIGHTS].reshape(form.columns, 1, form.second_depth))
    filled = [np.pad(part, ((0, 0), (0, 0), (0, -part.shape[2] % size))).reshape(form.columns, -1) for part in parts]
    return np.ascontiguousarray(np.concatenate(filled, axis=1).reshape(form.columns, -1, size).transpose(1, 0, 2))


def pack_bias(columns: int, constants: Constants) -> Array:
    """float32, one number broadcast, filled with zeros to whole tiles."""
    packed = np.zeros(columns, np.float32)
    bias = constants.get(hopper_form.BIAS)
    if bias is not None:
        flat = bias.reshape(-1).astype(np.float32)
        packed[: flat.size if flat.size > 1 else columns] = flat
    return packed


def activations_map(form: Form, rows: int) -> TensorMap:
    """Of a."""
    size = chunk(form)
    if isinstance(form.a, Windows) and form.patches is not None:
        box = (size, form.patches.width, form.patches.height, form.patches.images)
        return hopper_operand.picture_map(form.a.pointer, form.a.picture, box, 2 * size)
    if isinstance(form.a, Windows):
        return form.a.tensor_map(size, rows)
    return form.a.tensor_map((size, rows), 2 * size, batched=form.batched)


def second_map(form: Form, rows: int) -> Argument:
    """Of the pair's picture, if there is one."""
    return Argument(tensor_map=form.second.tensor_map(chunk(form), rows)) if form.second else ABSENT


def panel_bytes(columns: int, item: int, *, residual: bool) -> tuple[int, int]:
    """How wide a staged tile's panels are, and their swizzle: the widest that divides a row, or whole rows and 0."""
    swizzles = (128, 64, 32) if residual else (128, 64)
    return next(((each, each) for each in swizzles if columns * item % each == 0), (columns * item, 0))


def result_maps(form: Form, rows: int, columns: int) -> tuple[Argument, Argument]:
    """Of the residual, if there is one, and of the output, in panels of a tile of rows x columns."""
    width, swizzle = panel_bytes(columns, form.out.item, residual=form.residual is not None)
    box = (width // form.out.item, rows)
    residual = ABSENT
    if form.patches is not None:
        return residual, Argument(tensor_map=pooled_map(form, width, swizzle))
    if form.residual is not None:
        residual = Argument(tensor_map=form.residual.tensor_map(box, swizzle, batched=form.batched))
    return residual, Argument(tensor_map=form.out.tensor_map(box, swizzle, batched=form.batched))


def pooled_map(form: Form, width: int, swizzle: int) -> TensorMap:
    """Of the output behind a max pool, in panels of `width` bytes of a patch."""
    assert form.patches is not None, "there is a pool"
    patch, y = form.patches, form.patches.y
    box = (width // form.out.item, patch.width // hopper_pool.SIDE, patch.height // hopper_pool.SIDE, patch.images)
    return hopper_operand.picture_map(form.out.pointer, y, box, swizzle)


def bias_argument() -> Argument:
    """The packed constant "bias"."""
    return Argument(pointer=Pointer(space=Space.CONSTANT, name="bias"))


def element(form: Form) -> str:
    """The dtype of a and b."""
    return form.a.dtype if isinstance(form.a, Matrix) else form.a.picture.dtype


def weights_map(form: Form, columns: int, name: str = "weights") -> TensorMap:
    """Of b: an operand, or the packed constant `name`."""
    size = chunk(form)
    if form.b is not None:
        box = (size, columns) if form.k_major else (STEP, STEP)
        return form.b.tensor_map(box, 2 * size, batched=form.batched)
    rows = sum(chunks(form)) * form.columns
    pointer = Pointer(space=Space.CONSTANT, name=name)
    packed = Matrix(pointer=pointer, dtype=element(form), rows=rows, columns=size, stride=size)
    return packed.tensor_map((size, columns), 2 * size, batched=False)


def geometry(form: Form, rows: int, columns: int) -> bytes:
    """struct Geometry of the kernel."""
    first, second = chunks(form)
    height, width = form.picture
    windows = form.a if isinstance(form.a, Windows) else None
    pairs = (windows.stride, windows.begin, windows.dilation) if windows else ((1, 1), (0, 0), (1, 1))
    second_stride = form.second.stride if form.second else (1, 1)
    moves = [
        int(each is not None and extent > 1)
        for each in (form.a if isinstance(form.a, Matrix) else None, form.b)
        for extent in (each.extents if each is not None else (1, 1))
    ]
    numbers = struct.pack(
        "<25i",
        *(tile_count(form, rows, columns), -(-form.columns // columns), -(-form.rows // rows), steps(form)),
        *(first // form.taps, windows.kernel[1] if windows else 1, first, first + second),
        *(width, height * width),
        *(number for vertical, horizontal in pairs for number in (horizontal, vertical)),
        *(second_stride[1], second_stride[0]),
        *(form.batch[0], *moves),
        *(0, form.columns),
    )
    return numbers + epilogue(form)


def epilogue(form: Form) -> bytes:
    """struct Epilogue of the kernels."""
    parameters = form.attributes.get("activation_parameters", {})
    known = PARAMETERS.get(form.attributes.get("activation", ""), ())
    alpha, beta = [float(parameters.get(name, default)) for name, default in known] + [0.0] * (2 - len(known))
    return struct.pack("<3f", form.scale, alpha, beta)


def activation(form: Form) -> str | None:
    """The kernel's name of the epilogue's activation, None where it has none."""
    name = form.attributes.get("activation", "")
    if name == "Gelu" and form.attributes.get("activation_parameters", {}).get("approximate") == "tanh":
        return "gelu_tanh"
    return ACTIVATIONS.get(name)
