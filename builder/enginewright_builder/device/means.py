"""Layers that one launch could do two at a time: a convolution, and the mean of all its pixels. Pure.

As where a classifier's last features are averaged: the convolution's result is read by nobody else, and need not be in
memory. Whether one launch is worth it is measured, as of other couples (device/couples.py).
"""

from collections import Counter
from collections.abc import Callable, Sequence

from enginewright_builder.device import couples
from enginewright_builder.device.couples import Couple
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.network.network import Network


def find(network: Network, layers: Sequence[DeviceLayer], able: Callable[[DeviceLayer], bool]) -> list[Couple]:
    """The convolutions with their means that somebody is `able` to run."""
    made_by = {name: number for number, layer in enumerate(layers) for name in layer.outputs}
    read = Counter(name for layer in layers for name in layer.inputs)
    read.update(value.name for value in network.outputs)
    found: list[Couple] = []
    for number, second in enumerate(layers):
        between = second.inputs[0] or "" if second.inputs else ""
        first = layers[made_by[between]] if between in made_by else second
        if read[between] > 1 or not _is_plain(first.problem) or not _is_mean(second):
            continue
        joint = _joint(first, second, couples.alone(network, (first, second), last=1))
        if able(joint):
            found.append(Couple(layer=joint, parts=(made_by[between], number), place=number))
    return found


def _is_plain(problem: Problem) -> bool:
    """Whether it is a convolution that gives its result as it is."""
    return problem.kind is Kind.CONVOLUTION and not {"pool", "halves", "tail"} & set(problem.attributes)


def _is_mean(layer: DeviceLayer) -> bool:
    """Whether a layer averages each channel's pixels."""
    node, *others = layer.network.layers()
    if others or node.domain:
        return False
    if node.op_type == "GlobalAveragePool":
        return True
    given = layer.problem.inputs[0]
    if node.op_type != "AveragePool" or given is None:
        return False
    whole = tuple(node.attributes.get_ints("kernel_shape", ()) or ()) == given.shape[2:]
    return whole and not any(node.attributes.get_ints("pads", ()) or ())


def _joint(first: DeviceLayer, second: DeviceLayer, network: Network) -> DeviceLayer:
    return DeviceLayer(
        name=f"{first.name}+{second.name}",
        problem=Problem(
            kind=Kind.MEAN,
            inputs=first.problem.inputs,
            outputs=second.problem.outputs,
            attributes={**first.problem.attributes, "size": first.problem.outputs[0].shape[2:]},
        ),
        inputs=first.inputs,
        outputs=second.outputs,
        constants=first.constants,
        stored=first.stored,
        types={**first.types, **second.types},
        network=network,
    )
