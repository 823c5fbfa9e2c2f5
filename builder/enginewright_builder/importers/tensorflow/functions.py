"""The functions of a graph's library as subgraphs. In a function, an output is `node:name:index`, by its own name."""

from collections.abc import Mapping
from typing import Any

from enginewright_builder.importers.tensorflow import graph
from enginewright_builder.importers.tensorflow.call import Call
from enginewright_builder.importers.tensorflow.graph import Node, Ref, Subgraph
from enginewright_runtime.errors import ModelError

# The names of outputs of operations that have several, in order.
_OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "FusedBatchNorm": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2"),
    "FusedBatchNormV2": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2"),
    "FusedBatchNormV3": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2", "reserve_space_3"),
    "BlockLSTM": ("i", "cs", "f", "o", "ci", "co", "h"),
    "BlockLSTMV2": ("i", "cs", "f", "o", "ci", "co", "h"),
    "LSTMBlockCell": ("i", "cs", "f", "o", "ci", "co", "h"),
    "Merge": ("output", "value_index"),
    "NonMaxSuppressionV4": ("selected_indices", "valid_outputs"),
    "NonMaxSuppressionV5": ("selected_indices", "selected_scores", "valid_outputs"),
    "Switch": ("output_false", "output_true"),
    "TensorArrayV3": ("handle", "flow"),
    "TensorListPopBack": ("output_handle", "tensor"),
    "TopKV2": ("values", "indices"),
}


def called(call: Call, attribute: str) -> Subgraph:
    """The function that an attribute names. Raises ModelError where the file has none of that name."""
    name = call.node.attributes[attribute].func.name if attribute in call.node.attributes else ""
    if name not in call.scope.library:
        raise ModelError(f"{call.scope.where} is damaged: {call.node.name!r} calls {name!r}, which is not in it.")
    return read(call.scope.library[name], call.scope.where)


def read(function: Any, where: str) -> Subgraph:
    """A FunctionDef as a subgraph. Raises ModelError."""
    operations = {node.name: node.op for node in function.node_def}
    nodes = {name: _rewritten(node, operations) for name, node in graph.nodes(function.node_def, where).items()}
    arguments = tuple(argument.name for argument in function.signature.input_arg)
    nodes |= {name: graph.given(name) for name in arguments}
    results = tuple(
        _reference(Ref.parse(function.ret[argument.name]), operations) for argument in function.signature.output_arg
    )
    return Subgraph(nodes=nodes, given=tuple((name,) for name in arguments), results=results)


def _rewritten(node: Node, operations: Mapping[str, str]) -> Node:
    inputs = tuple(_reference(ref, operations) for ref in node.inputs)
    return Node(name=node.name, op=node.op, inputs=inputs, guards=node.guards, attributes=node.attributes)


def _reference(ref: Ref, operations: Mapping[str, str]) -> Ref:
    """`node:values:1`, parsed as `node:values` and 1, to a node and which of all its outputs."""
    node, colon, output = ref.node.rpartition(":")
    if not colon or ref.node in operations:
        return ref
    names = _OUTPUTS.get(operations.get(node, ""), ())
    return Ref(node, (names.index(output) if output in names else 0) + ref.index)
