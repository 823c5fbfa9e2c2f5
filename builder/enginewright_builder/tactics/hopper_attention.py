"""Attention over few keys on Hopper (kernels/hopper_attention.cu): all scores of a row in a warpgroup's registers.

It takes what flash attention (attention.py) takes, as far as the copy engine addresses it, where nothing is masked and
heads have at most 64 numbers and 256 keys: a BERT's layer. Longer ones need a softmax that is corrected on the way.
"""

import functools
import struct
from collections.abc import Callable

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Candidate, Device, Implementation
from enginewright_builder.device.problem import Problem
from enginewright_builder.device.tensors import TensorType
from enginewright_builder.tactics import attention, hopper_launch, hopper_operand
from enginewright_builder.tactics.attention import LOG2_E, K, Q, V
from enginewright_builder.tactics.hopper_operand import Matrix
from enginewright_builder.tactics.kernel_text import kernel_text
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Step

NAME = "hopper attention"
ROWS = 64  # of a warpgroup
WIDE = 64  # numbers of a row in shared memory: the widest swizzle
MOST_KEYS = 256  # columns of one product, and half as many registers a thread
HEAD_BYTES = 2048  # barriers, and what alignment to 1024 bytes may take


class HopperAttention:
    """A Tactic (device/implementation.py). Capability 9.0; float16 or bfloat16."""

    name = NAME
    reason = "warpgroup products take twice as much at a time, and each operand is one copy"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """Blocks of 64 rows, which were faster at every batch tried on an H200, and of 128."""
        if refusal(problem, device):
            return ()
        useful = [n for n in (1, 2) if ROWS * n < attention.work(problem).rows + ROWS]
        return tuple(
            Candidate(
                tactic=NAME,
                name=f"{ROWS * warpgroups} rows",
                build=functools.partial(implementation, problem, warpgroups, device),
            )
            for warpgroups in useful
        )


def refusal(problem: Problem, device: Device) -> str:
    """Why the tactic does not take a problem, as the end of a sentence; "" where it does."""
    checks: tuple[tuple[Callable[[], bool], str], ...] = (
        (lambda: device.capability == 90, "its instructions exist on compute capability 9.0"),
        (lambda: problem.inputs[attention.MASK] is None, "its scores are masked"),
        (lambda: not problem.attributes.get("causal", False), "its rows see different keys"),
        (lambda: problem.attributes["scale"] > 0, "its scale is not positive"),
        (lambda: _widest(problem) <= WIDE, f"its heads have more than {WIDE} numbers"),
        (lambda: attention.work(problem).keys <= MOST_KEYS, f"it has more than {MOST_KEYS} keys"),
        (lambda: _heads_agree(problem), "heads share their keys"),
        (
            lambda: all(_matrix(problem, n).addressable for n in (Q, K, V, len(problem.inputs))),
            "TMA refuses its strides",
        ),
    )
    taken = attention.refusal(problem, device)
    return taken or next((reason for holds, reason in checks if not holds()), "")


def implementation(problem: Problem, warpgroups: int, device: Device) -> Implementation:
    """One kernel, launched dependently."""
    sizes = attention.work(problem)
    batches, heads, rows, _ = problem.outputs[0].shape
    keys = padded_keys(problem)
    boxes = ((Q, ROWS), (K, keys), (V, keys), (len(problem.inputs), ROWS))
    kernel = Kernel(
        cubin=NAME,
        function="hopper_attention",
        grid=(-(-rows // (ROWS * warpgroups)), heads, batches),
        block=(128 * warpgroups, 1, 1),
        shared_bytes=HEAD_BYTES + (2 * warpgroups * ROWS + 2 * keys) * WIDE * 2,
        arguments=(
            *(
                Argument(tensor_map=_matrix(problem, number).tensor_map((WIDE, tall), 2 * WIDE, batched=True))
                for number, tall in boxes
            ),
            Argument(value=struct.pack("<if", sizes.keys, float(problem.attributes["scale"]) * LOG2_E).hex()),
        ),
        dependent=True,
    )
    return Implementation(
        steps=(Step(layer="", kernel=kernel),),
        cubins={NAME: compiler.compile(source(problem, warpgroups), device.architecture)},
    )


def padded_keys(problem: Problem) -> int:
    """Keys in whole steps of the second product."""
    return -(-attention.work(problem).keys // 16) * 16


def source(problem: Problem, warpgroups: int) -> str:
    """The kernel's text with its choices before it."""
    dtype, keys = problem.outputs[0].dtype, padded_keys(problem)
    kind = hopper_launch.WGMMA_KINDS[dtype]
    choices = {
        "WARPGROUPS": warpgroups, "KEYS": keys, "TAIL": int(keys != attention.work(problem).keys),
        "ELEMENT": hopper_launch.ELEMENTS[dtype],
    }  # fmt: skip
    products = hopper_launch.wgmma(keys, kind, transposed=False) + hopper_launch.wgmma(
        WIDE, kind, transposed=True, left_in_registers=True, name="multiply_values"
    )
    return kernel_text("hopper_attention.cu", choices).replace('#include "wgmma.generated"\n', products)


def _type(problem: Problem, number: int) -> TensorType:
    return (*problem.inputs, *problem.outputs)[number]  # type: ignore[return-value]  # q, k, v and y are there


def _matrix(problem: Problem, number: int) -> Matrix:
    """An operand as rows of a head, heads and batches apart."""
    type_ = _type(problem, number)
    (batches, heads, rows, columns), (far, wide, stride, _) = type_.shape, type_.strides
    return Matrix(
        pointer=hopper_operand.operand(number), dtype=type_.dtype, rows=rows, columns=columns, stride=stride,
        extents=(heads, batches), apart=(wide, far),
    )  # fmt: skip


def _widest(problem: Problem) -> int:
    sizes = attention.work(problem)
    return max(sizes.head, sizes.value)


def _heads_agree(problem: Problem) -> bool:
    return len({_type(problem, number).shape[:2] for number in (Q, K, V)}) == 1
