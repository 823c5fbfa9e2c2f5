"""A kernel's loops before anything is said of threads: which indices are rows, which lie within a row. Pure.

Dimensions are ordered by how far apart their elements lie in the output, and those that every operand lets run as one
are merged, so that a pointwise layer over equal layouts is one loop without a division. A computation whose reductions
do not depend on some of the output's indices has rows: what they give is shared by a row's elements.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from enginewright_builder.device.expression import Computation
from enginewright_builder.device.graph import Graph, Op
from enginewright_builder.device.numbering import Numbering, rename_axes, replace
from enginewright_builder.device.tensors import TensorType

Loop = tuple[str, int]  # an index variable and its extent


@dataclass(frozen=True, slots=True, kw_only=True)
class Loops:
    """`values` and `stores` (offsets in elements) are nodes, one an output; `rows` and `elements` from the slowest to
    the fastest. Without rows of their own, `rows` are all of the output's loops and `elements` are none."""

    graph: Graph
    values: tuple[int, ...]
    stores: tuple[int, ...]
    rows: tuple[Loop, ...]
    elements: tuple[Loop, ...]


def loops(
    computations: Sequence[Computation],
    inputs: Sequence[TensorType | None],
    outputs: Sequence[TensorType],
    *,
    rows: bool,
) -> Loops:
    """The loops of a kernel that computes all of the outputs, which have one shape. `rows`: look for shared rows."""
    shape = computations[0].shape
    extents = {f"i{position}": extent for position, extent in enumerate(shape)}
    graph = Graph()
    numbering = Numbering(graph=graph, operands=inputs, extents=extents)
    values = [numbering.number(each.value) for each in computations]
    stores = [
        graph.sum(
            0, {graph.index(f"i{d}", n): s for d, (n, s) in enumerate(zip(shape, kind.strides, strict=True)) if n > 1}
        )
        for kind in outputs
    ]
    names = [name for name, extent in extents.items() if extent > 1]
    strides = {f"i{position}": stride for position, stride in enumerate(outputs[0].strides)}
    names.sort(key=lambda name: -strides[name])
    shared = _row_names(graph, values, names) if rows else set(names)
    parts = [[name for name in names if name in shared], [name for name in names if name not in shared]]
    nodes = [*values, *stores]
    merged: list[tuple[Loop, ...]] = []
    for part in parts:
        nodes, part_loops = merge(graph, nodes, [(name, extents[name]) for name in part])
        merged.append(part_loops)
    nodes = _tidy_axes(graph, nodes, merged[1])
    count = len(values)
    return Loops(
        graph=graph, values=tuple(nodes[:count]), stores=tuple(nodes[count:]), rows=merged[0], elements=merged[1]
    )


def _row_names(graph: Graph, values: Sequence[int], names: Sequence[str]) -> set[str]:
    """The output's indices on which some reduction depends; all of them where no reduction stands alone."""
    found: set[str] = set()
    alone = False
    outputs = frozenset(names)
    for number in graph.reachable(values):
        if graph.nodes[number].op is Op.REDUCE and graph.free[number] <= outputs:
            found |= graph.free[number]
            alone = True
    return found if alone else set(names)


def merge(graph: Graph, nodes: Sequence[int], wanted: Sequence[Loop]) -> tuple[list[int], tuple[Loop, ...]]:
    """Neighbouring loops, slowest first, made one where every address moves along both as along one."""
    result, left = list(nodes), list(wanted)
    position = 0
    while position + 1 < len(left):
        (outer, outer_extent), (inner, inner_extent) = left[position : position + 2]
        if not _runs_on(graph, result, outer, inner, inner_extent):
            position += 1
            continue
        name, extent = f"{outer}{inner}", outer_extent * inner_extent
        whole = graph.index(name, extent)
        # Each sum has inner_extent * c * outer + c * inner, so outer = 0 and inner = whole says the same.
        result = replace(graph, result, {outer: graph.constant(0, "int32"), inner: whole})
        left[position : position + 2] = [(name, extent)]
    return result, tuple(left)


