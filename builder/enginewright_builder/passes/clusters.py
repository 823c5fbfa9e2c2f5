"""pointwise(norm(pointwise(x))) => one Cluster: a maximal group of small layers that one generated kernel computes.

A cluster ends in one layer and grows from there towards the inputs, over layers that nothing outside of it reads, so
that no work is done twice. It holds pointwise layers, moves between them (as index arithmetic), gathers at its inputs,
and at most one layer that reduces: what comes before that one has to be cheap, since it is computed again for each time
that the reduction looks at an element.
"""

from dataclasses import dataclass, field

import onnx_ir as ir

from enginewright_builder.network import composites, fused, rewire
from enginewright_builder.network.network import FUSED_DOMAIN, Network, is_constant, static_shape
from enginewright_builder.network.pointwise import is_pointwise
from enginewright_builder.passes.base import PassReport

_VIEWS = frozenset({"Flatten", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
_MOVES = _VIEWS | {"Expand"}
_REDUCTIONS = frozenset(
    {
        "InstanceNormalization", "LayerNormalization", "LogSoftmax", "LpNormalization", "ReduceL1", "ReduceL2",
        "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
        "ReduceSumSquare", "RMSNormalization", "Softmax",
    }
)  # fmt: skip
# Pointwise, but not to be computed more than once for each element.
_DEAR = frozenset(
    {"Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Erf", "Exp", "Gelu", "Log", "Mish", "Pow",
     "Sin", "Sinh", "Softplus", "Tan"}
)  # fmt: skip
_CHEAP_LAYERS = 8  # before a reduction


@dataclass(slots=True)
class _Cluster:
    """Members with their readers first; `reduction` is the one layer that reduces, `before` those it reads."""

    members: list[ir.Node] = field(default_factory=list)
    reduction: ir.Node | None = None
    before: set[ir.Node] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """See the module. `most` layers make a cluster at most: a kernel's registers are finite."""

    most: int = 32
    name: str = "clusters"
    reason: str = "a chain of small layers is bound by launches and by memory: one kernel reads once and writes once"

    def apply(self, network: Network) -> PassReport:
        """Counts clusters; declines a second reduction and what is dear before one."""
        details: list[str] = []
        declined: list[str] = []
        order = {node: number for number, node in enumerate(network.layers())}
        for node in reversed(order):
            if node.graph is None or not _may_end(node):
                continue
            found = self._grow(node, declined)
            if sum(not _is_move(member) for member in found.members) < 2:
                continue
            parts = sorted(found.members, key=order.__getitem__)
            details.append(" + ".join(f"{each.name} ({each.op_type})" for each in parts))
            _put(network, parts)
        if details:
            network.graph.opset_imports[FUSED_DOMAIN] = fused.VERSION
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))

    def _grow(self, last: ir.Node, declined: list[str]) -> _Cluster:
        found = _Cluster(members=[last], reduction=last if _is_reduction(last) else None)
        front = [last]
        while front:
            node = front.pop(0)
            if node.op_type == "Gather":
                continue  # what it picks from is computed once, not at every place that it picks
            for value in dict.fromkeys(node.inputs):
                producer = None if value is None else value.producer()
                if value is None or producer is None or producer in found.members or len(found.members) >= self.most:
                    continue
                inside = set(found.members)
                if value.is_graph_output() or not {use.node for use in value.uses()} <= inside:
                    continue
                why = _refusal(found, producer, node)
                if why:
                    declined += [f"{producer.name} into {last.name}: {why}"] if why != _FOREIGN else []
                    continue
                _take(found, producer, node)
                front.append(producer)
        _trim(found)
        return found


_FOREIGN = "it is no small layer"


def _refusal(found: _Cluster, node: ir.Node, reader: ir.Node) -> str:
    """Why a layer cannot join a cluster in which `reader` reads it."""
    if static_shape(node.outputs[0]) is None or node.graph is None or len(node.outputs) != 1:
        return _FOREIGN
    behind = reader is found.reduction or reader in found.before
    if _is_reduction(node):
        if found.reduction is not None:
            return "a cluster has one reduction at most"
        if static_shape(node.outputs[0]) != static_shape(found.members[0].outputs[0]):
            return "its result is spread out, and would be reduced again for every element"
        return ""
    if not node.domain and node.op_type == "Gather":
        return _FOREIGN if len(static_shape(node.inputs[1]) or ()) == 0 else ""  # of one index it is a view
    if not is_pointwise(node) and not _is_move(node):
        return _FOREIGN
    if _is_move(node) and any(value is not None and not is_constant(value) for value in node.inputs[1:]):
        return _FOREIGN
    if behind and (node.op_type in _DEAR or len(found.before) >= _CHEAP_LAYERS):
        return "it would be computed more than once for each element that the reduction reads"
    if behind and _is_move(node):
        return _FOREIGN
    return ""


def _take(found: _Cluster, node: ir.Node, reader: ir.Node) -> None:
    found.members.append(node)
    if _is_reduction(node):
        found.reduction = node
    elif reader is found.reduction or reader in found.before:
        found.before.add(node)


def _trim(found: _Cluster) -> None:
    """Moves that stand at an input are views there, and better left outside."""
    while True:
        inside = set(found.members)
        loose = [n for n in found.members if n.op_type in _VIEWS and _producers(n).isdisjoint(inside)]
        if not loose:
            return
        found.members = [node for node in found.members if node not in loose]


def _producers(node: ir.Node) -> set[ir.Node]:
    return {p for value in node.inputs if value is not None and (p := value.producer()) is not None}


def _may_end(node: ir.Node) -> bool:
    """Whether a cluster can end here; in a move it cannot, that is a view of what it ends with."""
    known = len(node.outputs) == 1 and static_shape(node.outputs[0]) is not None
    return known and (is_pointwise(node) or _is_reduction(node))


def _is_move(node: ir.Node) -> bool:
    return not node.domain and node.op_type in _MOVES


def _is_reduction(node: ir.Node) -> bool:
    return node.domain in ("", FUSED_DOMAIN) and node.op_type in _REDUCTIONS and len(node.outputs) == 1


def _put(network: Network, parts: list[ir.Node]) -> None:
    inside = {node.outputs[0] for node in parts}
    given = list(dict.fromkeys(v for node in parts for v in node.inputs if v is not None and v not in inside))
    made = composites.make("Cluster", given, [ir.AttrGraph("body", _body(network, parts, given))], parts)
    rewire.put(network, made, parts[-1], list(reversed(parts)))


def _body(network: Network, parts: list[ir.Node], given: list[ir.Value]) -> ir.Graph:
    """The parts as a graph whose names say nothing, so that equal clusters have equal bodies."""
    copies = {
        value: ir.Value(name=f"x{number}", type=value.type, shape=value.shape) for number, value in enumerate(given)
    }
    nodes: list[ir.Node] = []
    for number, node in enumerate(parts):
        result = node.outputs[0]
        copies[result] = ir.Value(name=f"v{number}", type=result.type, shape=result.shape)
        inputs = [None if value is None else copies[value] for value in node.inputs]
        attributes = list(node.attributes.values())
        nodes.append(
            ir.Node(node.domain, node.op_type, inputs, attributes, name=f"n{number}", outputs=[copies[result]])
        )
    imports = dict(network.graph.opset_imports)
    return ir.Graph(
        [copies[v] for v in given], [copies[parts[-1].outputs[0]]], nodes=nodes, opset_imports=imports, name="cluster"
    )
