"""f(x), f(x) => f(x) once: equal layers on equal inputs, and constants of equal bytes."""

from collections.abc import Hashable
from dataclasses import dataclass
from hashlib import sha256

import onnx_ir as ir

from enginewright_builder.network import rewire
from enginewright_builder.network.network import Network, bodies, is_constant
from enginewright_builder.passes.base import PassReport


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonSubexpressions:
    """`constant_bytes`: larger constants are not compared, since all their bytes would have to be read."""

    name: str = "common-subexpressions"
    reason: str = "exporters write the same shape computations and constants again and again"
    constant_bytes: int = 1 << 20

    def apply(self, network: Network) -> PassReport:
        """Counts layers and constants that were replaced by an equal one."""
        details = [*self._constants(network), *_layers(network)]
        return PassReport(name=self.name, changed=len(details), details=tuple(details))

    def _constants(self, network: Network) -> list[str]:
        first: dict[Hashable, ir.Value] = {}
        details: list[str] = []
        for value in list(network.graph.initializers.values()):
            tensor = value.const_value
            if tensor is None or not is_constant(value) or value.is_graph_output():
                continue
            if tensor.dtype is ir.DataType.STRING or tensor.nbytes > self.constant_bytes:
                continue
            same = first.setdefault(_tensor_key(tensor), value)
            if same is not value:
                value.replace_all_uses_with(same)
                network.graph.initializers.pop(value.name or "")
                details.append(f"constant {value.name}: is {same.name}")
        return details


def _layers(network: Network) -> list[str]:
    first: dict[Hashable, ir.Node] = {}
    details: list[str] = []
    for node in list(network.layers()):
        if not rewire.is_deterministic(node) or bodies(node) or not node.inputs:
            continue
        same = first.setdefault(_key(node), node)
        if same is node:
            continue
        pairs = list(zip(node.outputs, same.outputs, strict=True))
        if all(rewire.can_take_over(network, old, new) for old, new in pairs):
            for old, new in pairs:
                if old.name:
                    rewire.take_over(network, old, new)
            rewire.remove(network, node)
            details.append(f"{node.name}: is {same.name}")
    return details


def _key(node: ir.Node) -> Hashable:
    attributes = sorted((name, _attribute_key(attribute)) for name, attribute in node.attributes.items())
    inputs = tuple(None if value is None else id(value) for value in node.inputs)
    # Which optional outputs are asked for decides what some layers compute (BatchNormalization, LSTM).
    outputs = tuple(bool(value.name) for value in node.outputs)
    return (node.op_identifier(), inputs, outputs, tuple(attributes))


def _attribute_key(attribute: ir.Attr) -> tuple[str, str]:
    if attribute.type is ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        return (
            attribute.type.name,
            repr(_tensor_key(tensor) if tensor.dtype is not ir.DataType.STRING else id(tensor)),
        )
    return (attribute.type.name, repr(attribute.value))


def _tensor_key(tensor: ir.TensorProtocol) -> tuple[str, tuple[int, ...], bytes]:
    return (tensor.dtype.name, tuple(tensor.shape.numpy()), sha256(tensor.tobytes()).digest())
