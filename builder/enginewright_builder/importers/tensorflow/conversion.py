"""A graph's nodes to a network: constants stay arrays, switches of a known side are taken, all else goes by table."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.tensorflow import constants, dtypes, graph
from enginewright_builder.importers.tensorflow.call import Call, Table
from enginewright_builder.importers.tensorflow.graph import Node, Ref, Subgraph
from enginewright_builder.importers.tensorflow.operators import plugins
from enginewright_builder.importers.tensorflow.operators.table import OPERATORS
from enginewright_builder.importers.tensorflow.scope import DEAD, Scope, Tensor
from enginewright_builder.plugins.collection import called
from enginewright_runtime.errors import ModelError, UnsupportedError

_LISTED = 20
# Where data come from outside: what they deliver are inputs of the network.
SOURCES = frozenset(
    {"Placeholder", "IteratorGetNext", "IteratorV2", "QueueDequeueV2", "QueueDequeueManyV2", "QueueDequeueUpToV2"}
)
_KNOWN = frozenset({*OPERATORS, *SOURCES, "Const", "Switch", "Merge"})


def run(scope: Scope, sub: Subgraph, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Write a subgraph into the scope's graph; `inputs` are its arguments. Returns its results."""
    made: dict[str, Sequence[Tensor]] = {}
    for names, tensor in zip(sub.given, inputs, strict=True):
        for name in names:
            made[name] = [DEAD, tensor] if name in sub.dead else [tensor, tensor]
    order = graph.order(sub.nodes, sub.results, SOURCES | {graph.GIVEN}, scope.where)
    convert(scope, order, made)
    ends = graph.Node(name="the end of " + scope.node, op="", inputs=sub.results, attributes={})
    return [_input(scope, ends, ref, made) for ref in sub.results]


def convert(
    scope: Scope, order: Sequence[Node], made: dict[str, Sequence[Tensor]] | None = None
) -> dict[str, Sequence[Tensor]]:
    """Write the nodes into the scope's graph; what is `made` already stays as it is.

    Raises UnsupportedError with all operations that cannot be written in ONNX, in one sentence.
    """
    made = {} if made is None else made
    unknown: list[str] = []
    for node in order:
        if node.name in made:
            continue
        scope.node = node.name
        given = [] if node.op in SOURCES else [_input(scope, node, ref, made) for ref in node.inputs]
        dead = any(tensor.dead for tensor in (*given, *(made[ref.node][0] for ref in node.guards)))
        if node.op == "Merge":
            made[node.name] = _merged(Call(scope=scope, node=node, inputs=given))
        elif dead:
            made[node.name] = _Dead()
        elif node.op not in _KNOWN and (plugin := called(scope.plugins, node.op)) is not None:
            made[node.name] = plugins.write(Call(scope=scope, node=node, inputs=given), plugin)
        elif node.op not in _KNOWN:
            unknown.append(f"{node.name!r} ({node.op})")
            made[node.name] = _Dead()
        else:
            made[node.name] = _outputs(Call(scope=scope, node=node, inputs=given))
    scope.node = ""
    if unknown:
        more = f" and {len(unknown) - _LISTED} more" if len(unknown) > _LISTED else ""
        raise UnsupportedError(
            f"{scope.where} has {len(unknown)} operations that cannot be imported: {', '.join(unknown[:_LISTED])}"
            f"{more}; name outputs before them with --output, write them as plugins (--plugin), or export the "
            "model to ONNX."
        )
    return made


def _input(scope: Scope, node: Node, ref: Ref, made: Mapping[str, Sequence[Tensor]]) -> Tensor:
    given = made[ref.node]
    if ref.index >= len(given):
        raise ModelError(
            f"{scope.where} is damaged: {node.name!r} reads output {ref.index} of {ref.node!r}, which has {len(given)}."
        )
    return given[ref.index]


