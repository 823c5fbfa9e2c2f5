"""TensorFlow 1's while loops as subgraphs.

A frame is Enter -> Merge <- NextIteration, with Switch(Merge, LoopCond) leading into the body and out to Exit (the
white paper "Implementation of Control Flow in TensorFlow", 2017). Each becomes one node, `_While`, of a condition and
a body; its Exits become Identities of what that node makes. Loops in loops need no more: the inner one is in the body.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from enginewright_builder.importers.tensorflow.graph import Node, Overlay, Ref, Subgraph
from enginewright_runtime.errors import ModelError

WHILE = "_While"


@dataclass(slots=True)
class _Frame:
    """What was found of a loop, by name: an entry for each state is Enter, Merge, Switch (or none), NextIteration."""

    enters: list[Node] = field(default_factory=list)
    states: list[tuple[Node, Node, str, Node]] = field(default_factory=list)
    condition: Node | None = None


def fold(nodes: dict[str, Node], where: str) -> None:
    """Put a node in the place of each loop. Raises ModelError for a loop that is not whole."""
    frames: dict[str, _Frame] = defaultdict(_Frame)
    frame_of: dict[str, str] = {}
    for node in nodes.values():
        if node.op in ("Enter", "RefEnter"):
            name = node.attributes["frame_name"].s.decode(errors="replace") if "frame_name" in node.attributes else ""
            frame_of[node.name] = name
            frames[name].enters.append(node)
    _find_states(nodes, frames, frame_of)
    exits: dict[str, list[Node]] = defaultdict(list)
    for node in nodes.values():
        if node.op in ("Exit", "RefExit"):
            exits[node.inputs[0].node].append(node)
    for name, frame in frames.items():
        if frame.condition is None and not frame.states:
            continue  # only invariants, which nothing reads
        if frame.condition is None:
            raise ModelError(f"{where} is damaged: its loop {name!r} has no condition; export it again.")
        _put(nodes, name, frame, exits)


def _find_states(nodes: Mapping[str, Node], frames: Mapping[str, _Frame], frame_of: Mapping[str, str]) -> None:
    switches = {
        node.inputs[0].node: node
        for node in nodes.values()
        if node.op == "Switch" and _op(nodes, node.inputs[1]) == "LoopCond"
    }
    for node in nodes.values():
        if node.op != "Merge" or len(node.inputs) != 2:
            continue
        enter, following = (nodes.get(ref.node) for ref in node.inputs)
        if enter is None or following is None or enter.name not in frame_of or following.op != "NextIteration":
            continue
        switch = switches.get(node.name)
        frame = frames[frame_of[enter.name]]
        frame.states.append((enter, node, switch.name if switch is not None else "", following))
        if switch is not None:
            frame.condition = nodes[switch.inputs[1].node]


def _op(nodes: Mapping[str, Node], ref: Ref) -> str:
    node = nodes.get(ref.node)
    return "" if node is None else node.op


def _put(nodes: dict[str, Node], name: str, frame: _Frame, exits: Mapping[str, list[Node]]) -> None:
    """The states come first among the arguments, then what only enters."""
    assert frame.condition is not None, "its loop is whole"
    entered = {enter.name for enter, _, _, _ in frame.states}
    constant = [enter for enter in frame.enters if enter.name not in entered]
    own = [tuple(each for each in (merge.name, switch) if each) for _, merge, switch, _ in frame.states]
    arguments = (*own, *((enter.name,) for enter in constant))
    inside = Overlay(nodes, frozenset(each for names in arguments for each in names))
    dead = frozenset(switch for _, _, switch, _ in frame.states if switch)
    condition = Subgraph(nodes=inside, given=arguments, results=frame.condition.inputs[:1])
    body = Subgraph(
        nodes=inside,
        given=arguments,
        results=tuple(following.inputs[0] for _, _, _, following in frame.states),
        dead=dead,
    )
    loop = f"{name}/{WHILE}"
    while loop in nodes:
        loop += "_"
    inputs = tuple(enter.inputs[0] for enter in (*(state[0] for state in frame.states), *constant))
    types = {f"T{index}": enter.attributes["T"] for index, (enter, *_) in enumerate(frame.states)}
    nodes[loop] = Node(name=loop, op=WHILE, inputs=inputs, attributes=types, bodies=(condition, body))
    for index, (_, _, switch, _) in enumerate(frame.states):
        for node in exits.get(switch, ()):
            nodes[node.name] = Node(
                name=node.name, op="Identity", inputs=(Ref(loop, index),), attributes=node.attributes
            )
