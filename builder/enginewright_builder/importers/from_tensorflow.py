"""Frozen TensorFlow graphs (GraphDef, .pb) in, and SavedModels of constants, without TensorFlow.

Outputs are named as nodes, `dense_2/Softmax`, or as tensors, `split:1`. What nothing needs is not looked at. The
network's values keep the names of TensorFlow's tensors where a person names them: inputs and outputs.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from enginewright_builder.importers.tensorflow import conditionals, conversion, frames, graph, grouping, saved_model
from enginewright_builder.importers.tensorflow.budget import Budget
from enginewright_builder.importers.tensorflow.graph import Node, Ref
from enginewright_builder.importers.tensorflow.scope import OPSET, Scope, Tensor
from enginewright_builder.network import rewire, shapes
from enginewright_builder.network.network import Network
from enginewright_builder.plugins.collection import NONE, Plugins
from enginewright_runtime.errors import UnsupportedError

_LISTED = 12
_BOOL = 10


def from_tensorflow(path: Path | str, *, outputs: Sequence[str] = (), plugins: Plugins = NONE) -> Network:
    """Read the frozen graph at `path`; `outputs` names what to compute, empty means the one node that nothing reads.

    Raises ModelError (missing, damaged), UnsupportedError (operations that ONNX cannot say, all of them in one
    sentence; outputs that are not in it, or are not named where there are several candidates).
    """
    path = Path(path)
    where = f"The model {path}"
    content = saved_model.read(path)
    nodes = graph.nodes(content.graph.node, where)
    wanted = _wanted(nodes, outputs, content.outputs, where)
    flags = _training(nodes.values())
    frames.fold(nodes, where)
    conditionals.fold(nodes, conversion.SOURCES, flags, where)
    order = graph.order(nodes, [*wanted.values()], conversion.SOURCES, where)
    saved_model.require_constants(order, where)
    training = flags & {node.name for node in order}
    scope = Scope(
        where=where,
        graph=ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name=path.stem),
        plugins=plugins,
        run=conversion.run,
        budget=Budget(where=where, size=content.graph.ByteSize()),
        training=flags,
        library={function.signature.name: function for function in content.graph.library.function},
    )
    made = conversion.convert(scope, order)
    _name_inputs(scope, content.inputs)
    for name, ref in wanted.items():
        _give(scope, name, ref, made[ref.node])
    if training:
        scope.notes.append(f"{', '.join(sorted(training))}: taken as false, since an inference does not train")
    network = Network(ir.Model(scope.graph, ir_version=10), notes=scope.notes, plugins=plugins)
    _prune(network)
    shapes.infer(network)
    grouping.find(network, where)
    return network


def _prune(network: Network) -> None:
    """Take out what was only read by a default or a side of a switch that is not taken, inputs among it."""
    RemoveUnusedNodesPass()(network.model)
    for value in network.inputs:
        if not value.uses() and not value.is_graph_output():
            network.graph.inputs.remove(value)
    rewire.drop_unread_constants(network)


def _wanted(
    nodes: Mapping[str, Node], outputs: Sequence[str], signature: Mapping[str, Ref], where: str
) -> dict[str, Ref]:
    """What to compute, by the name that it gets: that of the signature, or of the tensor."""
    candidates = [*signature] or graph.ends(nodes)
    listed = ", ".join(candidates[:_LISTED]) + (", …" if len(candidates) > _LISTED else "")
    refs = {name: signature.get(name) or Ref.parse(name) for name in outputs or signature}
    for ref in refs.values():
        if ref.node not in nodes:
            raise UnsupportedError(f"{where} has no operation {ref.node!r}: name an output with --output, as {listed}.")
    if refs:
        return {name if name in signature else str(ref): ref for name, ref in refs.items()}
    if len(candidates) != 1:
        raise UnsupportedError(
            f"{where} has {len(candidates)} operations that nothing reads, so its outputs have to be named with "
            f"--output: {listed or 'none'}."
        )
    return {candidates[0]: Ref(candidates[0])}


def _training(nodes: Collection[Node]) -> frozenset[str]:
    """Placeholders of one truth value that only switches ask: whether the model trains."""
    asked = {ref.node for node in nodes if node.op == "Switch" for ref in node.inputs[1:]}
    through = {node.name: node.inputs[0].node for node in nodes if node.op == "Identity"}
    asked |= {through[name] for name in asked if name in through}
    return frozenset(
        node.name
        for node in nodes
        if node.op in ("Placeholder", "PlaceholderWithDefault")
        and node.name in asked
        and node.attributes["dtype"].type == _BOOL
    )


def _name_inputs(scope: Scope, signature: Mapping[str, Ref]) -> None:
    """What a signature names has that name in the network."""
    names = {str(ref): name for name, ref in signature.items()}
    for value in scope.graph.inputs:
        if value.name in names:
            value.name = scope.fresh(names[value.name])


def _give(scope: Scope, name: str, ref: Ref, made: Sequence[Tensor]) -> None:
    """Make a tensor an output of the network under the name that was asked for."""
    if ref.index >= len(made) or made[ref.index].dead:
        raise UnsupportedError(f"{scope.where}: the operation {ref.node!r} has no output {ref.index} in an inference.")
    if made[ref.index].rows is not None:
        raise UnsupportedError(f"{scope.where}: the output {ref.node!r} is an array of tensors: name what stacks it.")
    value = scope.plain(made[ref.index])
    scope.node = name
    if value.is_graph_input() or value.is_initializer() or value.is_graph_output():
        value = scope.put("Identity", value)
    value.name = scope.fresh(name)
    scope.graph.outputs.append(value)
