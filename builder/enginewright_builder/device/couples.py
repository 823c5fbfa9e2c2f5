"""Layers that one launch could do two at a time: a 1x1 convolution, and a second one that reads its result. Pure.

Both results are wanted (in a residual network the first one's is added again later), and every layer is in one couple
at the most. Whether a couple is worth it is measured: in the network it competes with its two layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.network.extract import extract
from enginewright_builder.network.network import Network, is_constant, reads

FIRST_INPUTS = 6  # of a convolution with all that it may have: behind them stand the second one's weights and bias


@dataclass(frozen=True, slots=True, kw_only=True)
class Couple:
    """`layer` does what the layers numbered `parts` do, two or three (triples.py), in the place of one of them."""

    layer: DeviceLayer
    parts: tuple[int, ...]
    place: int


def find(network: Network, layers: Sequence[DeviceLayer], able: Callable[[DeviceLayer], bool]) -> list[Couple]:
    """The couples among a network's layers, which device/lower.py made of it, that somebody is `able` to run."""
    made_by = {name: number for number, layer in enumerate(layers) for name in layer.outputs}
    found: list[Couple] = []
    taken: set[int] = set()
    for number, second in enumerate(layers):
        first = made_by.get(second.inputs[0] or "", number) if second.inputs else number
        if {first, number} & taken or first == number or not _fit(layers[first].problem, second.problem):
            continue
        joint = _joint(layers[first], second, alone(network, (layers[first], second)))
        if able(joint):
            taken |= {first, number}
            found.append(Couple(layer=joint, parts=(first, number), place=first))
    return found


def _fit(first: Problem, second: Problem) -> bool:
    alone = all(each is None for each in second.inputs[3:])  # no residual, no pair: it can run where the first one does
    return alone and _is_point(first) and _is_point(second)


def _is_point(problem: Problem) -> bool:
    """Whether it is a 1x1 convolution of two dimensions that keeps the size."""
    weights = problem.inputs[1] if problem.kind is Kind.CONVOLUTION else None
    said = problem.attributes
    return (
        weights is not None
        and weights.shape[2:] == (1, 1)
        and tuple(said["strides"]) == (1, 1)
        and not any(said["pads"])
        and said["groups"] == 1
        and not {"pool", "tail"} & set(said)
    )


def _joint(first: DeviceLayer, second: DeviceLayer, network: Network) -> DeviceLayer:
    said, following = first.problem.attributes, second.problem.attributes
    end = {name: following[name] for name in ("activation", "activation_parameters", "gated")}
    missing = FIRST_INPUTS - len(first.inputs)
    moved = {1: FIRST_INPUTS, 2: FIRST_INPUTS + 1}
    return DeviceLayer(
        name=f"{first.name}+{second.name}",
        problem=Problem(
            kind=Kind.COUPLE,
            inputs=(*first.problem.inputs, *[None] * missing, *second.problem.inputs[1:3]),
            outputs=(*first.problem.outputs, *second.problem.outputs),
            attributes={**said, "next": end},
        ),
        inputs=(*first.inputs, *[None] * missing, *second.inputs[1:3]),
        outputs=(*first.outputs, *second.outputs),
        constants={**first.constants, **{moved[number]: value for number, value in second.constants.items()}},
        stored={**first.stored, **{moved[number]: value for number, value in second.stored.items()}},
        types={**first.types, **second.types},
        network=network,
    )


def alone(network: Network, layers: Sequence[DeviceLayer], *, last: int = 2) -> Network:
    """These layers, one behind the other, as a network that gives the results of the last ones."""
    nodes = {value.name: node for node in network.layers() for value in node.outputs if value.name}
    chain = [nodes[each.outputs[0]] for each in layers]
    made = [[value for value in node.outputs if value.name] for node in chain]
    inside = {value for values in made for value in values}
    read = dict.fromkeys(value for node in chain for value in reads(node) if not is_constant(value))
    given = [value for values in made[-last:] for value in values]
    return extract(network, chain, [value for value in read if value not in inside], given, name="couple")
