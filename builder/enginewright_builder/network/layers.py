"""What counts as a layer, for reports: how long a network is before and after the passes."""

from collections import Counter

from enginewright_builder.network.network import Network


def count(network: Network) -> int:
    """The layers of the main graph; a layer with bodies (If, Loop, Scan) counts as one."""
    return len(network.graph)


def kinds(network: Network) -> dict[str, int]:
    """How many layers of each kind there are, most frequent first; other domains than ONNX's are named."""
    names = (f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in network.layers())
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))
