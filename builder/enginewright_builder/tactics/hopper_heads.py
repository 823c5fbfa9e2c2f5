"""Attention of one product's columns on Hopper in one launch (kernels/hopper_heads.cu): short sequences, heads of 64.

The problem is of Kind.HEADS: a product's inputs, its weights constant, and attention's output. A block makes one head
of one sequence, so it pays where these fill the device.
"""

import functools
import struct

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Candidate, Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import plain
from enginewright_builder.tactics import hopper_form, hopper_launch, hopper_operand
from enginewright_builder.tactics.attention import LOG2_E
from enginewright_builder.tactics.hopper_form import Form
from enginewright_builder.tactics.hopper_launch import STEP
from enginewright_builder.tactics.hopper_operand import Matrix
from enginewright_builder.tactics.kernel_text import kernel_text
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Step

NAME = "hopper heads"
ROWS = 64  # of a warpgroup
MOST_ROWS = 128  # of a sequence
HEAD = 64  # numbers of a row: the widest swizzle
PARTS = 3  # queries, keys, values
HEAD_BYTES = 2048  # barriers, the bias, and what alignment to 1024 bytes may take
SLOTS = 8  # barriers of a kind that fit into their 64 bytes
LEAST = 0.5  # of the multiprocessors that have a block: with less work the product alone spreads over more


class HopperHeads:
    """A Tactic (device/implementation.py). Capability 9.0; float16 or bfloat16."""

    name = NAME
    reason = "queries, keys and values are never in memory, and one launch waits less than two"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """One, where sequences and heads fit into a block and fill the device."""
        form = of_problem(problem, constant)
        if form is None or device.capability != 90 or blocks(problem) < LEAST * device.multiprocessors:
            return ()
        name = f"{ROWS * warpgroups(problem)} rows, {stages(problem, device)} stages"
        return (Candidate(tactic=NAME, name=name, build=functools.partial(implementation, problem, constant, device)),)


def of_problem(problem: Problem, constant: frozenset[int]) -> Form | None:
    """The product's form, whose result has no place; None for what the kernel does not take."""
    a, weights = problem.inputs[:2]
    if problem.kind is not Kind.HEADS or a is None or weights is None or hopper_form.WEIGHTS not in constant:
        return None
    y = problem.outputs[0]
    _, _, rows, size = y.shape
    product = Problem(
        kind=Kind.PRODUCT,
        inputs=problem.inputs,
        outputs=(plain(y.dtype, (*a.shape[:-1], weights.shape[-1])),),
        attributes={"alpha": 1.0, "activation": ""},
    )
    form = hopper_form.of_problem(product, constant)
    fits = form is not None and hopper_launch.takes(product, form) and not form.batched and a.dtype == y.dtype
    shapes = size == HEAD and rows <= MOST_ROWS and y.strides[-1] == 1 and problem.attributes["scale"] > 0
    return form if fits and shapes and _result(problem).addressable else None


def blocks(problem: Problem) -> int:
    """Heads of all sequences."""
    batches, heads, _, _ = problem.outputs[0].shape
    return batches * heads


def warpgroups(problem: Problem) -> int:
    """Of 64 rows of a sequence."""
    return -(-problem.outputs[0].shape[2] // ROWS)


def stages(problem: Problem, device: Device) -> int:
    """As many as fit beside keys and values."""
    rows = ROWS * warpgroups(problem)
    return min(SLOTS, (device.shared_bytes - shared_bytes(problem, 0)) // _stage_bytes(rows))


def shared_bytes(problem: Problem, staged: int) -> int:
    """Dynamic shared memory with so many stages."""
    rows = ROWS * warpgroups(problem)
    return HEAD_BYTES + staged * _stage_bytes(rows) + 2 * rows * HEAD * 2


def _stage_bytes(rows: int) -> int:
    return (rows + PARTS * HEAD) * STEP * 2


def implementation(problem: Problem, constant: frozenset[int], device: Device) -> Implementation:
    """One kernel, launched dependently."""
    form = of_problem(problem, constant)
    assert form is not None, "a candidate was made of this problem"
    staged = stages(problem, device)
    kernel = Kernel(
        cubin=NAME,
        function="hopper_heads",
        grid=(blocks(problem), 1, 1),
        block=(128 * warpgroups(problem) + 32, 1, 1),
        shared_bytes=shared_bytes(problem, staged),
        arguments=(
            Argument(
                tensor_map=_sequences(problem, form).tensor_map((STEP, ROWS * warpgroups(problem)), 128, batched=True)
            ),
            Argument(tensor_map=hopper_launch.weights_map(form, HEAD)),
            Argument(tensor_map=_result(problem).tensor_map((HEAD, ROWS), 128, batched=True)),
            hopper_launch.bias_argument(),
            Argument(value=_sizes(problem, form).hex()),
        ),
        dependent=True,
    )
    return Implementation(
        steps=(Step(layer="", kernel=kernel),),
        cubins={NAME: compiler.compile(source(problem, staged), device.architecture)},
        constants=hopper_launch.packers(form, form.columns),
    )


def source(problem: Problem, staged: int) -> str:
    """The kernel's text with its choices before it."""
    y = problem.outputs[0]
    keys = _keys(problem)
    kind = hopper_launch.WGMMA_KINDS[y.dtype]
    choices = {
        "WARPGROUPS": warpgroups(problem), "STAGES": staged, "KEYS": keys, "TAIL": int(keys != y.shape[2]),
        "ELEMENT": hopper_launch.ELEMENTS[y.dtype],
    }  # fmt: skip
    products = (
        hopper_launch.wgmma(PARTS * HEAD, kind, transposed=False),
        hopper_launch.wgmma(keys, kind, transposed=False, left_in_registers=True, name="multiply_keys"),
        hopper_launch.wgmma(HEAD, kind, transposed=True, left_in_registers=True, name="multiply_values"),
    )
    return kernel_text("hopper_heads.cu", choices).replace('#include "wgmma.generated"\n', "".join(products))


def _keys(problem: Problem) -> int:
    """Of a sequence, in whole steps of the second product."""
    return -(-problem.outputs[0].shape[2] // 16) * 16


def _sizes(problem: Problem, form: Form) -> bytes:
    """The kernel's struct Sizes."""
    _, heads, rows, _ = problem.outputs[0].shape
    said = problem.attributes
    numbers = (heads, hopper_launch.steps(form), form.columns, *said["columns"], rows)
    return struct.pack("<7if", *numbers, float(said["scale"]) * LOG2_E)


def _sequences(problem: Problem, form: Form) -> Matrix:
    """a, a matrix each sequence: rows behind a sequence's last are none of the next one's."""
    batches, _, rows, _ = problem.outputs[0].shape
    a = form.a
    assert isinstance(a, Matrix), "products read matrices"
    return Matrix(
        pointer=a.pointer, dtype=a.dtype, rows=rows, columns=a.columns, stride=a.stride, extents=(batches, 1),
        apart=(rows * a.stride, 0),
    )  # fmt: skip


def _result(problem: Problem) -> Matrix:
    """y as rows of a head, heads and batches apart."""
    y = problem.outputs[0]
    (batches, heads, rows, columns), (far, wide, stride, _) = y.shape, y.strides
    return Matrix(
        pointer=hopper_operand.operand(len(problem.inputs)), dtype=y.dtype, rows=rows, columns=columns, stride=stride,
        extents=(heads, batches), apart=(wide, far),
    )  # fmt: skip
