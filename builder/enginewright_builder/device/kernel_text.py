"""A kernel's body: nodes become statements, each in the outermost block where all that it depends on is known.

So what does not depend on a loop is computed before it, and nothing leaves the branch of a condition, for a load may be
in bounds only there. Where a thread computes several neighbours (lanes), a value that differs between them is an array.
Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from enginewright_builder.device import cuda_functions, folds
from enginewright_builder.device.blocks import Block, moving, pack_width
from enginewright_builder.device.cuda_functions import REGISTER_TYPES
from enginewright_builder.device.graph import Graph, Op
from enginewright_builder.device.tensors import TensorType

LONGEST = 90  # characters of one expression; a longer one gets a variable of its own


class Team(Protocol):
    """How the threads of a kernel share a reduction; None of it where each works alone."""

    def reduce(self, writer: "Writer", number: int, block: Block) -> str | None:
        """The name of the variable that holds it in all threads, or None where every thread is to do it alone."""


@dataclass(slots=True)
class Writer:
    """Writes one kernel over `graph`. `index_type` is int, or int64 where operands are that large."""

    graph: Graph
    operands: Sequence[TensorType | None]
    uses: Mapping[int, int]
    index_type: str
    team: Team
    kept: dict[int, str] = field(default_factory=dict)  # nodes with a slot for each pass: the array's name
    filled: set[int] = field(default_factory=set)
    count: int = 0

    def value(self, number: int, block: Block, lane: str = "0") -> str:
        """An expression for a node's value in a block, for that lane where it differs between lanes."""
        node = self.graph.nodes[number]
        if block.lane:
            lane = block.lane
        elif not self.varies(number, block):
            lane = "0"
        if node.op is Op.CONSTANT:
            return cuda_functions.literal(str(node.detail[0]), node.dtype)
        if node.op is Op.INDEX:
            name = str(node.detail[0])
            along = moving(block)
            return f"({name} + {lane})" if along is not None and along.name == name and lane != "0" else name
        found = self._found(number, block)
        if found is None:
            place = self._place(number, block)
            text = self._inline(number, place, lane) if place is block or node.op is Op.SUM else None
            if text is not None and (len(text) <= LONGEST or node.op is Op.SUM):
                return text
            found = self._name(number, place)
            place.known[number] = found
        name, several = found
        return f"{name}[{lane}]" if several else name

    def varies(self, number: int, block: Block) -> bool:
        """Whether a node is an array over the block's lanes."""
        return block.motion is not None and block.motion.varies(number)

    def fresh(self, prefix: str = "t") -> str:
        """A new variable's name."""
        self.count += 1
        return f"{prefix}{self.count}"

    def assign(self, target: str, number: int, block: Block) -> None:
        """target[v] = value for each lane."""
        motion = block.motion
        assert motion is not None
        text = self.value(number, block, "v")
        block.say(f"EACH(v, {motion.width}) {target}[v] = {text};")

    def offset(self, number: int, block: Block, lane: str = "0") -> str:
        """A load's or store's offset in elements."""
        return self.value(number, block, lane)

    def store(self, output: int, value: int, offset: int, block: Block, kind: TensorType, condition: str) -> None:
        """Writes a value to where the offset says, if the condition holds."""
        motion = block.motion
        if motion is None:
            line = f"write(out{output} + {self.offset(offset, block)}, {self.value(value, block)});"
        else:
            name = self.fresh("y")
            block.say(f"{REGISTER_TYPES[self.graph.nodes[value].dtype]} {name}[{motion.width}];")
            self.assign(name, value, block)
            step, divisor = motion.slope(offset)
            if step == 1:
                width = pack_width(kind, motion.width, divisor)
                line = f"write_pack<{width}>(out{output} + {self.offset(offset, block)}, {name});"
            else:
                line = f"EACH(v, {motion.width}) write(out{output} + {self.offset(offset, block, 'v')}, {name}[v]);"
        block.say(f"if ({condition}) {{ {line} }}" if condition else line)

    def _found(self, number: int, block: Block) -> tuple[str, bool] | None:
        at: Block | None = block
        free = self.graph.free[number]
        while at is not None:
            if number in at.known:
                return at.known[number]
            if at.slot and number in self.filled:
                return f"{self.kept[number]}[{at.slot}]", at.motion is not None and at.motion.varies(number)
            if at.binds & free and not at.lane:
                return None
            at = at.parent
        return None

    def _place(self, number: int, block: Block) -> Block:
        at, free = block, self.graph.free[number]
        while at.parent is not None and not at.branch and not at.binds & free:
            at = at.parent
        return at

    def _inline(self, number: int, block: Block, lane: str) -> str | None:
        """The value without a variable, where it is cheap or used once."""
        node = self.graph.nodes[number]
        if number in self.kept or node.op in (Op.LOAD, Op.REDUCE):
            return None
        if node.op is Op.SUM:
            return self._sum(number, block, lane)
        if node.op is Op.SELECT and not self._harmless(number):
            return None
        if self.uses.get(number, 2) > 1 and node.op is not Op.CAST:
            return None
        return self._formula(number, block, lane)

    def _formula(self, number: int, block: Block, lane: str) -> str:
        node, dtypes = (
            self.graph.nodes[number],
            [self.graph.nodes[each].dtype for each in self.graph.nodes[number].arguments],
        )
        texts = [self.value(each, block, lane) for each in node.arguments]
        match node.op:
            case Op.CAST:
                return cuda_functions.converted(texts[0], dtypes[0], node.dtype)
            case Op.SELECT:
                kind = REGISTER_TYPES[node.dtype]
                return f"({texts[0]} ? {kind}({texts[1]}) : {kind}({texts[2]}))"
        function = str(node.detail[0])
        if function in ("//", "%") and self.graph.bounds[number] is not None:
            return f"({texts[0]} {'/' if function == '//' else '%'} {texts[1]})"
        dtype = dtypes[0] if node.dtype == "bool" else node.dtype
        texts = [
            text if REGISTER_TYPES[own] == REGISTER_TYPES[dtype] else f"{REGISTER_TYPES[dtype]}({text})"
            for text, own in zip(texts, dtypes, strict=True)
        ]
        return cuda_functions.called(function, dtype, texts)

    def _sum(self, number: int, block: Block, lane: str) -> str:
        constant, terms = self.graph.terms(number)
        parts = []
        for each, coefficient in terms.items():
            text = self.value(each, block, lane)
            if self.index_type != "int":
                text = f"{self.index_type}({text})"
            elif self.graph.nodes[each].dtype != "int32":
                text = f"int({text})"
            parts.append(text if coefficient == 1 else f"{text} * {coefficient}")
        if constant:
            parts.append(str(constant))
        return parts[0] if len(parts) == 1 and "*" not in parts[0] else f"({' + '.join(parts)})"

    def _harmless(self, number: int) -> bool:
        """Whether both branches of a condition may be computed: no loads, no reductions, nothing long."""
        inner = self.graph.reachable(self.graph.nodes[number].arguments[1:])
        return len(inner) <= 12 and all(self.graph.nodes[each].op not in (Op.LOAD, Op.REDUCE) for each in inner)

    def _name(self, number: int, block: Block) -> tuple[str, bool]:
        """A variable for the node, declared and set in the block."""
        node = self.graph.nodes[number]
        several = self.varies(number, block) and not block.lane
        if node.op is Op.REDUCE:
            shared = self.team.reduce(self, number, block) if block.together else None
            return (shared, several) if shared is not None else (folds.alone(self, number, block, several), several)
        kind = REGISTER_TYPES[node.dtype]
        if number in self.kept and block.slot and number not in self.filled:
            name = f"{self.kept[number]}[{block.slot}]"
            self.filled.add(number)
        else:
            name = self.fresh()
            if several or (node.op is Op.SELECT and not self._harmless(number)):
                block.say(f"{kind} {name}{self._array(block, several)};")
            else:
                text = self._load(number, block) if node.op is Op.LOAD else self._formula(number, block, "0")
                block.say(f"const {kind} {name} = {text};")
                return name, False
        self._set(name, number, block, several)
        return name, several

    def _set(self, name: str, number: int, block: Block, several: bool) -> None:
        """Statements that give the declared variable its value."""
        node = self.graph.nodes[number]
        if node.op is Op.SELECT and not self._harmless(number):
            self._branches(name, number, block, several)
        elif not several:
            block.say(
                f"{name} = {self._load(number, block) if node.op is Op.LOAD else self._formula(number, block, '0')};"
            )
        elif node.op is Op.LOAD:
            self._load_lanes(name, number, block)
        else:
            assert block.motion is not None
            block.say(f"EACH(v, {block.motion.width}) {name}[v] = {self._formula(number, block, 'v')};")

    def _array(self, block: Block, several: bool) -> str:
        return f"[{block.motion.width}]" if several and block.motion is not None else ""

    def _load(self, number: int, block: Block) -> str:
        node = self.graph.nodes[number]
        return f"read(in{node.detail[0]} + {self.offset(node.arguments[0], block)})"

    def _load_lanes(self, name: str, number: int, block: Block) -> None:
        node, motion = self.graph.nodes[number], block.motion
        operand = node.detail[0]
        assert motion is not None
        assert isinstance(operand, int)
        kind = self.operands[operand]
        assert kind is not None
        step, divisor = motion.slope(node.arguments[0])
        if step == 1:
            width = pack_width(kind, motion.width, divisor)
            block.say(f"read_pack<{width}>({name}, in{operand} + {self.offset(node.arguments[0], block)});")
        else:
            text = self.offset(node.arguments[0], block, "v")
            block.say(f"EACH(v, {motion.width}) {name}[v] = read(in{operand} + {text});")

    def _branches(self, name: str, number: int, block: Block, several: bool) -> None:
        condition, yes, no = self.graph.nodes[number].arguments
        if several and self.varies(condition, block):
            assert block.motion is not None
            names = frozenset({block.motion.name})
            inner = Block(parent=block, binds=names, lane="v", slot="")
            text = self.value(condition, inner)
            self._branch(f"{name}[v]", text, (yes, no), inner, several=False)
            block.add(f"EACH(v, {block.motion.width})", inner)
            return
        self._branch(name, self.value(condition, block), (yes, no), block, several)

    def _branch(self, name: str, condition: str, branches: tuple[int, int], block: Block, several: bool) -> None:
        for head, number in zip((f"if ({condition})", "else"), branches, strict=True):
            inner = Block(parent=block, branch=True, motion=block.motion, lane=block.lane)
            if several:
                self.assign(name, number, inner)
            else:
                inner.say(f"{name} = {self.value(number, inner)};")
            block.add(head, inner)
