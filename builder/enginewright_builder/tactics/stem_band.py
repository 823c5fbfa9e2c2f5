"""The first convolution of a network on pictures with a max pool of 3x3 and stride 2 behind it: blocks that make bands
of y, their warpgroups in turns (kernels/stem_band.cu). What the kernel counts is counted here again. Pure."""

import struct
from dataclasses import dataclass

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Implementation
from enginewright_builder.device.problem import Problem
from enginewright_builder.tactics import epilogue_text, stem_geometry
from enginewright_builder.tactics.kernel_text import kernel_text
from enginewright_builder.tactics.stem_geometry import OUTPUTS, WEIGHTS, Pool, X, conv_size, given, pool_of, two
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Step

POOL = Pool(kernel=(3, 3), stride=(2, 2), pad=(1, 1))
GROUPS = 3  # warpgroups of a block: the work of two hides behind the products of one
MOST = 3  # that are offered
MOST_COLUMNS = 128  # of the convolution that a block makes
AROUND = 2500  # clocks of a block without products, before them and after
KEPT_COLUMN = OUTPUTS * 2 + 32  # bytes in shared memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """The kernel's choices: `across` blocks make a row of y; a block makes `rows` of them."""

    across: int
    rows: int

    @property
    def name(self) -> str:
        """What the timing cache keeps."""
        return f"bands of {self.rows} rows, {self.across} across"


def bands(problem: Problem, multiprocessors: int) -> tuple[Band, ...]:
    """Those worth timing, best guesses first; empty where there are none."""
    if refusal(problem):
        return ()
    timed = [(time(problem, each, multiprocessors), each.name, each) for each in _forms(problem)]
    return tuple(each for _, _, each in sorted(timed)[:MOST])


def time(problem: Problem, band: Band, multiprocessors: int) -> float:
    """In clocks: waves of blocks, one at a time on a multiprocessor, each as long as its products and what is before
    the first and behind the last."""
    images, _, height, _ = problem.outputs[0].shape
    blocks = band.across * -(-height // band.rows) * images * stem_geometry.output_tiles(problem)
    step = max(columns(problem, band) / 2, columns(problem, band) / 4 + 16)  # tensor cores, or shared memory's reads
    products = (2 * band.rows + 1) * stem_geometry.weight_bytes(problem) // 2048 * step
    return -(-blocks // multiprocessors) * (AROUND + products)


def refusal(problem: Problem) -> str:
    """Why there are no bands, as the end of a sentence; "" where there are."""
    x = given(problem, X)
    if given(problem, WEIGHTS).dtype != problem.outputs[0].dtype:
        return "its weights are not of y's type"
    if pool_of(problem) != POOL or conv_size(problem)[1] != 2 * problem.outputs[0].shape[3]:
        return "it has no pool of 3x3 that halves an even row"
    (down, across), kernel_h = two(problem, "strides", 1), given(problem, WEIGHTS).shape[2]
    if across != 2 or down > kernel_h:
        return "its horizontal stride is not 2, or its vertical one leaves rows out"
    if x.dtype != "float32":
        return "its pixels are not float32"
    if x.strides[3] != 1 or any(step % 2 for step in x.strides[:3]) or x.shape[3] % 2:
        return "its pixels don't lie in pairs"
    return ""


def pooled(problem: Problem, band: Band) -> int:
    """Columns of y that a block makes."""
    return -(-problem.outputs[0].shape[3] // band.across)


def columns(problem: Problem, band: Band) -> int:
    """Columns of the convolution that wgmma makes."""
    return -(-(2 * pooled(problem, band) + lead(band)) // 8) * 8


def lead(band: Band) -> int:
    """Columns of the convolution left of those that a block's own pools begin with."""
    return 2 if band.across > 1 else 0


def shared_bytes(problem: Problem, band: Band) -> int:
    """The kernel's dynamic shared memory: barriers, weights, rings of input rows and of rows of the convolution."""
    shift = _pad(problem) & 1
    units = stem_geometry.units(problem)
    pairs = (shift + (2 * pooled(problem, band) + lead(band) - 1 + units) * 2 + 1) // 2
    pitch = shift + max(pairs, columns(problem, band) - 1 + units)
    ring = (2 * GROUPS - 1) * two(problem, "strides", 1)[0] + given(problem, WEIGHTS).shape[2]
    kept = 2 * GROUPS * columns(problem, band) // 2 * KEPT_COLUMN
    return 1024 + stem_geometry.weight_bytes(problem) + ring * pitch * 16 + kept


def implementation(problem: Problem, band: Band, architecture: str) -> Implementation:
    """One kernel, launched dependently."""
    images, _, height, _ = problem.outputs[0].shape
    kernel = Kernel(
        cubin="stem",
        function="stem_band",
        grid=(band.across, -(-height // band.rows), images * stem_geometry.output_tiles(problem)),
        block=(128 * GROUPS, 1, 1),
        shared_bytes=shared_bytes(problem, band),
        arguments=(
            *stem_geometry.arguments(problem, pooled(problem, band)),
            Argument(value=struct.pack("<i", band.rows).hex()),
        ),
        dependent=True,
    )
    return Implementation(
        steps=(Step(layer="", kernel=kernel),),
        cubins={"stem": compiler.compile(source(problem, band), architecture, ())},
        constants=stem_geometry.packers(problem),
    )


def _forms(problem: Problem) -> list[Band]:
    """Whole rows of y and halves of them, bands of all lengths that cut a picture differently."""
    height = problem.outputs[0].shape[2]
    lengths = sorted({-(-height // pieces) for pieces in range(1, height + 1)})
    found = [Band(across=across, rows=rows) for across in (1, 2) for rows in lengths]
    return [each for each in found if fits(problem, each)]


def fits(problem: Problem, band: Band) -> bool:
    """Whether its columns are one product's, and its rows fit into shared memory."""
    return columns(problem, band) <= MOST_COLUMNS and shared_bytes(problem, band) <= stem_geometry.SHARED_BYTES


def source(problem: Problem, band: Band) -> str:
    """The kernel's text with its choices before it."""
    choices = {
        "COLUMNS": columns(problem, band),
        "LEAD": lead(band),
        "POOLED": pooled(problem, band),
        "GROUPS": GROUPS,
        "PAD_W": _pad(problem),
    }
    return kernel_text(
        "stem_band.cu", {**stem_geometry.macros(problem), **choices}, epilogue_text.function(problem.attributes)
    )


def _pad(problem: Problem) -> int:
    """Of the convolution, left of a picture."""
    return int(problem.attributes.get("pads", (0, 0, 0, 0))[1])
