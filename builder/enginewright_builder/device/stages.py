"""A layer in portable form: the operators that it expands to, each as computations over operands and temporaries.

Every layer that the operators' table knows can run this way on any GPU, if need be slowly. Tactics that know the layer
better compete with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import onnx_ir as ir

from enginewright_builder import emit
from enginewright_builder.device import tensors
from enginewright_builder.device.expand_functions import expand_functions
from enginewright_builder.device.expression import Computation
from enginewright_builder.device.operators.layer import Declined, Layer, Operand
from enginewright_builder.device.operators.table import OPERATORS
from enginewright_builder.network import lowering, shapes
from enginewright_builder.network.network import Network, bodies, is_constant, static_shape
from enginewright_builder.passes.fold_constants import FoldConstants
from enginewright_builder.passes.unread import Unread
from enginewright_runtime.engine.values import Array


class Holder(StrEnum):
    """What holds a tensor of a stage."""

    OPERAND = "operand"  # of the layer: an input or output, by name
    CONSTANT = "constant"  # made by the expansion, or a constant input
    TEMPORARY = "temporary"  # between two stages


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A tensor that a stage reads or writes."""

    holder: Holder
    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One computation; its loads number `inputs`, None where an optional one is absent."""

    computation: Computation
    inputs: tuple[Held | None, ...]
    output: Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """All stages of a layer in order, and the values of the constants that they read."""

    stages: tuple[Stage, ...]
    constants: Mapping[str, Array]


def staged(alone: Network) -> Staged:
    """The stages of a layer that stands alone. Raises Declined, saying which of its operators has none and why."""
    expanded = Network(lowering.to_onnx(alone))
    expand_functions(expanded)
    shapes.infer(expanded)
    FoldConstants().apply(expanded)
    Unread().apply(expanded)
    constants: dict[str, Array] = {}
    stages = [stage for node in expanded.layers() for stage in _of_node(expanded, node, constants)]
    made = {stage.output.name for stage in stages}
    for output in expanded.outputs:
        if output.name not in made:
            raise Declined(f"its output {output.name!r} is a constant or an input")
    return Staged(stages=tuple(stages), constants=constants)


def _of_node(network: Network, node: ir.Node, constants: dict[str, Array]) -> list[Stage]:
    lowering_of = OPERATORS.get((node.domain, node.op_type))
    if lowering_of is None or bodies(node):
        raise Declined(f"{node.op_type} has no kernel")
    inputs = tuple(None if value is None else _held(network, value, constants) for value in node.inputs)
    outputs = [_held(network, value, constants) for value in node.outputs if value.name]
    layer = Layer(
        operator=node.op_type,
        opset=network.graph.opset_imports.get(node.domain, 0),
        attributes={name: _plain(attribute) for name, attribute in node.attributes.items()},
        inputs=tuple(
            None if held is None else Operand(dtype=held.dtype, shape=held.shape, constant=constants.get(held.name))
            for held in inputs
        ),
        outputs=tuple(_operand(value) for value in node.outputs),
        domain=node.domain,
    )
    computations = lowering_of(layer)
    return [
        Stage(computation=computation, inputs=inputs, output=output)
        for computation, output in zip(computations, outputs, strict=True)
    ]


def _held(network: Network, value: ir.Value, constants: dict[str, Array]) -> Held:
    shape = static_shape(value)
    if shape is None:
        raise Declined(f"the shape of {value.name!r} is known only when it has been computed")
    binding = emit.binding(value)
    dtype = binding.dtype
    if binding.container != "tensor":
        raise Declined(f"{value.name!r} is no tensor, and nothing else has a place on the device")
    if dtype not in tensors.ITEM_BYTES:
        raise Declined(f"{value.name!r} is of {dtype}, which no kernel computes with")
    name = value.name or ""
    if is_constant(value) and value.const_value is not None:
        constants[name] = value.const_value.numpy()
        return Held(holder=Holder.CONSTANT, name=name, dtype=dtype, shape=shape)
    border = value.is_graph_input() or value.is_graph_output()
    return Held(holder=Holder.OPERAND if border else Holder.TEMPORARY, name=name, dtype=dtype, shape=shape)


def _operand(value: ir.Value) -> Operand | None:
    shape = static_shape(value)
    if not value.name or shape is None:
        return None
    return Operand(dtype=emit.binding(value).dtype, shape=shape)


def _plain(attribute: ir.Attr) -> Any:
    if attribute.type is ir.AttributeType.TENSOR:
        return attribute.as_tensor().numpy()
    return tuple(attribute.value) if isinstance(attribute.value, list) else attribute.value
