"""Computations as one CUDA kernel: the text, and the launch. Pure; compile.py makes the cubin.

Operands may have any strides. Inputs are loaded with plain loads, not through the read-only cache: under programmatic
dependent launch, what the previous kernel writes must be seen, and an output may lie where an input did.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from enginewright_builder.device import teams, tiles
from enginewright_builder.device.blocks import Block
from enginewright_builder.device.cuda_functions import STORAGE_TYPES
from enginewright_builder.device.expression import Computation
from enginewright_builder.device.kernel_text import Writer
from enginewright_builder.device.loops import Loop, Loops, loops
from enginewright_builder.device.motion import Motion
from enginewright_builder.device.schedule_kernel import Schedule, Shape
from enginewright_builder.device.tensors import TensorType
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space

FUNCTION = "computation"
_LARGE = 2**31
_BOUNDS = re.compile(r"__launch_bounds__\((\d+)\) ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """`source` is self-contained CUDA C++; `kernel` launches its function over OPERAND pointers, or is None where there
    is nothing to compute. `loops` says in words how the work is split."""

    source: str
    kernel: Kernel | None
    loops: str

    @property
    def roomier(self) -> str:
        """The same, content with one block on a multiprocessor: to have more of them, ptxas at times saves registers
        and spills (a max pool of 8 neighbours on 8.0)."""
        return _BOUNDS.sub(r"__launch_bounds__(\1, 1) ", self.source, count=1)


def emit(
    computations: Sequence[Computation],
    inputs: Sequence[TensorType | None],
    outputs: Sequence[TensorType],
    schedule: Schedule,
    *,
    cubin: str = "kernel",
    constant: frozenset[int] = frozenset(),
) -> Emitted:
    """One kernel for computations of one shape over the same inputs, each with its output.

    `constant` numbers the inputs that no kernel writes: they may be read before the previous kernel has ended.
    Pointers are Space.OPERAND, numbered inputs first. Raises KeyError for a function that CUDA text is not known of.
    """
    if 0 in computations[0].shape:
        return Emitted(source="", kernel=None, loops="nothing")
    made = loops(computations, inputs, outputs, rows=schedule.shape in (Shape.ROWS, Shape.PANELS))
    tiling = tiles.tiling(made, outputs) if schedule.shape is Shape.TILES else None
    if tiling is not None:
        plan = _tiled(tiling)
    else:
        plan = _rows(made, schedule) if schedule.shape is Shape.ROWS else _columns(made, schedule)
    body = _body(made, inputs, outputs, plan, constant)
    used = [number for number, kind in enumerate((*inputs, *outputs)) if kind is not None]
    kernel = Kernel(
        cubin=cubin,
        function=FUNCTION,
        grid=(plan.blocks, 1, 1),
        block=plan.block,
        arguments=tuple(Argument(pointer=Pointer(space=Space.OPERAND, name=str(number))) for number in used),
    )
    return Emitted(source=_source(body, inputs, outputs, math.prod(plan.block)), kernel=kernel, loops=plan.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """`place` gives each thread its row and rank; `row` is the row's number; `inside` are a row's elements."""

    block: tuple[int, int, int]
    blocks: int
    place: tuple[str, ...]
    groups: int  # rows, or groups of neighbours
    rows: tuple[Loop, ...]
    elements: tuple[Loop, ...]
    width: int  # neighbours along the last row loop
    team: teams.Joining
    words: str
    tiling: tiles.Tiling | None = None


def _tiled(tiling: tiles.Tiling) -> _Plan:
    return _Plan(
        block=(tiles.LANES, tiles.ROWS, 1),
        blocks=tiling.blocks,
        place=(),
        groups=tiling.blocks,
        rows=tiling.outer,
        elements=(),
        width=1,
        team=teams.column(tiles.LANES, 1, 1),
        words=f"{tiling.blocks} tiles of {tiling.side} x {tiling.side}",
        tiling=tiling,
    )


def _columns(made: Loops, schedule: Schedule) -> _Plan:
    fastest = made.rows[-1][1] if made.rows else 1
    width = fastest if fastest <= min(schedule.vector, 8) else _divisor(fastest, schedule.vector)
    groups = math.prod(extent for _, extent in made.rows) // width
    across = schedule.threads // schedule.ranks
    place = (
        f"const unsigned group = blockIdx.x * {across}u + threadIdx.x;",
        *(("const int rank = threadIdx.y;",) if schedule.ranks > 1 else ()),
    )
    return _Plan(
        block=(across, schedule.ranks, 1),
        blocks=-(-groups // across),
        place=place,
        groups=groups,
        rows=made.rows,
        elements=made.elements,
        width=width,
        team=teams.column(across, schedule.ranks, schedule.vector, made.elements),
        words=f"{groups} groups of {width}, {schedule.ranks} threads each",
    )


def _rows(made: Loops, schedule: Schedule) -> _Plan:
    rows = math.prod(extent for _, extent in made.rows)
    team = schedule.team
    if team <= 32:
        each = schedule.threads // team
        place = (
            f"const unsigned group = blockIdx.x * {each}u + threadIdx.x / {team}u;",
            f"const int rank = threadIdx.x % {team};",
        )
    else:
        each = 1
        place = ("const unsigned group = blockIdx.x;", "const int rank = threadIdx.x;")
    return _Plan(
        block=(schedule.threads if team <= 32 else team, 1, 1),
        blocks=-(-rows // each),
        place=place,
        groups=rows,
        rows=made.rows,
        elements=made.elements,
        width=1,
        team=teams.row(team, schedule.threads, schedule.vector, made),
        words=f"{rows} rows, {team} threads each",
    )


def _divisor(extent: int, most: int) -> int:
    """The largest power of two up to `most` that divides the extent."""
    made = 1
    while made * 2 <= most and extent % (made * 2) == 0:
        made *= 2
    return made


def _body(
    made: Loops,
    inputs: Sequence[TensorType | None],
    outputs: Sequence[TensorType],
    plan: _Plan,
    constant: frozenset[int],
) -> list[str]:
    graph = made.graph
    uses: dict[int, int] = {}
    for number in graph.reachable([*made.values, *made.stores]):
        for each in graph.nodes[number].arguments:
            uses[each] = uses.get(each, 0) + 1
    spans = [kind.span_bytes for kind in (*inputs, *outputs) if kind is not None]
    wide = max([*spans, plan.groups * plan.width], default=0) >= _LARGE
    index_type = "int64" if wide else "int"
    plan.team.index_type = index_type
    root = Block(
        binds=frozenset(name for name, _ in plan.rows),
        together=True,
        motion=Motion(graph, plan.rows[-1][0], plan.width) if plan.width > 1 else None,
    )
    for line in plan.place:
        root.say(line)
    writer = Writer(graph=graph, operands=inputs, uses=uses, index_type=index_type, team=plan.team)
    if plan.tiling is None:
        writer.kept = plan.team.keep(graph, made.values, constant)
        plan.team.fetch(writer, root)
    root.say("begin();")
    if plan.tiling is not None:
        tiles.body(writer, root, made, outputs, plan.tiling)
        return root.lines
    guard = _decode(root, plan, index_type)
    plan.team.elements(writer, root, made, outputs, guard)
    return root.lines


def _decode(root: Block, plan: _Plan, index_type: str) -> str:
    """Row indices from the group's number. Threads past the end repeat the last group; the guard keeps them silent."""
    guard, number = "", "group"
    if plan.groups % plan.team.groups(plan.block):
        guard = f"group < {plan.groups}u"
        root.say(f"const unsigned inside = min(group, {plan.groups - 1}u);")
        number = "inside"
    left = f"uint64({number})" if index_type != "int" else number
    loops_left = [(name, extent) for name, extent in plan.rows]
    for position, (name, extent) in reversed(list(enumerate(loops_left))):
        last = position == len(loops_left) - 1
        here = extent // plan.width if last else extent
        text = left if position == 0 else f"{left} % {here}u"
        times = f" * {plan.width}" if last and plan.width > 1 else ""
        root.say(f"const {index_type} {name} = {index_type}({text}){times};")
        if position:
            left = f"({left} / {here}u)"
    return guard


def _source(
    body: Sequence[str], inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], threads: int
) -> str:
    parameters = [
        f"const {STORAGE_TYPES[kind.dtype]}* in{number}" for number, kind in enumerate(inputs) if kind is not None
    ]
    parameters += [f"{STORAGE_TYPES[kind.dtype]}* out{number}" for number, kind in enumerate(outputs)]
    text = "\n".join("    " + line for line in body)
    head = f'extern "C" __global__ void __launch_bounds__({threads}) {FUNCTION}({", ".join(parameters)}) {{'
    return f"{prelude()}\n{head}\n{text}\n}}\n"


@cache
def prelude() -> str:
    """What every generated kernel stands on."""
    return resources.files("enginewright_builder.kernels").joinpath("portable.cuh").read_text()
