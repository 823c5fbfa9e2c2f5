"""Layers that give other results each time: what holds one cannot be checked by comparing results."""

from enginewright_builder.network.network import Network

_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
_TRAINING = {"Dropout": 2}  # by which input says that it trains, and so is random


def reason(network: Network) -> str:
    """Why results differ from run to run, naming the layer; empty where they do not."""
    for node in network.model.graph.all_nodes():
        training = _TRAINING.get(node.op_type)
        trains = training is not None and len(node.inputs) > training and node.inputs[training] is not None
        if node.op_type in _RANDOM or trains:
            return f"the layer {node.name!r} ({node.op_type}) gives other results each time"
    return ""
