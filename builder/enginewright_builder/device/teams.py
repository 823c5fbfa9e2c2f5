"""How threads share a kernel's reductions and a row's elements: the part of the text that a schedule decides. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from enginewright_builder.device import folds, row_registers
from enginewright_builder.device.blocks import Block
from enginewright_builder.device.cuda_functions import FOLDS, REGISTER_TYPES
from enginewright_builder.device.graph import Graph, Op
from enginewright_builder.device.kernel_text import Writer
from enginewright_builder.device.loops import Loop, Loops
from enginewright_builder.device.motion import Motion
from enginewright_builder.device.tensors import TensorType

REGISTERS = 64  # that a thread may keep of its row
AHEAD = 96  # the same with what it loads before the kernel in front has ended


class Joining(Protocol):
    """A team, and what emit needs beside sharing reductions."""

    index_type: str

    def reduce(self, writer: Writer, number: int, block: Block) -> str | None:
        """See kernel_text.Team."""

    def groups(self, block: tuple[int, int, int]) -> int:
        """Rows, or groups of neighbours, that a block of threads computes."""

    def keep(self, graph: Graph, values: Sequence[int], constant: frozenset[int]) -> dict[int, str]:
        """Nodes whose values stay in registers between passes over a row. `constant` numbers the operands that are
        there before the kernel begins."""

    def fetch(self, writer: Writer, root: Block) -> None:
        """Loads of constants that are the same for every row, for before the wait."""

    def elements(self, writer: Writer, root: Block, made: Loops, outputs: Sequence[TensorType], guard: str) -> None:
        """Computes and stores all elements of the row."""


@dataclass(slots=True)
class _Team:
    """`size` threads, of which this one is `rank`, read a reduction's elements in turn, `vector` neighbours at once."""

    size: int
    vector: int
    join: str  # template arguments of the join: "lanes<F, 32>"
    elements_loops: tuple[Loop, ...] = ()
    rows_a_block: int = 1
    index_type: str = "int"
    columns: bool = False
    kept: dict[int, str] = field(default_factory=dict)
    ahead: list[int] = field(default_factory=list)  # of those, what is there before the kernel begins

    def groups(self, block: tuple[int, int, int]) -> int:
        """Rows a block."""
        return block[0] if self.columns else self.rows_a_block

    def keep(self, graph: Graph, values: Sequence[int], constant: frozenset[int]) -> dict[int, str]:
        """What two passes read or compute alike, if the row fits; and constants that all rows read alike, if they do
        beside it."""
        if not self.elements_loops:
            return {}
        if self.columns:
            return {}
        names = frozenset(name for name, _ in self.elements_loops)
        shared = row_registers.shared_between_passes(graph, values, names)
        each = self._steps() * self._width(self.elements_loops)
        if len(shared) * each > REGISTERS:
            return {}
        alike = [
            number for number in row_registers.constant_loads(graph, values, names, constant) if number not in shared
        ]
        self.ahead = alike if (len(shared) + len(alike)) * each <= AHEAD else []
        self.kept = {number: f"row{position}" for position, number in enumerate([*shared, *self.ahead])}
        return self.kept

    def fetch(self, writer: Writer, root: Block) -> None:
        """A pass of its own over the elements."""
        if not self.ahead:
            return
        self._declare_kept(writer, root)

        def loads(inner: Block) -> None:
            for number in self.ahead:
                writer.value(number, inner)

        self._pass(writer, root, loads)

    def reduce(self, writer: Writer, number: int, block: Block) -> str | None:
        """The team's reduction: each thread its part, then joined."""
        graph = writer.graph
        axes = graph.axes(number)
        if self.size == 1:
            return None
        several = writer.varies(number, block)
        if several and not self.columns:
            return None
        _ahead(writer, graph.nodes[number].arguments, block)
        name, fold = writer.fresh("r"), FOLDS[str(graph.nodes[number].detail[0])]
        folds.declare(writer, name, number, block, several)
        self._declare_kept(writer, block)
        if axes == self.elements_loops:
            lanes = not self.columns
            self._pass(
                writer,
                block,
                lambda inner: folds.join(writer, name, number, inner, several, lanes and inner.motion is not None),
            )
        else:
            self._strided(writer, number, name, block, several)
        joined = f"join_{self.join.format(F=fold)}"
        if several:
            assert block.motion is not None
            block.say(f"EACH(v, {block.motion.width}) {name}[v] = {joined}({name}[v]);")
        else:
            block.say(f"{name} = {joined}({name});")
        return folds.settled(writer, name, number, block, several)

    def elements(self, writer: Writer, root: Block, made: Loops, outputs: Sequence[TensorType], guard: str) -> None:
        """The last pass: values and stores."""
        self._declare_kept(writer, root)
        if not self.elements_loops:
            first = "rank == 0" if self.size > 1 else ""
            condition = " && ".join(each for each in (guard, first) if each)
            for number, (value, store) in enumerate(zip(made.values, made.stores, strict=True)):
                writer.store(number, value, store, root, outputs[number], condition)
            return
        _ahead(writer, made.values, root)

        def stores(inner: Block) -> None:
            for number, (value, store) in enumerate(zip(made.values, made.stores, strict=True)):
                writer.store(number, value, store, inner, outputs[number], guard)

        self._pass(writer, root, stores)

    def _declare_kept(self, writer: Writer, block: Block) -> None:
        for number, name in self.kept.items():
            if name not in self._declared:
                self._declared.add(name)
                kind = REGISTER_TYPES[writer.graph.nodes[number].dtype]
                width = self._width(self.elements_loops)
                lanes = (
                    f"[{width}]"
                    if width > 1 and Motion(writer.graph, self.elements_loops[-1][0], width).varies(number)
                    else ""
                )
                block.say(f"{kind} {name}[{self._steps()}]{lanes};")

    _declared: set[str] = field(default_factory=set)

    def _width(self, axes: Sequence[Loop]) -> int:
        made = 1
        if self.columns:  # the lanes are rows
            return made
        while made * 2 <= self.vector and axes[-1][1] % (made * 2) == 0:
            made *= 2
        return made

    def _steps(self) -> int:
        total = _total(self.elements_loops)
        return -(-total // (self.size * self._width(self.elements_loops)))

    def _pass(self, writer: Writer, block: Block, work: object) -> None:
        """A walk over the row's elements: `work` gets the block of one step."""
        width, steps, total = self._width(self.elements_loops), self._steps(), _total(self.elements_loops)
        inner = self._step_block(writer, block, self.elements_loops, width, "step" if self.kept else "")
        work(inner)  # type: ignore[operator]
        place = self.elements_loops[0][0] if len(self.elements_loops) == 1 else "element"
        times = f" * {width}" if width > 1 else ""
        if self.kept:
            outer = Block()
            outer.say(f"const {self.index_type} {place} = (step * {self.size} + rank){times};")
            if total % (self.size * width):
                outer.add(f"if ({place} < {total})", inner)
            else:
                outer.lines.extend(inner.lines)
            block.add(f"EACH(step, {steps})", outer)
        else:
            head = f"for ({self.index_type} {place} = rank{times}; {place} < {total}; {place} += {self.size * width})"
            block.add(head, inner)

    def _step_block(self, writer: Writer, block: Block, axes: Sequence[Loop], width: int, slot: str) -> Block:
        inner = Block(
            parent=block,
            binds=frozenset(name for name, _ in axes),
            motion=Motion(writer.graph, axes[-1][0], width) if width > 1 else block.motion if self.columns else None,
            slot=slot,
        )
        _unravel(inner, axes, self.index_type)
        return inner

    def _strided(self, writer: Writer, number: int, name: str, block: Block, several: bool) -> None:
        """Axes of the reduction's own. Where the thread has several outputs, they are the lanes."""
        axes = writer.graph.axes(number)
        width = 1 if several or self.columns or not contiguous(writer.graph, number) else self._width(axes)
        inner = self._step_block(writer, block, axes, width, "")
        folds.join(writer, name, number, inner, several, lanes=width > 1)
        place = axes[0][0] if len(axes) == 1 else "element"
        times = f" * {width}" if width > 1 else ""
        total = _total(axes)
        head = f"for ({self.index_type} {place} = rank{times}; {place} < {total}; {place} += {self.size * width})"
        block.say("#pragma unroll 4")
        block.add(head, inner)


def column(across: int, ranks: int, vector: int, elements: tuple[Loop, ...] = ()) -> Joining:
    """`ranks` threads on one another for each group of neighbours, `across` groups a block."""
    join = f"column<{{F}}, {across}, {ranks}>"
    return _Team(size=ranks, vector=vector, join=join, columns=True, elements_loops=elements)


def row(team: int, threads: int, vector: int, made: Loops) -> Joining:
    """`team` threads for each row."""
    join = f"lanes<{{F}}, {team}>" if team <= 32 else f"block<{{F}}, {team}>"
    return _Team(
        size=team,
        vector=vector,
        join=join,
        elements_loops=made.elements,
        rows_a_block=threads // team if team <= 32 else 1,
    )


def _total(axes: Sequence[Loop]) -> int:
    total = 1
    for _, extent in axes:
        total *= extent
    return total


def _unravel(block: Block, axes: Sequence[Loop], index_type: str) -> None:
    if len(axes) == 1:
        return
    left = "element"
    for position, (name, extent) in reversed(list(enumerate(axes))):
        block.say(f"const {index_type} {name} = {left}{f' % {extent}' if position else ''};")
        left = f"{left} / {extent}"


def contiguous(graph: Graph, number: int) -> bool:
    """Whether some load runs along the last axis one by one."""
    last = graph.axes(number)[-1][0]
    for each in graph.reachable(graph.nodes[number].arguments):
        if graph.nodes[each].op is Op.LOAD:
            for atom, coefficient in graph.terms(graph.nodes[each].arguments[0])[1].items():
                if graph.nodes[atom].detail == (last,) and coefficient == 1:
                    return True
    return False


def _ahead(writer: Writer, values: Sequence[int], root: Block) -> None:
    """The row's own reductions, before the pass that uses them."""
    for number in writer.graph.reachable(values):
        alone = writer.graph.nodes[number].op is Op.REDUCE and writer.graph.free[number] <= root.binds
        if alone and not _branched(writer.graph, values, number):
            writer.value(number, root)


def _branched(graph: Graph, values: Sequence[int], number: int) -> bool:
    """Whether a node is reached through a condition's branch alone."""
    seen: set[int] = set()
    waiting = list(values)
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        node = graph.nodes[each]
        waiting.extend(node.arguments[:1] if node.op is Op.SELECT else node.arguments)
    return number not in seen
