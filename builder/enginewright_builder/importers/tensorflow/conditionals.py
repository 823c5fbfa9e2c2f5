"""TensorFlow 1's conditionals on what is computed, as subgraphs.

Switches on one predicate lead into both branches of a conditional, and a Merge ends it. Where the predicate depends
on what is fed, the Merge becomes a node `_If` of both branches. Predicates that are known at import stay as they
are: the conversion takes their live side.
"""

from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass

from enginewright_builder.importers.tensorflow.graph import Node, Overlay, Ref, Subgraph
from enginewright_runtime.errors import UnsupportedError

IF = "_If"
_CANDIDATES = 16  # predicates that are tried for one Merge
_STEPS = 20_000_000  # nodes looked at in all: real graphs need some thousands a Merge


@dataclass(slots=True)
class _Search:
    """The graph behind Merges, up to the loop that they stand in."""

    nodes: Mapping[str, Node]
    computed: Set[str]
    where: str
    steps: int = 0

    def predicate(self, switch: Node) -> Ref:
        """What a Switch asks, through Identities."""
        ref = switch.inputs[1]
        while (node := self.nodes.get(ref.node)) is not None and node.op == "Identity":
            self._step()
            ref = node.inputs[0]
        return ref

    def switches(self, start: Ref, stop: Ref | None) -> Iterator[tuple[Node, int]]:
        """The Switches behind a value, each with the side that is read; not beyond those on the predicate `stop`."""
        stack, seen = [start], {start}
        while stack:
            self._step()
            ref = stack.pop()
            node = self.nodes.get(ref.node)
            if node is None or node.op in ("Enter", "RefEnter", "NextIteration"):
                continue
            if node.op == "Switch":
                asked = self.nodes.get(node.inputs[1].node)
                if asked is not None and asked.op == "LoopCond":
                    continue
                yield node, ref.index
                if stop is not None and self.predicate(node) == stop:
                    continue
            for each in (*node.inputs, *node.guards):
                if each not in seen:
                    seen.add(each)
                    stack.append(each)

    def _step(self) -> None:
        self.steps += 1
        if self.steps > _STEPS:
            raise UnsupportedError(
                f"{self.where} has more conditionals in conditionals than can be told apart: export it with tf.cond in "
                "functional form."
            )


def fold(nodes: dict[str, Node], sources: Set[str], known: Set[str], where: str) -> None:
    """Put `_If` nodes in the place of Merges on computed predicates. `known` sources are constants."""
    merges = [node for node in nodes.values() if node.op == "Merge" and len(node.inputs) == 2]
    if not merges:
        return
    search = _Search(dict(nodes), _fed(nodes, sources, known), where)
    for merge in merges:
        if any(each.node in nodes and nodes[each.node].op == "NextIteration" for each in merge.inputs):
            continue
        found = _sides(search, merge)
        if found is not None:
            nodes[merge.name] = _if(search, nodes, merge, *found)


def _fed(nodes: Mapping[str, Node], sources: Set[str], known: Set[str]) -> Set[str]:
    """All that depends on what is fed."""
    readers: dict[str, list[str]] = {}
    for node in nodes.values():
        for ref in node.inputs:
            readers.setdefault(ref.node, []).append(node.name)
    stack = [node.name for node in nodes.values() if node.op in sources and node.name not in known]
    fed = set(stack)
    while stack:
        for name in readers.get(stack.pop(), ()):
            if name not in fed:
                fed.add(name)
                stack.append(name)
    return fed


def _sides(search: _Search, merge: Node) -> tuple[Ref, int] | None:
    """The computed predicate of a Merge, and which of its inputs is the true side."""
    tried: list[Ref] = []
    for start in merge.inputs:
        for switch, _ in search.switches(start, None):
            predicate = search.predicate(switch)
            if predicate.node not in search.computed or predicate in tried:
                continue
            tried.append(predicate)
            sides = [_asked(search, ref, predicate) for ref in merge.inputs]
            for true in (0, 1):
                if sides[true] <= {1} and sides[1 - true] <= {0} and (sides[0] or sides[1]):
                    return predicate, true
            if len(tried) >= _CANDIDATES:
                return None
    return None


def _asked(search: _Search, ref: Ref, predicate: Ref) -> set[int]:
    return {side for switch, side in search.switches(ref, predicate) if search.predicate(switch) == predicate}


def _if(search: _Search, nodes: Mapping[str, Node], merge: Node, predicate: Ref, true: int) -> Node:
    switches: dict[str, Node] = {}
    for ref in merge.inputs:
        for switch, _ in search.switches(ref, predicate):
            if search.predicate(switch) == predicate:
                switches[switch.name] = switch
    inside = Overlay(nodes, frozenset(switches))
    given = tuple((name,) for name in switches)
    bodies = tuple(_branch(inside, given, merge.inputs[side]) for side in (true, 1 - true))
    inputs = (predicate, *(switch.inputs[0] for switch in switches.values()))
    return Node(name=merge.name, op=IF, inputs=inputs, attributes=merge.attributes, bodies=bodies)


def _branch(nodes: Mapping[str, Node], given: Collection[tuple[str, ...]], result: Ref) -> Subgraph:
    return Subgraph(nodes=nodes, given=tuple(given), results=(result,))
