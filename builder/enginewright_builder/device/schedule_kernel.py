"""Which thread computes what: a kernel's schedule, by name, and which schedules are worth trying for a computation.

COLUMNS  a thread computes `vector` neighbours of the output; `ranks` threads share each reduction, their parts joined
         through shared memory. With one rank everything is serial: pointwise layers, pooling.
ROWS     a team of `team` threads (up to 32 lanes, or a whole block) computes a row: reductions that a row's elements
         share are computed together, once; what is read twice stays in registers where it fits.
PANELS   rows again, where neighbouring rows are neighbours in memory (norms over the pixels of channels-last data):
         a thread has `vector` rows, and `ranks` threads share their elements.
TILES    transposing: see tiles.py.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from enginewright_builder.device import tiles
from enginewright_builder.device.graph import Op
from enginewright_builder.device.loops import Loops
from enginewright_builder.device.teams import contiguous
from enginewright_builder.device.tensors import ITEM_BYTES, TensorType


class Shape(StrEnum):
    """The ways."""

    COLUMNS = "columns"
    ROWS = "rows"
    PANELS = "panels"
    TILES = "tiles"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """`threads` a block; `vector` is the most elements that a thread treats as neighbours."""

    shape: Shape
    threads: int = 128
    vector: int = 1
    ranks: int = 1
    team: int = 32

    @property
    def name(self) -> str:
        """As the timing cache keeps it: "columns t128 v8 r1"."""
        share = f"g{self.team}" if self.shape is Shape.ROWS else f"r{self.ranks}"
        return f"{self.shape} t{self.threads} v{self.vector} {share}"


def widest(outputs: tuple[TensorType, ...] | list[TensorType]) -> int:
    """Elements of 16 bytes of the first output."""
    return 16 // ITEM_BYTES[outputs[0].dtype]


def schedules(flat: Loops, shared: Loops, outputs: tuple[TensorType, ...]) -> list[Schedule]:
    """What is worth trying, the best guess first. `flat` are the loops without rows, `shared` those with."""
    vector = widest(outputs)
    reductions = [number for number in flat.graph.reachable(flat.values) if flat.graph.nodes[number].op is Op.REDUCE]
    outer = [number for number in reductions if not any(name.startswith("k") for name in flat.graph.free[number])]
    work = max((_product(extent for _, extent in flat.graph.axes(number)) for number in outer), default=1)
    total = _product(extent for _, extent in flat.rows)
    made = _columns(vector, total)
    if not reductions:
        tiled = tiles.tiling(flat, outputs) is not None
        return [Schedule(shape=Shape.TILES, threads=tiles.LANES * tiles.ROWS), *made] if tiled else made
    rows = _product(extent for _, extent in shared.rows)
    length = max(work, _product(extent for _, extent in shared.elements))
    teams = _rows(rows, length, vector)
    if shared.elements:  # alone, a thread would do a row's reductions again for each of its elements
        panels = _panels(shared, length, vector)
        return panels + teams + (made if work <= 16 else [])
    columns = [
        Schedule(shape=Shape.COLUMNS, threads=threads, vector=width, ranks=ranks)
        for width in dict.fromkeys((1, 2, vector) if total < 1 << 16 else (vector, 2, 1))
        for threads, ranks in ((256, 8), (512, 16), (512, 32))
        if work >= 4 * ranks
    ]
    along = work >= 32 and any(contiguous(flat.graph, number) for number in outer)  # alone, each thread reads a line
    if total >= 1 << 18 and not along:
        return made + columns + teams
    return teams + columns + made if along else columns + made + teams


def _columns(vector: int, total: int) -> list[Schedule]:
    small = total < 132 * 128 * vector
    widths = dict.fromkeys((max(vector // 4, 1), vector, 1) if small else (vector, max(vector // 2, 1), 2 * vector, 1))
    return [Schedule(shape=Shape.COLUMNS, threads=128 if small else 256, vector=width) for width in widths]


def _panels(shared: Loops, length: int, vector: int) -> list[Schedule]:
    """Where a store's neighbours are neighbouring rows."""
    if not shared.rows or length < 16:
        return []
    moves = shared.graph.terms(shared.stores[0])[1]
    step = {shared.graph.nodes[atom].detail[0]: coefficient for atom, coefficient in moves.items()}
    if step.get(shared.rows[-1][0]) != 1:
        return []
    return [
        Schedule(shape=Shape.PANELS, threads=threads, vector=width, ranks=ranks)
        for width in dict.fromkeys((2, vector, 1))
        for threads, ranks in ((512, 32), (1024, 64), (256, 16), (1024, 128))
    ]


def _rows(rows: int, length: int, vector: int) -> list[Schedule]:
    made = []
    for team in (8, 32, 64, 128, 256, 512, 1024):
        per_thread = length / team
        if 1 <= per_thread <= 64 or (team == 1024 and per_thread > 64) or (team == 8 and length < 8):
            width = vector
            while width > 1 and width * team > length:
                width //= 2
            for each in dict.fromkeys((width, max(width // 2, 1), 1)):
                made.append(Schedule(shape=Shape.ROWS, threads=max(team, 128), vector=each, team=team))
    made.sort(key=lambda each: _distance(rows, length, each.team))
    return made[:9]


def _distance(rows: int, length: int, team: int) -> float:
    """How far a team is from what was fastest on an H200: warps while they hold a row in 32 registers a thread, else
    blocks with 16; more threads a row where the rows alone do not fill the GPU."""
    if rows * team < 132 * 256:
        return abs(math.log2(length / team / 4))
    return abs(math.log2(length / team / 16)) + (1.5 if 32 < team <= 128 else 0)


def _product(extents: Iterable[int]) -> int:
    return math.prod(extents)
