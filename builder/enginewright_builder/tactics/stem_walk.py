"""The first convolution of a network on pictures at large batches: blocks that walk down strips of them
(kernels/stem_walk.cu), so that loads, products and stores overlap and no row of the picture is read or made twice.

A model of time picks the lengths of walks that are worth timing. It need not be right, only see waves of blocks.
"""

import struct
from dataclasses import dataclass, replace

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Implementation
from enginewright_builder.device.problem import Problem
from enginewright_builder.tactics import epilogue_text, stem_geometry
from enginewright_builder.tactics.kernel_text import kernel_text
from enginewright_builder.tactics.stem_geometry import RESULT_COLUMN, WEIGHTS, X, conv_size, given, pool_of, two
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Step

THREADS = 128
WIDTHS = (128, 64)  # of the convolution, at the most, that a block makes
LEAST_STEPS = 4  # of a multiprocessor's own: with fewer there is nothing to overlap
REGISTERS, SPARE_REGISTERS = 65536, 48  # of a multiprocessor; of a thread, for addresses and what is on its way to y
SHARED_BYTES = 228 * 1024  # of a multiprocessor; a block takes 1 KiB more than it asks for
STARTS = 3  # steps that might have been made before a block's first one: its weights and first rows come
LENGTHS = 2  # walks that are offered of each form


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """The kernel's choices. `products` are the columns of the convolution that tensor cores make (in eights), `needed`
    those of them that y needs, `columns` those of y; a step makes `rows` rows of y, a walk `length`; `blocks` at a time
    on a multiprocessor."""

    products: int
    needed: int
    columns: int
    rows: int
    length: int
    blocks: int

    @property
    def name(self) -> str:
        """What the timing cache keeps."""
        return f"{self.products} columns, {self.rows} rows, walk {self.length}"


