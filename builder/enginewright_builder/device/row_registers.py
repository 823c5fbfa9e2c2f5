"""What of a row its threads may keep in registers: what several passes need, and constants that all rows share."""

from collections.abc import Sequence

from enginewright_builder.device.cuda_functions import EXPENSIVE
from enginewright_builder.device.graph import Graph, Op


def shared_between_passes(graph: Graph, values: Sequence[int], names: frozenset[str]) -> list[int]:
    """Loads and costly calls over a row's elements that more than one pass needs, in the order of their first use."""
    passes = [
        graph.nodes[number].arguments
        for number in graph.reachable(values)
        if graph.nodes[number].op is Op.REDUCE and {name for name, _ in graph.axes(number)} == names
    ]
    computed: set[int] = set()
    shared: dict[int, None] = {}
    for roots in (*passes, tuple(values)):
        now: set[int] = set()
        waiting = list(roots)
        while waiting:
            number = waiting.pop()
            node = graph.nodes[number]
            if number in now or not graph.free[number] & names:
                continue
            if number in computed and _worth(node.op, node.detail):
                shared[number] = None
                continue
            now.add(number)
            if node.op is Op.LOAD or node.op is Op.REDUCE:
                continue
            waiting.extend(node.arguments[:1] if node.op is Op.SELECT else node.arguments)
        computed |= now
    return list(shared)


def constant_loads(graph: Graph, values: Sequence[int], names: frozenset[str], constant: frozenset[int]) -> list[int]:
    """Loads of constants that move along a row, and with nothing else."""
    loads = (number for number in graph.reachable(values) if graph.nodes[number].op is Op.LOAD)
    return [n for n in loads if graph.nodes[n].detail[0] in constant and graph.free[n] and graph.free[n] <= names]


def _worth(op: Op, detail: Sequence[object]) -> bool:
    return op in (Op.LOAD, Op.SELECT) or (op is Op.CALL and detail[0] in EXPENSIVE)
