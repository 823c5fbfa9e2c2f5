"""f(x) => the body that ONNX's own definition of f gives, for operators that have no lowering of their own.

ONNX defines many operators as functions of simpler ones, some by a body that depends on the layer (its attributes, its
inputs' types, which optional inputs are there). Bodies may use such operators themselves, so this is repeated. What
has neither a lowering nor a body stays, for whoever needs it to refuse.
"""

from collections.abc import Iterable
from typing import Any

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from enginewright_builder.device.expand_group_norm import expand_group_norm
from enginewright_builder.device.expand_top_k import expand_top_k
from enginewright_builder.device.operators.table import OPERATORS
from enginewright_builder.network import shapes
from enginewright_builder.network.network import ONNX_DOMAIN, Network, bodies
from enginewright_builder.passes.both_branches import BothBranches
from enginewright_builder.passes.expand_recurrent import ExpandRecurrent
from enginewright_builder.passes.fold_constants import FoldConstants
from enginewright_builder.passes.unroll_loops import UnrollLoops

_WRITTEN_OUT = frozenset({"LSTM", "GRU", "RNN", "Scan", "Loop", "If"})
_ROUNDS = 8  # bodies within bodies; ONNX's own go three deep
_PRIVATE = "enginewright.body"  # a domain for the calls, one function for each layer since bodies may depend on it


def expand_functions(network: Network) -> int:
    """Replace the layers of the main graph in place, loops of known length too; how many there were."""
    done = 0
    for _ in range(_ROUNDS):
        calls = [(node, body) for node in network.layers() if (body := _body(network, node)) is not None]
        if not calls:
            loops = _unroll(network)
            done += loops + expand_top_k(network) + expand_group_norm(network)
            if not loops:
                break
        for number, (node, body) in enumerate(calls):
            _call(network, node, body, f"{node.op_type}_{done + number}")
        InlinePass()(network.model)
        network.graph.opset_imports.pop(_PRIVATE, None)
        done += len(calls)
    return done


def _unroll(network: Network) -> int:
    """How long a loop is may take constants to tell."""
    if not any(node.op_type in _WRITTEN_OUT for node in network.layers()):
        return 0
    shapes.infer(network)
    FoldConstants().apply(network)
    return sum(each.apply(network).changed for each in (BothBranches(), UnrollLoops(), ExpandRecurrent()))


def _body(network: Network, node: ir.Node) -> onnx.FunctionProto | None:
    """ONNX's definition of a layer that has no lowering; None if there is none, or it needs a type that is unknown."""
    if node.domain != ONNX_DOMAIN or (ONNX_DOMAIN, node.op_type) in OPERATORS or bodies(node):
        return None
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, network.opset, ONNX_DOMAIN)  # onnx's types lack its methods
    except onnx.defs.SchemaError:
        return None
    proto = onnx.FunctionProto()
    if schema.has_function:
        version = _newest(schema.function_opset_versions, network.opset)
        if version is not None:
            proto.ParseFromString(schema.get_function_with_opset_version(version))
            return proto
    if schema.has_context_dependent_function:
        version = _newest(schema.context_dependent_function_opset_versions, network.opset)
        if version is not None:
            made = schema.get_context_dependent_function_with_opset_version(
                version, ir.serde.serialize_node(node).SerializeToString(), _types(node)
            )
            proto.ParseFromString(made)
            return proto if proto.node else None
    return None


def _newest(versions: Iterable[int], opset: int) -> int | None:
    return max((version for version in versions if version <= opset), default=None)


def _types(node: ir.Node) -> list[bytes]:
    """The inputs' types as ONNX's definitions want them, an empty one for what is absent."""
    types = []
    for value in node.inputs:
        if value is None or value.type is None:
            types.append(onnx.TypeProto().SerializeToString())
        else:
            types.append(ir.serde.serialize_value(value).type.SerializeToString())
    return types


def _call(network: Network, node: ir.Node, body: onnx.FunctionProto, name: str) -> None:
    """Make the layer a call of its own function, for onnx-ir's inliner to replace.

    A body is good until the opset in which ONNX gives another one, so it takes the model's.
    """
    body.domain, body.name = _PRIVATE, name
    del body.opset_import[:]
    body.opset_import.extend(
        onnx.helper.make_opsetid(domain, version) for domain, version in network.graph.opset_imports.items()
    )
    del body.output[len(node.outputs) :]
    made = {name for inner in body.node for name in inner.output}
    for output in body.output:
        if output not in made:  # an optional output that the layer does not have; nobody will read this
            body.node.append(onnx.helper.make_node("Constant", [], [output], value_float=0.0))
    model = network.model
    function = ir.serde.deserialize_function(body)
    model.functions[function.identifier()] = function
    network.graph.opset_imports[_PRIVATE] = 1
    node.domain, node.op_type = _PRIVATE, name