def walks(problem: Problem, multiprocessors: int) -> tuple[Walk, ...]:
    """Those worth timing, best guesses first; empty where the batch is too small to fill the GPU with them."""
    pool, pads = pool_of(problem), problem.attributes.get("pool", {}).get("pads", (0, 0, 0, 0))
    sides = zip(pads, pool.kernel * 2, strict=True)
    if pool.stride[0] > pool.kernel[0] or any(pad >= extent for pad, extent in sides):
        return ()  # rows that no window needs; windows of padding alone
    images, _, height, _ = problem.outputs[0].shape
    found: list[tuple[float, Walk]] = []
    for walk in _forms(problem):
        a_row = images * stem_geometry.output_tiles(problem) * _across(problem, walk.columns)
        if a_row * height < LEAST_STEPS * walk.rows * multiprocessors:
            continue
        lengths = {-(-height // pieces // walk.rows) * walk.rows for pieces in range(1, height // walk.rows + 1)}
        offered = [replace(walk, length=length) for length in lengths]
        timed = [(time(problem, each, a_row, multiprocessors), each) for each in offered]
        found += sorted(timed, key=lambda pair: (pair[0], pair[1].length))[:LENGTHS]
    return tuple(walk for _, walk in sorted(found, key=lambda pair: (pair[0], pair[1].name)))


def time(problem: Problem, walk: Walk, a_row: int, multiprocessors: int) -> float:
    """In no unit: waves of blocks, each as long as its steps. Where n blocks share a multiprocessor, a step takes them
    the tensor cores' time n + 1 times: a block's own end of a step overlaps with the others' products alone. `a_row`
    counts the blocks beside one another."""
    pool, height = pool_of(problem), problem.outputs[0].shape[2]
    again = pool.kernel[0] - pool.stride[0] if walk.length < height else 0
    made = walk.rows * pool.stride[0]  # rows of the convolution a step
    steps = STARTS + walk.length // walk.rows + -(-again // made)
    full, rest = divmod(a_row * -(-height // walk.length), multiprocessors * walk.blocks)
    waves = full * (walk.blocks + 1) + (-(-rest // multiprocessors) + 1 if rest else 0)
    return float(steps * waves * walk.products * made)


def shared_bytes(problem: Problem, walk: Walk) -> int:
    """The kernel's dynamic shared memory: barrier, weights, the ring of input rows, two buffers of the result."""
    _, batch, ahead = _batches(problem, walk.rows)
    row = (walk.products - 1 + stem_geometry.units(problem)) * 16
    ring = stem_geometry.parts(problem) * (ahead + 1) * batch * row
    return 1024 + stem_geometry.weight_bytes(problem) + ring + 2 * walk.rows * walk.products * RESULT_COLUMN


def implementation(problem: Problem, walk: Walk, architecture: str) -> Implementation:
    """One kernel, launched dependently."""
    images, _, height, _ = problem.outputs[0].shape
    kernel = Kernel(
        cubin="stem",
        function="stem_walk",
        grid=(
            _across(problem, walk.columns),
            -(-height // walk.length),
            images * stem_geometry.output_tiles(problem),
        ),
        block=(THREADS, 1, 1),
        shared_bytes=shared_bytes(problem, walk),
        arguments=(
            *stem_geometry.arguments(problem, walk.columns),
            Argument(value=struct.pack("<i", walk.length).hex()),
        ),
        dependent=True,
    )
    return Implementation(
        steps=(Step(layer="", kernel=kernel),),
        cubins={"stem": compiler.compile(source(problem, walk), architecture, ())},
        constants=stem_geometry.packers(problem),
    )


def source(problem: Problem, walk: Walk) -> str:
    """The kernel's text with its choices before it."""
    choices = {"COLUMNS": walk.products, "NEEDED": walk.needed, "MADE": walk.rows, "BLOCKS": walk.blocks}
    return kernel_text(
        "stem_walk.cu", {**stem_geometry.macros(problem), **choices}, epilogue_text.function(problem.attributes)
    )


def _forms(problem: Problem) -> list[Walk]:
    """Wide tiles and narrow ones, of one length still, of which blocks enough fit a multiprocessor."""
    pool, width = pool_of(problem), problem.outputs[0].shape[3]
    found: list[Walk] = []
    for widest in WIDTHS:
        across = next(n for n in range(1, width + 1) if _needed(problem, -(-width // n)) <= widest or n == width)
        columns = -(-width // across)
        needed = _needed(problem, columns)
        products = -(-needed // 8) * 8
        if products > widest or any(each.products == products for each in found):
            continue
        for rows in (1,) if pool.kernel[0] > 1 or products > 64 else (2, 1):
            walk = Walk(products=products, needed=needed, columns=columns, rows=rows, length=rows, blocks=1)
            blocks = _blocks(problem, walk)
            if blocks >= 2:
                found.append(replace(walk, blocks=blocks))
    return found


def _blocks(problem: Problem, walk: Walk) -> int:
    """At a time on a multiprocessor, by shared memory and registers: sums, kept rows, input rows on their way."""
    pool, (new, batch, _) = pool_of(problem), _batches(problem, walk.rows)
    pixels = (walk.needed - 1 + stem_geometry.units(problem)) * two(problem, "strides", 1)[1]
    coming = batch * -(-pixels // THREADS) * given(problem, X).shape[1]
    kept = (pool.kernel[0] - pool.stride[0]) * walk.products // 4
    registers = new * walk.products // 2 + kept + coming + SPARE_REGISTERS
    if registers > 255:
        return 0
    memory = shared_bytes(problem, walk)
    return min(REGISTERS // THREADS // (-(-registers // 8) * 8), SHARED_BYTES // (memory + 1024), 4)


def _batches(problem: Problem, rows: int) -> tuple[int, int, int]:
    """New rows of the convolution a step, input rows that these move on, and such batches that a step reads."""
    down = two(problem, "strides", 1)[0]
    new = rows * pool_of(problem).stride[0]
    return new, new * down, -(-((new - 1) * down + given(problem, WEIGHTS).shape[2]) // (new * down))


def _across(problem: Problem, columns: int) -> int:
    return -(-problem.outputs[0].shape[3] // columns)


def _needed(problem: Problem, columns: int) -> int:
    """Columns of the convolution under so many of y: the most that a block needs of those there are."""
    pool, (_, there), width = pool_of(problem), conv_size(problem), problem.outputs[0].shape[3]
    return max(
        min((min(at + columns, width) - 1) * pool.stride[1] - pool.pad[1] + pool.kernel[1], there)
        - max(at * pool.stride[1] - pool.pad[1], 0)
        for at in range(0, width, columns)
    )
