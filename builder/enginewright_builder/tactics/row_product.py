"""Products of few rows with a constant matrix, as at a classifier's end at batch 1.

The time is that of reading the weights once. kernels/row_product.cu reads them into registers, kernels/row_matrix.cu
those of half types for matrix units, both on capability 8.0 and later; kernels/row_stream.cu has the copy engine bring
them, on Hopper and later, where all read their first weights while the previous layer still runs.
"""

import functools
import math
import struct
from collections.abc import Callable, Mapping

import numpy as np

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Array, Candidate, Constants, Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import ITEM_BYTES, TensorType
from enginewright_builder.tactics import epilogue_text
from enginewright_builder.tactics.kernel_text import kernel_text
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space, Step

NAME = "row product"
A, B, BIAS, RESIDUAL = range(4)
WARPS = 8  # of a block
MOST_ROWS = 8
STREAMS = (8, 4)  # outputs whose weights come together
_TOGETHER = 8  # outputs of a block whose matrix units multiply
_CHUNK = 32  # units of 16 bytes of an output, one a lane
_STAGES = 8  # chunks of a warp on their way, at most
_OWN = 8 << 10  # bytes of shared memory that are not the weights'


class RowProduct:
    """A Tactic (device/implementation.py)."""

    name = NAME
    reason = "few rows: the time is that of reading the weights"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """Multiplied by matrix units, which only several rows repay; the matrix streamed; and with numbers of warps
        that share an output: few for many outputs, many for long sums."""
        if refusal(problem, device, constant):
            return ()
        outputs, element = problem.outputs[0].shape[-1], _given(problem, A).dtype
        units = _given(problem, A).shape[-1] * ITEM_BYTES[element] // 16
        useful = [each for each in (1, 2, 4, 8) if each == 1 or units >= 32 * each]
        ranked = sorted(useful, key=lambda each: (outputs * each < 8 * device.multiprocessors, each))
        streamed = [
            (f"streamed, {together} outputs at a time", functools.partial(streaming, problem, together, device))
            for together in (STREAMS if device.capability >= 90 else ())
        ]
        shared = [
            (f"{sharing} warps an output", functools.partial(implementation, problem, sharing, device))
            for sharing in ranked
        ]
        repaid = element != "float32" and (_rows(problem) or 0) > 1
        multiplied = [("by matrix units", functools.partial(multiplying, problem, device))] if repaid else []
        offered = multiplied + streamed + shared
        return tuple(Candidate(tactic=NAME, name=name, build=build) for name, build in offered)


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
    )
    return next((reason for holds, reason in checks if not holds()), "")


def implementation(problem: Problem, sharing: int, device: Device) -> Implementation:
    """One kernel; `sharing` warps of a block add up an output."""
    outputs = problem.outputs[0].shape[-1]
    kernel = Kernel(
        cubin="row_product",
        function="row_product",
        grid=(-(-outputs // (WARPS // sharing)), 1, 1),
        block=(32 * WARPS, 1, 1),
        arguments=_arguments(problem),
        dependent=device.overlaps,
    )
    text = source("row_product.cu", problem, {"WARPS": sharing})
    return _made(problem, kernel, compiler.compile(text, device.architecture, ()), _packed_weights)


def multiplying(problem: Problem, device: Device) -> Implementation:
    """One kernel; matrix units multiply, 8 outputs a block."""
    kernel = Kernel(
        cubin="row_matrix",
        function="row_matrix",
        grid=(-(-problem.outputs[0].shape[-1] // _TOGETHER), 1, 1),
        block=(32 * WARPS, 1, 1),
        arguments=_arguments(problem),
        dependent=device.overlaps,
    )
    text = source("row_matrix.cu", problem, {})
    return _made(problem, kernel, compiler.compile(text, device.architecture, ()), _packed_weights)


def streaming(problem: Problem, together: int, device: Device) -> Implementation:
    """One kernel; the weights of `together` outputs come through shared memory chunk by chunk."""
    outputs = problem.outputs[0].shape[-1]
    stages = _stages(together, device)
    kernel = Kernel(
        cubin="row_stream",
        function="row_stream",
        grid=(min(-(-outputs // together), device.multiprocessors), 1, 1),
        block=(32 * WARPS, 1, 1),
        arguments=_arguments(problem),
        shared_bytes=WARPS * stages * together * _CHUNK * 16,
        dependent=True,
    )
    text = source("row_stream.cu", problem, {"OUTPUTS": together, "STAGES": stages})
    pack = functools.partial(_chunked_weights, together)
    return _made(problem, kernel, compiler.compile(text, device.architecture, ()), pack)


def _stages(together: int, device: Device) -> int:
    """As many as shared memory holds: what is on its way hides the memory's latency."""
    return min(_STAGES, (device.shared_bytes - _OWN) // (WARPS * together * _CHUNK * 16))


def _arguments(problem: Problem) -> tuple[Argument, ...]:
    a, y = _given(problem, A), problem.outputs[0]
    alpha = float(problem.attributes.get("alpha", 1.0))
    sizes = struct.pack("<4if", a.shape[-1], y.shape[-1], _row_step(a), _row_step(y), alpha)
    return (
        Argument(pointer=Pointer(space=Space.OPERAND, name=str(A))),
        Argument(pointer=Pointer(space=Space.CONSTANT, name="weights")),
        Argument(pointer=Pointer(space=Space.CONSTANT, name="bias")),
        Argument(pointer=Pointer(space=Space.OPERAND, name=str(len(problem.inputs)))),
        Argument(value=sizes.hex()),
    )


def _made(problem: Problem, kernel: Kernel, cubin: bytes, pack: Callable[[Constants], Array]) -> Implementation:
    outputs = problem.outputs[0].shape[-1]
    return Implementation(
        steps=(Step(layer="", kernel=kernel),),
        cubins={kernel.cubin: cubin},
        constants={"weights": pack, "bias": functools.partial(_packed_bias, outputs)},
    )


def source(file: str, problem: Problem, choices: Mapping[str, int]) -> str:
    """A kernel's text with its choices before it."""
    element, y = _given(problem, A).dtype, problem.outputs[0].dtype
    chosen = {
        "ELEMENT_IS_FLOAT": int(element == "float32"),
        "ELEMENT_IS_BFLOAT16": int("bfloat16" in (element, y)),
        "OUTPUT_IS_FLOAT": int(y == "float32"),
        "ROWS": _rows(problem),
        **choices,
        "ACTIVATE(v)": epilogue_text.activated(problem.attributes, "v"),
    }
    return kernel_text(file, chosen, epilogue_text.function(problem.attributes))


def _packed_weights(constants: Constants) -> Array:
    """The matrix (..., k, n) as n contiguous rows of k."""
    matrix = constants[B]
    return np.ascontiguousarray(matrix.reshape(matrix.shape[-2:]).T)


def _chunked_weights(together: int, constants: Constants) -> Array:
    """The same rows, `together` of them in chunks as kernels/row_stream.cu draws them; absent ones are zeros."""
    rows = _packed_weights(constants)
    outputs, depth = rows.shape
    chunk = _CHUNK * 16 // rows.itemsize
    whole = depth // chunk * chunk
    groups = -(-outputs // together)
    padded = np.zeros((groups * together, depth), rows.dtype) if outputs % together else rows
    if padded is not rows:
        padded[:outputs] = rows
    grouped = padded.reshape(groups, together, depth)
    chunked = grouped[..., :whole].reshape(groups, together, -1, chunk).swapaxes(1, 2)
    return np.concatenate([chunked.reshape(groups, -1), grouped[..., whole:].reshape(groups, -1)], axis=1)


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
