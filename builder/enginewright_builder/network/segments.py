"""A network cut into segments: runs of layers that one executor takes each.

On the CPU one executor takes all, and there is one segment. Otherwise layers are gathered so that the segments are as
few as the dependencies between executors allow: a layer belongs to the first segment of its executor in which
everything that it reads is already there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from enginewright_builder.network.network import Network, is_constant, reads

Takes = Callable[[ir.Node], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSpec:
    """Layers in an order in which they can run, and the names that cross the segment's border, without constants."""

    executor: str
    layers: tuple[ir.Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def split(network: Network, takes: Takes) -> tuple[SegmentSpec, ...]:
    """Segments in an order in which they can run; `takes` names the executor of a layer."""
    groups: dict[tuple[int, str], list[ir.Node]] = {}
    place: dict[ir.Node, tuple[int, str]] = {}
    for node in network.layers():
        executor = takes(node)
        before = [place[p] for value in reads(node) if (p := value.producer()) in place and p is not None]
        level = max((depth + (other != executor) for depth, other in before), default=0)
        place[node] = (level, executor)
        groups.setdefault(place[node], []).append(node)
    readers: dict[ir.Value, set[ir.Node]] = {}
    for node in network.layers():
        for value in reads(node):
            readers.setdefault(value, set()).add(node)
    return tuple(_spec(network, key[1], groups[key], readers) for key in sorted(groups))


def _spec(
    network: Network, executor: str, layers: list[ir.Node], readers: Mapping[ir.Value, set[ir.Node]]
) -> SegmentSpec:
    inside = set(layers)
    outputs = set(network.outputs)
    needed = dict.fromkeys(
        v for node in layers for v in reads(node) if v.producer() not in inside and not is_constant(v)
    )
    made = (value for node in layers for value in node.outputs if value.name)
    left = [value for value in made if value in outputs or not readers.get(value, set()) <= inside]
    return SegmentSpec(
        executor=executor,
        layers=tuple(layers),
        inputs=tuple(value.name or "" for value in needed),
        outputs=tuple(value.name or "" for value in left),
    )
