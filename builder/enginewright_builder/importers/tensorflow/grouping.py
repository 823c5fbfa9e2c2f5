"""How many groups a convolution has. TensorFlow's graphs do not say it: it follows from the channels that come in.

Shapes tell those once the network is whole; asked for while it is written, each convolution would be inferred from the
beginning on.
"""

import onnx_ir as ir

from enginewright_builder.network.network import Network
from enginewright_runtime.errors import ModelError


def find(network: Network, where: str) -> None:
    """Give every convolution its groups. Raises ModelError where weights take what no group of the channels is."""
    for node in network.graph.all_nodes():
        if node.op_type != "Conv" or "group" in node.attributes:
            continue
        channels, taken = (
            None if value is None or value.shape is None else value.shape[1] for value in node.inputs[:2]
        )
        if not isinstance(channels, int) or not isinstance(taken, int) or channels == taken:
            continue
        if not taken or channels % taken:
            raise ModelError(
                f"{where} is damaged: the weights of {node.name!r} take {taken} channels, and it is given {channels}; "
                "export it again."
            )
        node.attributes["group"] = ir.AttrInt64("group", channels // taken)