def _outputs(call: Call) -> Sequence[Tensor]:
    scope, node = call.scope, call.node
    if node.name in scope.training:
        return [scope.known(np.array(False))]
    if node.op in SOURCES:
        return _Source(scope, node)
    try:
        return (_OWN.get(node.op) or OPERATORS[node.op])(call)
    except (IndexError, ValueError, TypeError, KeyError, ArithmeticError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ModelError(
            f"{scope.where} does not hold together: the operation {node.name!r} ({node.op}) cannot be read ({reason}); "
            "export it again."
        ) from error


class _Dead(Sequence[Tensor]):
    """The outputs, however many, of an operation on the side that is never taken."""

    def __getitem__(self, index: Any) -> Any:
        return DEAD

    def __len__(self) -> int:
        return 1 << 16


class _Source(Sequence[Tensor]):
    """The outputs of a source: each becomes an input of the network when something reads it."""

    def __init__(self, scope: Scope, node: Node) -> None:
        self._scope, self._node = scope, node
        self._made: dict[int, Tensor] = {}

    def __getitem__(self, index: Any) -> Any:
        if index not in self._made:
            self._made[index] = _placeholder(self._scope, self._node, index)
        return self._made[index]

    def __len__(self) -> int:
        return max(1, len(_component_types(self._node)))


def _component_types(node: Node) -> Sequence[int]:
    """Of a queue's or an iterator's element; empty for a placeholder."""
    found = next((name for name in ("component_types", "output_types") if name in node.attributes), None)
    return node.attributes[found].list.type if found else ()


def _placeholder(scope: Scope, node: Node, index: int) -> Tensor:
    attributes = node.attributes
    types = _component_types(node)
    number = types[index] if types else attributes["dtype"].type if "dtype" in attributes else 1
    dtype = dtypes.to_onnx(number)
    if dtype is None:
        raise UnsupportedError(
            f"{scope.where}: the input {node.name!r} is of type {dtypes.name(number)}, which ONNX has no tensors of."
        )
    if scope.outer is not None:
        raise UnsupportedError(f"{scope.where}: the input {node.name!r} is read inside of a loop or a branch only.")
    name = scope.fresh(str(Ref(node.name, index)))
    sizes = _sizes(attributes, name)
    value = ir.Value(name=name, shape=sizes, type=ir.TensorType(dtype))
    scope.graph.inputs.append(value)
    return Tensor(value=value, rank=None if sizes is None else len(sizes))


def _sizes(attributes: Mapping[str, Any], name: str) -> ir.Shape | None:
    if "shape" not in attributes or attributes["shape"].shape.unknown_rank:
        return None
    given = [each.size for each in attributes["shape"].shape.dim]
    if not given and "_output_shapes" not in attributes:
        return None  # old exporters write no dimensions where they know none
    return ir.Shape(
        [size if size >= 0 else ("batch" if axis == 0 else f"{name}_{axis}") for axis, size in enumerate(given)]
    )


def _constant(call: Call) -> Sequence[Tensor]:
    if "value" not in call.node.attributes:
        raise ModelError(f"{call.scope.where} is damaged: the constant {call.node.name!r} has no value.")
    what = f"The constant {call.node.name!r} of {call.scope.where}"
    return [call.scope.known(constants.to_array(call.node.attributes["value"].tensor, what))]


def _switched(call: Call) -> Sequence[Tensor]:
    """(data, predicate) -> (data if false, data if true)."""
    data, predicate = call.inputs
    if predicate.array is None:
        raise call.refuse("depends on a value that is computed: export the model with tf.cond in functional form")
    return [DEAD, data] if bool(predicate.array) else [data, DEAD]


def _merged(call: Call) -> Sequence[Tensor]:
    """The one live input, and which it is."""
    alive = [(index, tensor) for index, tensor in enumerate(call.inputs) if not tensor.dead]
    if not alive:
        return _Dead()
    index, tensor = alive[0]
    return [tensor, call.scope.known(np.array(index, dtype=np.int32))]


_OWN: Table = MappingProxyType({"Const": _constant, "Switch": _switched})
