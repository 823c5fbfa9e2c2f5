"""The first convolution of a network on pictures (kernels/stem_conv.cu): few channels, read as the user gives them.

What would be three or four layers (cast, transpose to NHWC, convolution, max pool) is one launch. So x may be float32
or of y's type, in any layout; y is float16 or bfloat16 in NHWC. Where the weights are float32 as well, so are the
products, and y alone is rounded, or with attributes["halves"] is what rounding lost as well. A problem may carry
attributes["pool"] = {"kernel": [h, w], "strides": [h, w], "pads": [top, left, bottom, right]}: a max pool behind the
activation, and y is its result.
"""

import functools
from collections.abc import Callable

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Candidate, Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType
from enginewright_builder.tactics import epilogue_text, stem_band, stem_geometry, stem_walk
from enginewright_builder.tactics.kernel_text import kernel_text
from enginewright_builder.tactics.stem_geometry import BIAS, RESIDUAL, WEIGHTS, X, given, pool_of, two
from enginewright_runtime.engine.cuda.program import Kernel, Step

NAME = "hopper stem convolution"
COLUMNS = 64  # of the convolution that a block makes


class StemConvolution:
    """A Tactic (device/implementation.py)."""

    name = NAME
    reason = "casting, transposing, convolving and pooling a picture in one launch"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """Bands where the pool allows them, walks where the batch is large enough, then one for each useful number of
        rows a block."""
        if refusal(problem, device, constant):
            return ()
        bands = tuple(
            Candidate(
                tactic=NAME,
                name=band.name,
                build=functools.partial(stem_band.implementation, problem, band, device.architecture),
            )
            for band in stem_band.bands(problem, device.multiprocessors)
        )
        walks = tuple(
            Candidate(
                tactic=NAME,
                name=walk.name,
                build=functools.partial(stem_walk.implementation, problem, walk, device.architecture),
            )
            for walk in stem_walk.walks(problem, device.multiprocessors)
        )
        return (
            bands
            + walks
            + tuple(
                Candidate(
                    tactic=NAME,
                    name=f"{rows} rows",
                    build=functools.partial(implementation, problem, rows, device.architecture),
                )
                for rows in rows_of(problem)
            )
        )


def refusal(problem: Problem, device: Device, constant: frozenset[int]) -> str:
    """Why the tactic does not take a problem, as the end of a sentence; "" where it does."""
    checks: tuple[tuple[Callable[[], bool], str], ...] = (
        (lambda: problem.kind is Kind.CONVOLUTION, "it is no convolution"),
        (lambda: device.capability == 90, "its instructions exist on compute capability 9.0 alone"),
        (lambda: len(problem.outputs[0].shape) == 4, "it is not two-dimensional"),
        (lambda: _dtypes_fit(problem), "y is not float16 or bfloat16, or x or weights are neither float32 nor that"),
        (lambda: problem.attributes.get("groups", 1) == 1, "it is grouped"),
        (lambda: two(problem, "dilations", 1) == (1, 1), "it is dilated"),
        (lambda: all(each is None for each in problem.inputs[RESIDUAL:]), "it has a residual or a pair"),
        (lambda: two(problem, "strides", 1)[1] in (1, 2), "its horizontal stride is not 1 or 2"),
        (lambda: _channels_fit(problem), "it has too many input channels"),
        (lambda: max(given(problem, WEIGHTS).shape[2:]) <= 11, "its kernel is larger than 11"),
        (lambda: _constants(problem) <= constant, "its weights or bias are not constant"),
        (lambda: not (stem_geometry.in_halves(problem) and "pool" in problem.attributes), "it pools halves"),
        (lambda: _is_whole(problem.outputs[0]), "y is not NHWC with pixels in 16-byte units"),
        (lambda: bool(rows_of(problem)), "its rows don't fit into shared memory"),
    )
    return next((reason for holds, reason in checks if not holds()), "")


def rows_of(problem: Problem) -> tuple[int, ...]:
    """Rows of the convolution that a block makes: whole steps of the pool, at most 8, as far as they fit."""
    pool = pool_of(problem)
    useful = [rows for rows in (4, 3, 5, 2, 6, 8, 1, 7) if rows >= pool.kernel[0]]
    whole = [rows for rows in useful if (rows - pool.kernel[0]) % pool.stride[0] == 0]
    return tuple(rows for rows in whole if shared_bytes(problem, rows) <= stem_geometry.SHARED_BYTES)[:4]


def shared_bytes(problem: Problem, rows: int) -> int:
    """The kernel's dynamic shared memory: barrier, weights, input rows, the convolution's result."""
    in_rows = (rows - 1) * two(problem, "strides", 1)[0] + given(problem, WEIGHTS).shape[2]
    part = in_rows * (COLUMNS - 1 + stem_geometry.units(problem)) * 16
    inputs = -(-part * stem_geometry.parts(problem) // 128) * 128
    result = rows * COLUMNS * stem_geometry.RESULT_COLUMN
    return 1024 + stem_geometry.weight_bytes(problem) + inputs + result


def implementation(problem: Problem, rows: int, architecture: str) -> Implementation:
    """One kernel, launched dependently."""
    pool = pool_of(problem)
    images, _, height, width = problem.outputs[0].shape
    most = (COLUMNS - pool.kernel[1]) // pool.stride[1] + 1
    across = -(-width // most)
    down = -(-height // ((rows - pool.kernel[0]) // pool.stride[0] + 1))
    kernel = Kernel(
        cubin="stem",
        function="stem",
        grid=(across, down, images * stem_geometry.output_tiles(problem)),
        block=(128 * rows, 1, 1),
        shared_bytes=shared_bytes(problem, rows),
        arguments=stem_geometry.arguments(problem, columns=-(-width // across)),
        dependent=True,
    )
    return Implementation(
        steps=(Step(layer="", kernel=kernel),),
        cubins={"stem": compiler.compile(source(problem, rows), architecture, ())},
        constants=stem_geometry.packers(problem),
    )


def source(problem: Problem, rows: int) -> str:
    """The kernel's text with its choices before it."""
    return kernel_text(
        "stem_conv.cu", {**stem_geometry.macros(problem), "ROWS": rows}, epilogue_text.function(problem.attributes)
    )


def _dtypes_fit(problem: Problem) -> bool:
    element = problem.outputs[0].dtype
    pair = given(problem, X).dtype, given(problem, WEIGHTS).dtype
    known = ((element, element), ("float32", element), ("float32", "float32"))
    return element in ("float16", "bfloat16") and pair in known


def _channels_fit(problem: Problem) -> bool:
    return given(problem, X).shape[1] <= 8 // two(problem, "strides", 1)[1]


def _constants(problem: Problem) -> set[int]:
    return {number for number, each in enumerate(problem.inputs) if number in (WEIGHTS, BIAS) and each is not None}


def _is_whole(y: TensorType) -> bool:
    """Whether y takes 16-byte stores of 8 channels."""
    wide = all(step % 8 == 0 for step in (y.strides[0], y.strides[2], y.strides[3]))
    return y.shape[1] % 8 == 0 and y.strides[1] == 1 and wide
