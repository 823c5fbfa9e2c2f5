"""Layers that one launch could do two at a time: a product by constants, and the attention of its columns. Pure.

Queries, keys and values are parts of one wider product's result (passes/siblings.py), which nobody else reads: then it
need not be in memory. Whether that is worth it is measured, as of other couples (device/couples.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import onnx_ir as ir

from enginewright_builder.device.couples import Couple
from enginewright_builder.device.layout import Place
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.network.extract import extract
from enginewright_builder.network.network import Network, is_constant, reads

_PARTS = 3  # queries, keys, values


def find(
    network: Network,
    layers: Sequence[DeviceLayer],
    places: Mapping[str, Place],
    able: Callable[[DeviceLayer], bool],
) -> list[Couple]:
    """The couples of a product and the attention of its columns that somebody is `able` to run."""
    given = {value.name for value in network.outputs}
    made_by = {places[layer.outputs[0]].root: number for number, layer in enumerate(layers)}
    read = [_roots(layer.inputs, places) for layer in layers]
    found: list[Couple] = []
    for number, second in enumerate(layers):
        parts, others = second.inputs[:_PARTS], second.inputs[_PARTS:]
        if second.problem.kind is not Kind.ATTENTION or any(others) or len(read[number]) != 1:
            continue
        (root,) = read[number]
        if root in given or root not in made_by or sum(root in each for each in read) > 1:
            continue
        first = layers[made_by[root]]
        columns = _columns(places[first.outputs[0]], [places[name] for name in parts if name])
        if columns and _is_plain(first.problem):
            joint = _joint(first, second, columns, _together(network, first, second))
            if able(joint):
                found.append(Couple(layer=joint, parts=(made_by[root], number), place=made_by[root]))
    return found


def _roots(names: Sequence[str | None], places: Mapping[str, Place]) -> set[str]:
    """The buffers in which these values lie, constants apart."""
    return {places[name].root for name in names if name and name in places}


def _is_plain(problem: Problem) -> bool:
    """Whether it is no more than a product and a bias."""
    said = problem.attributes
    alone = problem.kind is Kind.PRODUCT and all(each is None for each in problem.inputs[3:])
    return alone and said["alpha"] == 1.0 and not said["activation"] and not said["gated"] and "tail" not in said


def _columns(out: Place, parts: Sequence[Place]) -> tuple[int, ...]:
    """The product's columns where queries, keys and values of the first head begin, the other heads' behind them; empty
    where they lie otherwise."""
    wide = out.type.shape[-1]
    columns = []
    for place in parts:
        batches, heads, rows, size = place.type.shape
        wanted = (rows * wide, size, wide, 1)
        same = all(e == 1 or s == w for e, s, w in zip(place.type.shape, place.type.strides, wanted, strict=True))
        column = place.offset_elements - out.offset_elements
        if not same or batches * rows * wide != out.type.size or not 0 <= column <= wide - heads * size:
            return ()
        columns.append(column)
    return tuple(columns)


def _joint(first: DeviceLayer, second: DeviceLayer, columns: tuple[int, ...], network: Network) -> DeviceLayer:
    return DeviceLayer(
        name=f"{first.name}+{second.name}",
        problem=Problem(
            kind=Kind.HEADS,
            inputs=first.problem.inputs,
            outputs=second.problem.outputs,
            attributes={"columns": columns, "scale": second.problem.attributes["scale"]},
        ),
        inputs=first.inputs,
        outputs=second.outputs,
        constants=first.constants,
        stored=first.stored,
        types={**first.types, **second.types},
        network=network,
    )


def _together(network: Network, first: DeviceLayer, second: DeviceLayer) -> Network:
    """The two layers, and the views between them, as a network."""
    nodes = {value.name: node for node in network.layers() for value in node.outputs if value.name}
    begin, end = nodes[first.outputs[0]], nodes[second.outputs[0]]
    between = set(_up_to(begin, end))
    made = {value for node in between for value in node.outputs}
    order = [node for node in network.layers() if node in between]
    read = dict.fromkeys(value for node in order for value in reads(node) if not is_constant(value))
    return extract(network, order, [value for value in read if value not in made], list(end.outputs), name="heads")


def _up_to(begin: ir.Node, node: ir.Node) -> Iterator[ir.Node]:
    """A node and all that leads to it, back to `begin`."""
    yield node
    if node is begin:
        return
    for value in reads(node):
        if (producer := value.producer()) is not None:
            yield from _up_to(begin, producer)
