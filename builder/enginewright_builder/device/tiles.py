"""Transposing through shared memory: a load whose neighbours are not the output's neighbours, a square tile at a time.

      load: lanes along b, where the operand is contiguous      store: lanes along a, where the output is
      tile[a][b] <- in[... a * far + b]                         out[... b * far + a] <- f(tile[a][b], ...)

Read in place, each lane would touch a line of memory of its own. The rows of a tile are one element longer than it is
wide, so that its columns lie in different banks. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from enginewright_builder.device.blocks import Block
from enginewright_builder.device.cuda_functions import REGISTER_TYPES
from enginewright_builder.device.graph import Graph, Op
from enginewright_builder.device.kernel_text import Writer
from enginewright_builder.device.loops import Loop, Loops
from enginewright_builder.device.motion import Motion
from enginewright_builder.device.tensors import ITEM_BYTES, TensorType

LANES, ROWS = 32, 8  # threads of a block: along the tile's rows, and on one another
_MOST = 2  # loads through tiles: 48 KiB of shared memory hold no more


@dataclass(frozen=True, slots=True)
class Tiling:
    """The loops of a tile, `a` contiguous in the output and `b` in `loads`; `width` neighbours a lane."""

    a: Loop
    b: Loop
    outer: tuple[Loop, ...]
    loads: tuple[int, ...]
    width: int

    @property
    def side(self) -> int:
        """Elements of a tile's side."""
        return LANES * self.width

    @property
    def blocks(self) -> int:
        """Of the grid."""
        total = -(-self.a[1] // self.side) * -(-self.b[1] // self.side)
        for _, extent in self.outer:
            total *= extent
        return total


def tiling(made: Loops, outputs: Sequence[TensorType]) -> Tiling | None:
    """How to tile, or None where no load stands across the output or one of the sides is too short."""
    graph = made.graph
    if len(made.rows) < 2 or made.elements or _reduces(graph, made.values):
        return None
    a = made.rows[-1]
    if _steps(graph, made.stores[0]).get(a[0]) != 1 or a[1] < LANES // 2:
        return None
    for b in made.rows[:-1]:
        loads = tuple(
            number
            for number in _unconditional(graph, made.values)
            if (steps := _steps(graph, graph.nodes[number].arguments[0])).get(b[0]) == 1 and steps.get(a[0], 0) > 1
        )
        if loads and len(loads) <= _MOST and b[1] >= LANES // 2:
            width = max(1, 4 // ITEM_BYTES[outputs[0].dtype])
            while a[1] % width or b[1] % width:
                width //= 2
            outer = tuple(each for each in made.rows if each not in (a, b))
            return Tiling(a, b, outer, loads, width)
    return None


def body(writer: Writer, root: Block, made: Loops, outputs: Sequence[TensorType], plan: Tiling) -> None:
    """The whole kernel's text."""
    side, a_extent, b_extent = plan.side, plan.a[1], plan.b[1]
    across, down = -(-a_extent // side), -(-b_extent // side)
    root.say(f"const {writer.index_type} a0 = blockIdx.x % {across}u * {side};")
    root.say(f"const {writer.index_type} b0 = blockIdx.x / {across}u % {down}u * {side};")
    left = f"blockIdx.x / {across * down}u"
    for name, extent in reversed(plan.outer):
        root.say(f"const {writer.index_type} {name} = {left} % {extent}u;")
        left = f"({left}) / {extent}u"
    lane = f"threadIdx.x{f' * {plan.width}' if plan.width > 1 else ''}"
    row = f"threadIdx.y + step * {ROWS}"
    names = {}
    for position, load in enumerate(plan.loads):
        names[load] = f"tile{position}"
        kind = REGISTER_TYPES[writer.graph.nodes[load].dtype]
        root.say(f"__shared__ {kind} tile{position}[{side}][{side + 1}];")
    inner = _inside(writer, root, plan, plan.b)
    for load, name in names.items():
        if plan.width > 1:
            text = writer.value(load, inner, "v")
            inner.say(f"EACH(v, {plan.width}) {name}[{row}][{lane} + v] = {text};")
        else:
            inner.say(f"{name}[{row}][{lane}] = {writer.value(load, inner)};")
    _walk(writer, root, plan, inner, f"a0 + {row}", f"b0 + {lane}")
    root.say("__syncthreads();")
    inner = _inside(writer, root, plan, plan.a)
    for load, name in names.items():
        kind, held = REGISTER_TYPES[writer.graph.nodes[load].dtype], writer.fresh()
        if plan.width > 1:
            inner.say(f"{kind} {held}[{plan.width}];")
            inner.say(f"EACH(v, {plan.width}) {held}[v] = {name}[{lane} + v][{row}];")
        else:
            inner.say(f"const {kind} {held} = {name}[{lane}][{row}];")
        inner.known[load] = (held, plan.width > 1)
    for number, (value, store) in enumerate(zip(made.values, made.stores, strict=True)):
        writer.store(number, value, store, inner, outputs[number], "")
    _walk(writer, root, plan, inner, f"a0 + {lane}", f"b0 + {row}")


def _inside(writer: Writer, root: Block, plan: Tiling, moving: Loop) -> Block:
    motion = Motion(writer.graph, moving[0], plan.width) if plan.width > 1 else None
    return Block(parent=root, binds=frozenset({plan.a[0], plan.b[0]}), motion=motion)


def _walk(writer: Writer, root: Block, plan: Tiling, inner: Block, a: str, b: str) -> None:
    outer = Block()
    outer.say(f"const {writer.index_type} {plan.a[0]} = {a};")
    outer.say(f"const {writer.index_type} {plan.b[0]} = {b};")
    outer.add(f"if ({plan.a[0]} < {plan.a[1]} && {plan.b[0]} < {plan.b[1]})", inner)
    root.add(f"EACH(step, {plan.side // ROWS})", outer)


def _steps(graph: Graph, number: int) -> dict[str, int]:
    """An offset's coefficients by index; of an index that it has otherwise too, none that helps."""
    made: dict[str, int] = {}
    for atom, coefficient in graph.terms(number)[1].items():
        if graph.nodes[atom].op is Op.INDEX:
            made[str(graph.nodes[atom].detail[0])] = coefficient
        else:
            made.update(dict.fromkeys(graph.free[atom], 0))
    return made


def _reduces(graph: Graph, values: Sequence[int]) -> bool:
    return any(graph.nodes[number].op is Op.REDUCE for number in graph.reachable(values))


def _unconditional(graph: Graph, values: Sequence[int]) -> list[int]:
    """Loads that every element does: those in a condition's branch may be out of bounds in a tile."""
    seen: set[int] = set()
    waiting = list(values)
    while waiting:
        number = waiting.pop()
        if number not in seen:
            seen.add(number)
            node = graph.nodes[number]
            waiting.extend(node.arguments[:1] if node.op is Op.SELECT else node.arguments)
    return sorted(number for number in seen if graph.nodes[number].op is Op.LOAD)
