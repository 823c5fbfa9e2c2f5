"""Matrix products with their whole epilogue by one Triton kernel (kernels/matrix_product.py), on GPUs for which we have
no kernels of our own: there the rival of cuBLASLt, whose epilogues know a few activations and no gate.

On Hopper it takes what hopper_gemm.py does not: operands that the copy engine cannot address. Constant weights are
packed as rows of one output each. hopper_form.py says what a problem comes to; this module chooses tiles.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

import numpy as np

from enginewright_builder.device import compile_triton as compiler
from enginewright_builder.device import tensors
from enginewright_builder.device.compile_triton import Constant, TritonKernel
from enginewright_builder.device.implementation import Array, Candidate, Constants, Device, Implementation
from enginewright_builder.device.problem import Problem
from enginewright_builder.device.tensors import TensorType
from enginewright_builder.tactics import hopper_form, hopper_launch, hopper_operand
from enginewright_builder.tactics.hopper_form import BIAS, RESIDUAL, WEIGHTS, Form
from enginewright_builder.tactics.hopper_operand import Matrix
from enginewright_runtime.engine.cuda.program import Pointer, Space
from enginewright_runtime.errors import UnsupportedError

NAME = "triton product"
GROUP = 8  # rows of tiles that share columns of b in the L2 cache
UNIT = 8  # elements of 16 bytes, to which rows of packed weights are filled up
_HALF = ("float16", "bfloat16")
_MOST_BYTES = 1 << 31  # of an operand: offsets are counted in 32 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """Rows and columns of y that a program computes, the depth of a step, its warps, and steps in flight."""

    rows: int
    columns: int
    step: int
    warps: int
    stages: int

    @property
    def name(self) -> str:
        """What the timing cache keeps."""
        return f"{self.rows}x{self.columns}x{self.step}, {self.warps} warps, {self.stages} stages"

    @property
    def shared_bytes(self) -> int:
        """What the steps in flight take; the compiler may want more."""
        return self.stages * (self.rows + self.columns) * self.step * 2


TILES = tuple(
    Tile(rows=rows, columns=columns, step=step, warps=warps, stages=stages)
    for rows, columns, step, warps, stages in (
        (128, 256, 64, 8, 3), (128, 128, 64, 8, 3), (128, 128, 32, 4, 4), (128, 64, 64, 4, 3), (64, 128, 64, 4, 3),
        (64, 64, 64, 4, 4), (64, 32, 64, 4, 4), (32, 64, 64, 4, 4), (32, 32, 128, 4, 3), (16, 128, 64, 4, 4),
        (16, 64, 128, 4, 3), (16, 32, 128, 4, 4),
    )
)  # fmt: skip


class TritonProduct:
    """A Tactic (device/implementation.py). Capability 8.0 and later; half types in, the same or float32 out."""

    name = NAME
    reason = "a product with any epilogue in one launch, where no kernel of ours is"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """The tiles that ought to be fastest, best first; none where the builder has no Triton."""
        if "triton" not in device.libraries or refusal(problem, device, constant):
            return ()
        form = hopper_form.of_problem(problem, constant)
        assert form is not None, "it was not refused"
        fitting = [tile for tile in TILES if tile.shared_bytes <= device.shared_bytes]
        return tuple(
            Candidate(
                tactic=NAME,
                name=tile.name,
                build=functools.partial(implementation, problem, constant, tile, device),
            )
            for tile in sorted(fitting, key=lambda tile: cycles(form, tile, device))
        )


def refusal(problem: Problem, device: Device, constant: frozenset[int]) -> str:
    """Why the tactic does not take a problem, as the end of a sentence; "" where it does."""
    present = [each for each in problem.operands if each is not None]
    if not all(each.size for each in present):
        return "it has an operand without elements"
    form = hopper_form.of_problem(problem, constant)
    if form is None:
        return "it is no product of matrices with contiguous rows"
    checks: tuple[tuple[Callable[[], bool], str], ...] = (
        (lambda: device.capability >= 80, "its tiles are for compute capability 8.0 and later"),
        (lambda: not {"pair", "pool", "tail"} & set(problem.attributes), "it has a pair, a pool or a tail"),
        (lambda: isinstance(form.a, Matrix), "it reads windows"),
        (lambda: _dtypes_fit(problem), "its operands are not of one half type, or y is neither that nor float32"),
        (
            lambda: problem.attributes.get("activation", "") in hopper_launch.ACTIVATIONS,
            "its activation is not in the kernel",
        ),
        (lambda: all(each.span_bytes < _MOST_BYTES for each in present), "an operand has 2 GiB or more"),
        (lambda: device.capability != 90 or not hopper_launch.takes(problem, form), "Hopper's kernels take it"),
    )
    return next((reason for holds, reason in checks if not holds()), "")


def cycles(form: Form, tile: Tile, device: Device) -> float:
    """A guess: waves of tiles, bound by products (1024 a cycle) or loads (32 bytes a cycle), then stored."""
    products, loads = tile.rows * tile.columns / 1024, (tile.rows + tile.columns) * 2 / 32
    waves = -(-_tiles(form, tile) * math.prod(form.batch) // device.multiprocessors)
    return waves * (form.depth * max(products, loads) + tile.rows * tile.columns * form.out.item / 16 + 500)


def implementation(problem: Problem, constant: frozenset[int], tile: Tile, device: Device) -> Implementation:
    """One launch. Raises KernelCompileError, and UnsupportedError where it wants more shared memory than there is."""
    form = hopper_form.of_problem(problem, constant)
    assert form is not None, "a candidate was made of this problem"
    operands = _operands(problem, form)
    kernel = TritonKernel(
        text=source(),
        entry="matrix_product",
        pointers=tuple(kind for kind, _ in operands.values()),
        constants={**{name: None for name in ("bias", "residual") if name not in operands}, **_choices(form, tile)},
        warps=tile.warps,
        stages=tile.stages,
    )
    made = compiler.compile(kernel, device.capability)
    if made.shared_bytes > device.shared_bytes:
        raise UnsupportedError(
            f"The tile {tile.name} takes {made.shared_bytes} bytes of shared memory, and a block of this GPU has "
            f"{device.shared_bytes}: try a smaller one."
        )
    packers = {"weights": functools.partial(_weights, form), "bias": functools.partial(_bias, form)}
    blocks = (_tiles(form, tile), math.prod(form.batch), 1)
    return Implementation(
        steps=(compiler.launch(made, "matrix_product", blocks, [pointer for _, pointer in operands.values()]),),
        cubins={"matrix_product": made.cubin},
        constants={
            pointer.name: packers[pointer.name] for _, pointer in operands.values() if pointer.space is Space.CONSTANT
        },
        workspace_bytes=made.scratch_bytes * math.prod(blocks),
    )


def source() -> str:
    """The kernel's module."""
    return (resources.files("enginewright_builder") / "kernels" / "matrix_product.py").read_text(encoding="utf-8")


