"""What nothing reads goes: layers whose outputs are all unread, from the end to the start, then constants."""

from dataclasses import dataclass

from enginewright_builder.network import rewire
from enginewright_builder.network.network import Network
from enginewright_builder.passes.base import PassReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """See the module. ONNX's layers have no side effects, so a layer that nothing reads is not missed."""

    name: str = "unread"
    reason: str = "exports carry layers for training, for other outputs, and what earlier passes left behind"

    def apply(self, network: Network) -> PassReport:
        """Counts layers and constants."""
        details: list[str] = []
        for node in reversed(list(network.layers())):
            if not any(value.uses() or value.is_graph_output() for value in node.outputs):
                details.append(f"{node.name}: {node.op_type}")
                rewire.remove(network, node)
        constants = rewire.drop_unread_constants(network)
        if constants:
            details.append(f"{constants} constants")
        return PassReport(name=self.name, changed=len(details), details=tuple(details))
