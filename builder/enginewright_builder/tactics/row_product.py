"""Products of few rows with a constant matrix (kernels/row_product.cu), as at a classifier's end at batch 1.

Matrix units have nothing to do there: the time is that of reading the weights once. Runs on capability 8.0 and later,
and on Hopper reads its first weights while the previous layer still runs.
"""

import functools
import math
import struct
from collections.abc import Callable
from importlib import resources

import numpy as np

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Array, Candidate, Constants, Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import ITEM_BYTES, TensorType
from enginewright_builder.tactics.latency_activation import activation_text
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space, Step

NAME = "row product"
A, B, BIAS, RESIDUAL = range(4)
WARPS = 8  # of a block
MOST_ROWS = 8


class RowProduct:
    """A Tactic (device/implementation.py)."""

    name = NAME
    reason = "few rows: the time is that of reading the weights, and no matrix unit helps"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """One for each number of warps that share an output: few for many outputs, many for long sums."""
        if refusal(problem, device, constant):
            return ()
        outputs = problem.outputs[0].shape[-1]
        units = _given(problem, A).shape[-1] * ITEM_BYTES[_given(problem, A).dtype] // 16
        useful = [each for each in (1, 2, 4, 8) if each == 1 or units >= 32 * each]
        ranked = sorted(useful, key=lambda each: (outputs * each < 8 * device.multiprocessors, each))
        return tuple(
            Candidate(
                tactic=NAME,
                name=f"{sharing} warps an output",
                build=functools.partial(implementation, problem, sharing, device),
            )
            for sharing in ranked
        )


def refusal(problem: Problem, device: Device, constant: frozenset[int]) -> str:
    """Why the tactic does not take a problem, as the end of a sentence; "" where it does."""
    checks: tuple[tuple[Callable[[], bool], str], ...] = (
        (lambda: problem.kind is Kind.PRODUCT, "it is no product"),
        (lambda: device.capability >= 80, "its conversions exist on compute capability 8.0 and later"),
        (lambda: _dtypes_fit(problem), "its operands are not of one float type, or y is neither that nor float32"),
        (lambda: _rows(problem) is not None, "its operands are not a matrix of rows and a matrix"),
        (lambda: 0 < (_rows(problem) or 0) <= MOST_ROWS, f"it has more than {MOST_ROWS} rows"),
        (lambda: all(each is None for each in problem.inputs[RESIDUAL:]), "it has a residual"),
        (lambda: _constants(problem) <= constant, "its matrix or bias is not constant"),
        (lambda: _reads_whole_units(problem), "its rows are not contiguous in units of 16 bytes"),
        (lambda: _bias_fits(problem), "its bias is not one number an output"),
        (lambda: _activation(problem) is not None, "its activation has no device expression"),
    )
    return next((reason for holds, reason in checks if not holds()), "")


def implementation(problem: Problem, sharing: int, device: Device) -> Implementation:
    """One kernel; `sharing` warps of a block add up an output."""
    a, y = _given(problem, A), problem.outputs[0]
    depth, outputs = a.shape[-1], y.shape[-1]
    alpha = float(problem.attributes.get("alpha", 1.0))
    sizes = struct.pack("<4if", depth, outputs, _row_step(a), _row_step(y), alpha)
    kernel = Kernel(
        cubin="row_product",
        function="row_product",
        grid=(-(-outputs // (WARPS // sharing)), 1, 1),
        block=(32 * WARPS, 1, 1),
        arguments=(
            Argument(pointer=Pointer(space=Space.OPERAND, name=str(A))),
            Argument(pointer=Pointer(space=Space.CONSTANT, name="weights")),
            Argument(pointer=Pointer(space=Space.CONSTANT, name="bias")),
            Argument(pointer=Pointer(space=Space.OPERAND, name=str(len(problem.inputs)))),
            Argument(value=sizes.hex()),
        ),
        dependent=device.overlaps,
    )
    return Implementation(
        steps=(Step(layer="", kernel=kernel),),
        cubins={"row_product": compiler.compile(source(problem, sharing), device.architecture, ())},
        constants={"weights": _packed_weights, "bias": functools.partial(_packed_bias, outputs)},
    )


def source(problem: Problem, sharing: int) -> str:
    """The kernel's text with its choices before it."""
    element, y = _given(problem, A).dtype, problem.outputs[0].dtype
    choices = {
        "ELEMENT_IS_FLOAT": int(element == "float32"),
        "ELEMENT_IS_BFLOAT16": int("bfloat16" in (element, y)),
        "OUTPUT_IS_FLOAT": int(y == "float32"),
        "ROWS": _rows(problem),
        "WARPS": sharing,
        "ACTIVATE(v)": _activation(problem),
    }
    kernels = resources.files("enginewright_builder") / "kernels"
    body = (kernels / "row_product.cu").read_text()
    for header in ("latency.cuh", "activations.cuh"):
        text = (kernels / header).read_text().replace("#pragma once\n", "")
        body = body.replace(f'#include "{header}"\n', text)
    return "".join(f"#define {name} {value}\n" for name, value in choices.items()) + body


def _packed_weights(constants: Constants) -> Array:
    """The matrix (..., k, n) as n contiguous rows of k."""
    matrix = constants[B]
    return np.ascontiguousarray(matrix.reshape(matrix.shape[-2:]).T)


def _packed_bias(outputs: int, constants: Constants) -> Array:
    if BIAS not in constants:
        return np.zeros(outputs, dtype=np.float32)
    return np.ascontiguousarray(np.broadcast_to(constants[BIAS].reshape(-1), (outputs,)).astype(np.float32))


def _given(problem: Problem, operand: int) -> TensorType:
    type_ = problem.inputs[operand]
    if type_ is None:
        raise AssertionError(f"operand {operand} of a product is absent")
    return type_


def _rows(problem: Problem) -> int | None:
    """Rows of a, if all but one of its outer extents are 1, and b is one matrix."""
    a, b = _given(problem, A), _given(problem, B)
    outer = [extent for extent in a.shape[:-1] if extent != 1]
    if len(outer) > 1 or math.prod(b.shape[:-2]) != 1:
        return None
    return outer[0] if outer else 1


def _row_step(type_: TensorType) -> int:
    """Elements from one row to the next."""
    steps = [step for extent, step in zip(type_.shape[:-1], type_.strides[:-1], strict=True) if extent != 1]
    return steps[0] if steps else 0


def _dtypes_fit(problem: Problem) -> bool:
    element, y = _given(problem, A).dtype, problem.outputs[0].dtype
    same = _given(problem, B).dtype == element
    return same and element in ("float16", "bfloat16", "float32") and y in (element, "float32")


def _constants(problem: Problem) -> set[int]:
    return {number for number, each in enumerate(problem.inputs) if number in (B, BIAS) and each is not None}


def _reads_whole_units(problem: Problem) -> bool:
    a, y = _given(problem, A), problem.outputs[0]
    unit = 16 // ITEM_BYTES[a.dtype]
    return a.strides[-1] == 1 and y.strides[-1] == 1 and a.shape[-1] % unit == 0 and _row_step(a) % unit == 0


def _bias_fits(problem: Problem) -> bool:
    bias = problem.inputs[BIAS] if len(problem.inputs) > BIAS else None
    return bias is None or (bias.size in (1, problem.outputs[0].shape[-1]) and bias.size == bias.shape[-1])


def _activation(problem: Problem) -> str | None:
    attributes = problem.attributes
    return activation_text(
        attributes.get("activation", ""), attributes.get("activation_parameters", {}), attributes.get("gated", False)
    )