def _tiles(form: Form, tile: Tile) -> int:
    return -(-form.rows // tile.rows) * -(-form.columns // tile.columns)


def _operands(problem: Problem, form: Form) -> dict[str, tuple[TensorType, Pointer]]:
    """What the kernel's pointers point to, by its parameters' names in their order; absent ones are left out."""
    inputs = (*problem.inputs, None, None)[:4]
    a, b, bias, residual = inputs
    assert a is not None, "a product has an a"
    assert b is not None, "a product has a b"
    found = {"a": (a, hopper_operand.operand(0)), "b": (b, hopper_operand.operand(WEIGHTS))}
    if form.b is None:
        kind = tensors.plain(b.dtype, (form.columns, _filled(form)))
        found["b"] = (kind, Pointer(space=Space.CONSTANT, name="weights"))
    if bias is not None:
        found["bias"] = (tensors.plain("float32", (form.columns,)), Pointer(space=Space.CONSTANT, name="bias"))
    if residual is not None:
        found["residual"] = (residual, hopper_operand.operand(RESIDUAL))
    return found | {"y": (problem.outputs[0], hopper_operand.operand(len(problem.inputs)))}


def _choices(form: Form, tile: Tile) -> dict[str, Constant]:
    """The kernel's constants. Strides of two batch dimensions are of the inner one and of the outer one."""
    assert isinstance(form.a, Matrix), "windows were refused"
    b_depth, b_column = (1, _filled(form)) if form.b is None else (1, form.b.stride)
    if form.b is not None and not form.k_major:
        b_depth, b_column = b_column, b_depth
    b_batch = (0, 0) if form.b is None else form.b.apart
    residual = (form.residual.stride, *form.residual.apart) if form.residual is not None else (0, 0, 0)
    attributes = form.attributes
    activation, parameters = attributes.get("activation", ""), attributes.get("activation_parameters", {})
    known = hopper_launch.PARAMETERS.get(activation, ())
    first, second = ([float(parameters.get(name, default)) for name, default in known] + [0.0, 0.0])[:2]
    if activation == "Gelu" and parameters.get("approximate") == "tanh":
        activation = "Gelu by tanh"
    return {
        "ROWS": form.rows, "COLUMNS": form.columns, "DEPTH": form.depth, "INNER": form.batch[0],
        "A_ROW": form.a.stride, "A_INNER": form.a.apart[0], "A_OUTER": form.a.apart[1],
        "B_DEPTH": b_depth, "B_COLUMN": b_column, "B_INNER": b_batch[0], "B_OUTER": b_batch[1],
        "RESIDUAL_ROW": residual[0], "RESIDUAL_INNER": residual[1], "RESIDUAL_OUTER": residual[2],
        "Y_ROW": form.out.stride, "Y_INNER": form.out.apart[0], "Y_OUTER": form.out.apart[1],
        "ALPHA": form.scale, "ACTIVATION": activation, "FIRST": first, "SECOND": second,
        "GATED": bool(attributes.get("gated", False)),
        "TILE_ROWS": tile.rows, "TILE_COLUMNS": tile.columns, "STEP": tile.step, "GROUP": GROUP,
    }  # fmt: skip


def _filled(form: Form) -> int:
    """Elements of a row of packed weights."""
    return -(-form.depth // UNIT) * UNIT


def _weights(form: Form, constants: Constants) -> Array:
    """(..., k, n), the same for the whole batch, or (n, k, 1...) as n rows of k, filled up with zeros."""
    given = constants[WEIGHTS]
    rows = given[(0,) * (given.ndim - 2)].T if form.product else given.reshape(form.columns, form.depth)
    return np.pad(rows, ((0, 0), (0, _filled(form) - form.depth)))


def _bias(form: Form, constants: Constants) -> Array:
    return np.ascontiguousarray(np.broadcast_to(constants[BIAS].reshape(-1), (form.columns,)).astype(np.float32))


def _dtypes_fit(problem: Problem) -> bool:
    a, b, y = problem.inputs[0], problem.inputs[1], problem.outputs[0].dtype
    return a is not None and b is not None and a.dtype == b.dtype in _HALF and y in (a.dtype, "float32")
