"""A reduction's text: its accumulator, one term joined to it, and the loops where a thread does it alone. Pure."""

from typing import TYPE_CHECKING

from enginewright_builder.device.blocks import Block, moving
from enginewright_builder.device.cuda_functions import FOLDS, REGISTER_TYPES
from enginewright_builder.device.graph import Graph

if TYPE_CHECKING:
    from enginewright_builder.device.kernel_text import Writer

UNROLLED = 32  # iterations of a loop that is written out


def alone(writer: "Writer", number: int, block: Block, several: bool) -> str:
    """A reduction by one thread, in nested loops."""
    graph = writer.graph
    axes, name = graph.axes(number), writer.fresh("r")
    declare(writer, name, number, block, several)
    along = moving(block)
    own = along is not None and along.name in dict(axes)  # an index of that name, but not the lanes' one
    inner = Block(
        parent=block,
        binds=frozenset(axis for axis, _ in axes),
        motion=None if own else block.motion,
        lane="" if own else block.lane,
    )
    join(writer, name, number, inner, several)
    for axis, extent in reversed(axes):
        head = f"for ({writer.index_type} {axis} = 0; {axis} < {extent}; ++{axis})"
        unroll = "#pragma unroll" if extent <= UNROLLED else "#pragma unroll 4"
        outer = Block()
        outer.say(unroll)
        outer.add(head, inner)
        inner = outer
    block.lines.extend(inner.lines)
    return settled(writer, name, number, block, several)


def declare(writer: "Writer", name: str, number: int, block: Block, several: bool) -> None:
    """The accumulator, neutral."""
    kind, fold = fold_type(writer.graph, number), FOLDS[str(writer.graph.nodes[number].detail[0])]
    neutral = f"{fold}::neutral_place<{kind[6:-1]}>()" if kind.startswith("Place<") else f"{fold}::neutral<{kind}>()"
    if several:
        assert block.motion is not None
        block.say(f"{kind} {name}[{block.motion.width}];")
        block.say(f"EACH(v, {block.motion.width}) {name}[v] = {neutral};")
    else:
        block.say(f"{kind} {name} = {neutral};")


def join(writer: "Writer", name: str, number: int, block: Block, several: bool, lanes: bool = False) -> None:
    """One iteration: the body joined to the accumulator; `lanes`: to one accumulator for all of the lanes."""
    node, (body,) = writer.graph.nodes[number], writer.graph.nodes[number].arguments
    fold, kind = FOLDS[str(node.detail[0])], fold_type(writer.graph, number)
    text = writer.value(body, block, "v" if several or lanes else "0")
    if kind.startswith("Place<"):
        last = writer.graph.axes(number)[-1][0]
        position = f"{last} + v" if lanes else last
        text = f"{kind}{{{text}, int({position})}}"
    target = f"{name}[v]" if several else name
    line = f"{target} = {fold}::join({target}, {text if kind.startswith('Place<') else f'{kind}({text})'});"
    if several or lanes:
        assert block.motion is not None
        line = f"EACH(v, {block.motion.width}) {line}"
    block.say(line)


def fold_type(graph: Graph, number: int) -> str:
    """The accumulator's type: arg-min and arg-max keep a place, narrow integers are summed as int."""
    node = graph.nodes[number]
    if str(node.detail[0]).startswith("arg"):
        return f"Place<{REGISTER_TYPES[graph.nodes[node.arguments[0]].dtype]}>"
    kind = REGISTER_TYPES[node.dtype]
    return "int" if kind in ("int8", "int16") and node.detail[0] in ("sum", "product") else kind


def settled(writer: "Writer", name: str, number: int, block: Block, several: bool) -> str:
    """The accumulator as the reduction's type."""
    node = writer.graph.nodes[number]
    kind, have = REGISTER_TYPES[node.dtype], fold_type(writer.graph, number)
    if have == kind:
        return name
    made, place = writer.fresh(), ".at" if have.startswith("Place<") else ""
    if several:
        assert block.motion is not None
        block.say(f"{kind} {made}[{block.motion.width}];")
        block.say(f"EACH(v, {block.motion.width}) {made}[v] = {kind}({name}[v]{place});")
    else:
        block.say(f"const {kind} {made} = {kind}({name}{place});")
    return made
