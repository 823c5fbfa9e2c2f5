"""Layers that one launch could do three at a time: a 3x3 convolution whose result only a couple reads. Pure.

That result is then neither stored nor in the arena. A triple competes in the network with its couple (couples.py), and
with all three layers by themselves.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from enginewright_builder.device import couples
from enginewright_builder.device.couples import Couple
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.network.network import Network

BEFORE_INPUTS = 3  # x, weights, bias; behind them stand the couple's without its first


def find(network: Network, layers: Sequence[DeviceLayer], able: Callable[[DeviceLayer], bool]) -> list[Couple]:
    """The triples among a network's layers that somebody is `able` to run, of couples that nobody needs to be."""
    made_by = {name: number for number, layer in enumerate(layers) for name in layer.outputs}
    read = Counter(name for layer in layers for name in layer.inputs)
    read.update(value.name for value in network.outputs)
    found: list[Couple] = []
    for couple in couples.find(network, layers, lambda _couple: True):
        between = couple.layer.inputs[0] or ""
        number = made_by.get(between, couple.place)
        before = layers[number]
        if number == couple.place or read[between] > 1 or not _leads(before.problem):
            continue
        joint = _joint(before, couple.layer, couples.alone(network, (before, *(layers[n] for n in couple.parts))))
        if able(joint):
            found.append(Couple(layer=joint, parts=(number, *couple.parts), place=couple.place))
    return found


def _leads(problem: Problem) -> bool:
    """Whether it is a 3x3 convolution of one picture, with nothing behind it but an activation."""
    weights = problem.inputs[1] if problem.kind is Kind.CONVOLUTION else None
    plain = all(each is None for each in problem.inputs[BEFORE_INPUTS:]) and not {"pool", "tail"} & set(
        problem.attributes
    )
    return weights is not None and weights.shape[2:] == (3, 3) and plain


def _joint(before: DeviceLayer, couple: DeviceLayer, network: Network) -> DeviceLayer:
    missing = BEFORE_INPUTS - len(before.inputs[:BEFORE_INPUTS])
    moved = BEFORE_INPUTS - 1
    return DeviceLayer(
        name=f"{before.name}+{couple.name}",
        problem=Problem(
            kind=Kind.TRIPLE,
            inputs=(*before.problem.inputs[:BEFORE_INPUTS], *[None] * missing, *couple.problem.inputs[1:]),
            outputs=couple.problem.outputs,
            attributes={**couple.problem.attributes, "before": dict(before.problem.attributes)},
        ),
        inputs=(*before.inputs[:BEFORE_INPUTS], *[None] * missing, *couple.inputs[1:]),
        outputs=couple.outputs,
        constants={**before.constants, **{number + moved: value for number, value in couple.constants.items()}},
        stored={**before.stored, **{number + moved: value for number, value in couple.stored.items()}},
        types={**before.types, **couple.types},
        network=network,
    )
