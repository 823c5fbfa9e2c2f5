"""A GraphDef as nodes by name: read, checked, and ordered so that each node comes after what it needs.

Nothing recurses with the depth of a graph: a chain of a million nodes is as good as one of ten.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf publishes no types

from enginewright_builder.importers.tensorflow import schema
from enginewright_runtime.errors import ModelError

# What a frozen graph keeps at its ends without anybody asking for it.
_ASIDE = frozenset({"NoOp", "Const", "Assert", "Placeholder", "PlaceholderWithDefault", "CheckNumerics"})
# What is followed through the graph before anything is converted: how many inputs it has.
_INPUTS = MappingProxyType(
    {"Enter": 1, "RefEnter": 1, "Exit": 1, "RefExit": 1, "Identity": 1, "LoopCond": 1, "NextIteration": 1, "Switch": 2}
)


@dataclass(frozen=True, slots=True)
class Ref:
    """One output of a node, as `name:1` names it."""

    node: str
    index: int = 0

    @classmethod
    def parse(cls, text: str) -> "Ref":
        """From `name`, `name:0`, or a function body's `name:output:0`."""
        name, separator, index = text.rpartition(":")
        if separator and index.isdigit():
            return cls(name, int(index[:9]))
        return cls(text)

    def __str__(self) -> str:
        return f"{self.node}:{self.index}" if self.index else self.node


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An operation. `attributes` are AttrValue messages; `guards` are control inputs that come from switches: without
    data of its own, a node is on a side of a switch by them alone."""

    name: str
    op: str
    inputs: tuple[Ref, ...]
    guards: tuple[Ref, ...] = ()
    attributes: Mapping[str, Any]
    bodies: "tuple[Subgraph, ...]" = ()


GIVEN = "_Given"  # the operation of a node whose outputs whoever runs a subgraph gives


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgraph:
    """What a function, a branch or a loop's body computes: `results`, from `given` nodes, one for each argument.

    A given node stands for several where TensorFlow 1 has a loop's switch (`dead` at its output 0).
    """

    nodes: Mapping[str, Node]
    given: tuple[tuple[str, ...], ...]
    results: tuple[Ref, ...]
    dead: frozenset[str] = frozenset()


def given(name: str) -> Node:
    """A node in the place of what is given."""
    return Node(name=name, op=GIVEN, inputs=(), attributes={})


class Overlay(Mapping[str, Node]):
    """A graph, with given nodes in the place of some. It sees what is put into the graph later."""

    def __init__(self, nodes: Mapping[str, Node], names: Set[str]) -> None:
        self._nodes, self._given = nodes, {name: given(name) for name in names}

    def __getitem__(self, name: str) -> Node:
        return self._given.get(name) or self._nodes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)


def data_of(path: Path) -> bytes:
    """A file's bytes. Raises ModelError."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"The model {path} does not exist: give the path of a frozen graph (.pb).") from error
    except OSError as error:
        raise ModelError(f"The model {path} cannot be read: {error.strerror or error}.") from error


def parse(data: bytes, path: Path) -> Any:
    """The GraphDef that a file's bytes are. Raises ModelError."""
    graph = schema.GraphDef()
    try:
        graph.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(
            f"The model {path} is not a frozen TensorFlow graph, or is truncated ({len(data)} bytes do not parse): "
            "export or fetch it again."
        ) from error
    if not graph.node or not all(node.name and node.op for node in graph.node):
        raise ModelError(f"The model {path} is not a frozen TensorFlow graph: no nodes are in its {len(data)} bytes.")
    return graph


def nodes(given: Iterable[Any], where: str) -> dict[str, Node]:
    """NodeDefs by name. Raises ModelError for two of one name, and for part of a loop or switch without its inputs."""
    by_name: dict[str, Any] = {}
    for each in given:
        if each.name in by_name:
            raise ModelError(f"{where} is damaged: two of its nodes are named {each.name!r}; export it again.")
        by_name[each.name] = each
    made = {name: _node(each, by_name) for name, each in by_name.items()}
    for node in made.values():
        if len(node.inputs) != _INPUTS.get(node.op, len(node.inputs)):
            raise ModelError(
                f"{where} is damaged: the operation {node.name!r} ({node.op}) has {len(node.inputs)} inputs and takes "
                f"{_INPUTS[node.op]}; export it again."
            )
    return made


def _node(given: Any, by_name: Mapping[str, Any]) -> Node:
    inputs = tuple(Ref.parse(text) for text in given.input if not text.startswith("^"))
    if given.op == "PlaceholderWithDefault" and inputs and getattr(by_name.get(inputs[0].node), "op", "") != "Const":
        # Its default comes out of some pipeline, and is not what an inference is given.
        return Node(name=given.name, op="Placeholder", inputs=(), attributes=given.attr)
    controls = (text[1:] for text in given.input if text.startswith("^"))
    guards = tuple(Ref(name) for name in controls if _is_side(name, by_name))
    return Node(name=given.name, op=given.op, inputs=inputs, guards=guards, attributes=given.attr)


def _is_side(name: str, by_name: Mapping[str, Any]) -> bool:
    """Whether it is an Identity of a switch's output, as tf.cond makes one for each of its sides."""
    node = by_name.get(name)
    if node is None or node.op != "Identity" or not node.input:
        return False
    read = by_name.get(Ref.parse(node.input[0]).node)
    return read is not None and read.op == "Switch"


def ends(graph: Mapping[str, Node]) -> list[str]:
    """The nodes that nothing reads, in the graph's order: what may have been meant as outputs."""
    read_by_others = {ref.node for node in graph.values() for ref in (*node.inputs, *node.guards)}
    return [name for name, node in graph.items() if name not in read_by_others and node.op not in _ASIDE]


def order(graph: Mapping[str, Node], wanted: Sequence[Ref], leaves: Set[str], where: str) -> list[Node]:
    """The nodes that `wanted` needs, each after its inputs; operations in `leaves` need none.

    Raises ModelError for a missing node or a cycle.
    """
    done: dict[str, Node] = {}
    open_: set[str] = set()
    stack: list[tuple[str, str]] = [(ref.node, "") for ref in reversed(wanted)]
    while stack:
        name, reader = stack[-1]
        if name in done:
            stack.pop()
            continue
        node = graph.get(name)
        if node is None:
            raise ModelError(f"{where} is damaged: {reader or 'an output'} reads {name!r}, which is not in it.")
        if name in open_:  # its inputs are done
            done[name] = node
            stack.pop()
            continue
        open_.add(name)
        for ref in reversed(() if node.op in leaves else (*node.inputs, *node.guards)):
            if ref.node in open_ and ref.node not in done:
                raise ModelError(f"{where} is no graph that can be run: {ref.node!r} needs what {name!r} makes of it.")
            if ref.node not in done:
                stack.append((ref.node, name))
    return list(done.values())
