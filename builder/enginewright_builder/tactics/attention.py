"""Attention in one launch (kernels/attention.cu): half types, heads of up to 128 numbers, any lengths.

Runs on capability 8.0 and later. On Hopper it is launched dependently, which cuDNN's kernels are not: at small batches
that is most of what there is to gain. `attention_form.py` says how the work is cut.
"""

import functools
import struct
from collections.abc import Callable

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Candidate, Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import ITEM_BYTES, TensorType
from enginewright_builder.tactics import attention_form
from enginewright_builder.tactics.attention_form import Form, Work
from enginewright_builder.tactics.kernel_text import kernel_text
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space, Step

NAME = "flash attention"
Q, K, V, MASK = range(4)
MOST_NUMBERS = 128  # of a head: more do not fit into a warp's registers
_UNIT = 8  # elements in 16 bytes
LOG2_E = 1.4426950408889634


class FlashAttention:
    """A Tactic (device/implementation.py)."""

    name = NAME
    reason = "scores never leave the registers, and the launch overlaps its neighbours'"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """One for each useful way to share rows and keys among warps."""
        if refusal(problem, device):
            return ()
        return tuple(
            Candidate(tactic=NAME, name=form.name, build=functools.partial(implementation, problem, form, device))
            for form in attention_form.ranked(work(problem), device)
        )


def refusal(problem: Problem, device: Device) -> str:
    """Why the tactic does not take a problem, as the end of a sentence; "" where it does."""
    checks: tuple[tuple[Callable[[], bool], str], ...] = (
        (lambda: problem.kind is Kind.ATTENTION, "it is no attention"),
        (lambda: device.capability >= 80, "its instructions exist on compute capability 8.0 and later"),
        (lambda: all(each is None or each.size > 0 for each in problem.operands), "it has nothing to compute"),
        (lambda: _dtypes_fit(problem), "q, k, v and y are not of one half type, or its mask is of another"),
        (lambda: _widths_fit(problem), f"its heads are not of 8, 16, ... up to {MOST_NUMBERS} numbers"),
        (lambda: all(map(_is_whole, _rows_of(problem))), "its rows are not contiguous in units of 16 bytes"),
        (lambda: max(_given(problem, Q).shape[:2]) <= 65535, "it has more heads or batches than a grid"),
        (lambda: _offsets_fit(problem), "a tensor is too large for offsets of 32 bits"),
    )
    return next((reason for holds, reason in checks if not holds()), "")


def work(problem: Problem) -> Work:
    """The problem's sizes, as the choice of a form needs them."""
    (batches, heads, rows, head), value = _given(problem, Q).shape, _given(problem, V).shape[-1]
    return Work(heads=batches * heads, rows=rows, keys=_given(problem, K).shape[2], head=head, value=value)


def implementation(problem: Problem, form: Form, device: Device) -> Implementation:
    """One kernel."""
    batches, heads, rows, _ = _given(problem, Q).shape
    kernel = Kernel(
        cubin="attention",
        function="attention",
        grid=(-(-rows // form.rows), heads, batches),
        block=(form.threads, 1, 1),
        shared_bytes=attention_form.shared_bytes(form, work(problem)),
        arguments=(
            *(_operand(number) for number in (Q, K, V)),
            Argument(value=bytes(8).hex()) if problem.inputs[MASK] is None else _operand(MASK),
            _operand(len(problem.inputs)),
            Argument(value=_sizes(problem).hex()),
        ),
        dependent=device.overlaps,
    )
    return Implementation(
        steps=(Step(layer="", kernel=kernel),),
        cubins={"attention": compiler.compile(source(problem, form), device.architecture, ())},
    )


def source(problem: Problem, form: Form) -> str:
    """The kernel's text with its choices before it."""
    mask, sizes = problem.inputs[MASK], work(problem)
    choices = {
        "ELEMENT_IS_BFLOAT16": int(_given(problem, Q).dtype == "bfloat16"),
        "HEAD": sizes.head,
        "VALUE": sizes.value,
        "ROW_WARPS": form.row_warps,
        "KEY_WARPS": form.key_warps,
        "KEYS": form.keys,
        "BLOCKS": attention_form.least_blocks(form, sizes),
        "ONE_STEP": int(sizes.keys <= form.step),
        "TAIL": int(sizes.keys % form.step != 0),
        "CAUSAL": int(bool(problem.attributes.get("causal", False))),
        "MASK": 0 if mask is None else 2 if mask.dtype == "float32" else 1,
        "MASK_ROWS": 1 if mask is None or not _steps(mask)[2] else 2,
    }
    return kernel_text("attention.cu", choices)


def _sizes(problem: Problem) -> bytes:
    """The kernel's struct Sizes."""
    mask, sizes = problem.inputs[MASK], work(problem)
    steps = [step for each in _rows_of(problem) for step in _steps(each)[:3]]
    added = _steps(mask) if mask is not None else (0, 0, 0, 0)
    scale = float(problem.attributes["scale"]) * (1.0 if mask is not None else LOG2_E)
    return struct.pack("<18if", sizes.rows, sizes.keys, *steps, *added, scale)


def _operand(number: int) -> Argument:
    return Argument(pointer=Pointer(space=Space.OPERAND, name=str(number)))


def _given(problem: Problem, operand: int) -> TensorType:
    type_ = problem.inputs[operand]
    if type_ is None:
        raise AssertionError(f"operand {operand} of an attention is absent")
    return type_


def _rows_of(problem: Problem) -> tuple[TensorType, ...]:
    """q, k, v, y: the order of struct Sizes."""
    return (*(_given(problem, number) for number in (Q, K, V)), problem.outputs[0])


def _steps(type_: TensorType) -> tuple[int, ...]:
    """Strides in four dimensions, 0 where there is nothing to step to."""
    steps = [step if extent > 1 else 0 for extent, step in zip(type_.shape, type_.strides, strict=True)]
    return (*(0,) * (4 - len(steps)), *steps)


def _dtypes_fit(problem: Problem) -> bool:
    dtypes = {each.dtype for each in _rows_of(problem)}
    mask = problem.inputs[MASK]
    return dtypes in ({"float16"}, {"bfloat16"}) and (mask is None or mask.dtype in (*dtypes, "float32"))


def _widths_fit(problem: Problem) -> bool:
    widths = (_given(problem, Q).shape[-1], _given(problem, V).shape[-1])
    return all(width % _UNIT == 0 and width <= MOST_NUMBERS for width in widths)


def _is_whole(rows: TensorType) -> bool:
    """Whether every row may be read and written 16 bytes at a time."""
    whole = all(step % _UNIT == 0 for step in _steps(rows)[:3])
    return rows.strides[-1] == 1 and whole and rows.alignment % (_UNIT * ITEM_BYTES[rows.dtype]) == 0


def _offsets_fit(problem: Problem) -> bool:
    return all(each is None or each.span_bytes < 2**31 for each in problem.operands)