def _runs_on(graph: Graph, roots: Sequence[int], outer: str, inner: str, extent: int) -> bool:
    for number in graph.reachable(roots):
        node = graph.nodes[number]
        if not graph.free[number] & {outer, inner}:
            continue
        if node.op is Op.INDEX:
            continue
        sums = [number] if node.op is Op.SUM else [each for each in node.arguments if graph.nodes[each].op is Op.INDEX]
        for each in sums:
            moves = {
                graph.nodes[atom].detail[0]: c for atom, c in graph.terms(each)[1].items() if _is_index(graph, atom)
            }
            if moves.get(outer, 0) != moves.get(inner, 0) * extent:
                return False
    return not any(graph.nodes[root].op is Op.INDEX and graph.nodes[root].detail[0] in (outer, inner) for root in roots)


def _is_index(graph: Graph, number: int) -> bool:
    return graph.nodes[number].op is Op.INDEX


def _tidy_axes(graph: Graph, roots: Sequence[int], elements: Sequence[Loop]) -> list[int]:
    """Reductions with axes ordered by stride and merged; those over what the elements run over get their names."""
    made: dict[int, int] = {}

    def visit(number: int) -> int:
        if number not in made:
            made[number] = again(number)
        return made[number]

    def again(number: int) -> int:
        node = graph.nodes[number]
        if not node.arguments:
            return number
        if node.op is Op.REDUCE:
            return _axes(graph, number, visit(node.arguments[0]), elements)
        return _with_arguments(graph, number, [visit(each) for each in node.arguments])

    return [visit(root) for root in roots]


def _with_arguments(graph: Graph, number: int, arguments: Sequence[int]) -> int:
    node = graph.nodes[number]
    if tuple(arguments) == node.arguments:
        return number
    match node.op:
        case Op.SUM:
            constant, terms = graph.terms(number)
            made: dict[int, int] = {}
            for each, coefficient in zip(arguments, terms.values(), strict=True):
                made[each] = made.get(each, 0) + coefficient
            return graph.sum(constant, made)
        case Op.LOAD:
            operand = node.detail[0]
            assert isinstance(operand, int)
            return graph.load(operand, arguments[0], node.dtype)
        case Op.CAST:
            return graph.cast(arguments[0], node.dtype)
        case Op.SELECT:
            return graph.select(*arguments)
        case _:
            return graph.call(str(node.detail[0]), arguments, node.dtype)


def _axes(graph: Graph, number: int, body: int, elements: Sequence[Loop]) -> int:
    node = graph.nodes[number]
    function, axes = str(node.detail[0]), graph.axes(number)
    if function.startswith("arg"):
        return graph.reduce(function, axes, body, node.dtype)
    strides = _axis_strides(graph, body, {name for name, _ in axes})
    ordered = sorted(axes, key=lambda axis: -strides.get(axis[0], 0))
    (body,), merged = merge(graph, [body], ordered)
    made = graph.reduce(function, merged, body, node.dtype)
    taken = {name for name, _ in elements}
    # One that depends on an outer reduction's axis keeps its names: the outer one may get the elements' names.
    free_to_rename = not any(name in taken or name.startswith("k") for name in graph.free[made])
    if graph.nodes[made].op is Op.REDUCE and free_to_rename and elements:
        own = graph.axes(made)
        if [extent for _, extent in own] == [extent for _, extent in elements]:
            renamed = {old: new for (old, _), (new, _) in zip(own, elements, strict=True)}
            return rename_axes(graph, made, renamed)
    return made


def _axis_strides(graph: Graph, body: int, names: set[str]) -> Mapping[str, int]:
    """How far apart an axis' elements lie in the load that depends on most of the axes."""
    best: dict[str, int] = {}
    for number in graph.reachable([body]):
        node = graph.nodes[number]
        if node.op is not Op.LOAD:
            continue
        found: dict[str, int] = {}
        for atom, coefficient in graph.terms(node.arguments[0])[1].items():
            for name in graph.free[atom] & names:
                found[name] = max(found.get(name, 0), abs(coefficient))
        if len(found) > len(best):
            best = found
    return best
