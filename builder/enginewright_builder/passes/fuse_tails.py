"""f(activation(conv2d(x, w) + b), r) => one layer: any pointwise expression of a result, and of one tensor like it.

What `fuse_epilogues` leaves behind a convolution or product: Exp, Sqrt, a gate, an addition behind an activation, a
product with a tensor. The expression grows over pointwise layers that read nothing but what is in it, numbers and one
tensor of the result's shape, and ends in the one value that anybody else reads (network/tail.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from enginewright_builder.network import fused, rewire
from enginewright_builder.network import tail as tails
from enginewright_builder.network.network import FUSED_DOMAIN, Network, reads, static_shape
from enginewright_builder.network.pointwise import is_pointwise
from enginewright_builder.network.tail import Operand, Step
from enginewright_builder.passes import fuse_epilogues
from enginewright_builder.passes.base import PassReport

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_FOREIGN = "it is no pointwise layer"
_LATER = "it also reads what others compute of the same result"


@dataclass(slots=True, kw_only=True)
class _Growth:
    """What a tail may become. `taken` are layers in order, `steps` what they compute; the first `whole` of them end in
    one value, and `residual` is the tensor that these read."""

    begin: ir.Value
    places: Mapping[ir.Node, int]  # of all layers, in order
    has_residual: bool
    known: dict[ir.Value, Operand]
    taken: list[ir.Node] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    beside: ir.Value | None = None
    whole: int = 0
    residual: ir.Value | None = None
    refused: dict[ir.Node, str] = field(default_factory=dict)

    def take(self, node: ir.Node, step: Step, beside: ir.Value | None) -> None:
        made = node.outputs[0]
        self.known[made] = tails.result(len(self.steps))
        self.taken.append(node)
        self.steps.append(step)
        self.beside = beside
        if [value for value in self.known if not self._is_inside(value)] == [made]:
            self.whole, self.residual = len(self.steps), beside

    def _is_inside(self, value: ir.Value) -> bool:
        return not value.is_graph_output() and all(use.node in self.taken for use in value.uses())


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseTails:
    """See the module. `most` steps make a tail at most: a kernel unrolls them for each number that it holds."""

    most: int = 12
    name: str = "fuse-tails"
    reason: str = "a pointwise layer of its own reads and writes again what a kernel had in registers"

    def apply(self, network: Network) -> PassReport:
        """Counts layers that got a tail; declines pointwise layers behind one that stay, with the reason."""
        details: list[str] = []
        declined: list[str] = []
        places = {node: place for place, node in enumerate(network.layers())}
        for node in list(places):
            base = not node.domain and node.op_type in fused.BASES
            if not (base or fused.is_fused(node)) or node.outputs[0].dtype not in _FLOATS:
                continue
            grown = self._grown(network, node, places)
            parts = [node, *grown.taken[: grown.whole]]
            why = _left(grown)
            declined += [f"{'+'.join(name for part in parts for name in fused.layers_of(part))}: {why}"] if why else []
            if grown.whole:
                details.append(" + ".join(f"{part.name} ({part.op_type})" for part in parts))
                made = fused.with_tail(node, parts[1:], grown.residual, tuple(grown.steps[: grown.whole]))
                places[made] = places[parts[-1]]
                rewire.put(network, made, parts[-1], parts[::-1])
        if details:
            network.graph.opset_imports[FUSED_DOMAIN] = fused.VERSION
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))

    def _grown(self, network: Network, node: ir.Node, places: Mapping[ir.Node, int]) -> _Growth:
        begin = node.outputs[0]
        has_residual = fused.is_fused(node) and fused.padded_inputs(node)[3] is not None
        grown = _Growth(begin=begin, places=places, has_residual=has_residual, known={begin: tails.SUM})
        front = [begin]
        while front:
            for reader in dict.fromkeys(use.node for use in front.pop(0).uses()):
                if reader in grown.taken or len(grown.taken) == self.most:
                    continue
                why = _take(network, grown, reader)
                if why:
                    grown.refused[reader] = why
                else:
                    front.append(reader.outputs[0])
        return grown


def _take(network: Network, grown: _Growth, node: ir.Node) -> str:
    """Take a layer as the next step; or why not, "" where it was taken."""
    if node.graph is not network.graph or not (_is_step(node) or is_pointwise(node)):
        return _FOREIGN
    if not _is_step(node):
        return f"{node.name} is a {node.op_type} of {len(node.inputs)}, which is no step of a tail"
    if not _alike(grown.begin, node.outputs[0]):
        return f"{node.name} gives another shape or type"
    parameters = fuse_epilogues.parameters_of(network, node)
    if parameters is None:
        return f"{node.name} has arguments that are not constants a fused layer can keep"
    operands: list[Operand] = []
    beside = grown.beside
    for value in node.inputs[:1] if node.op_type in tails.UNARY else node.inputs:
        found = grown.known.get(value) if value is not None else None
        if found is None:
            found = _number(network, value)
        if found is not None:
            operands.append(found)
            continue
        why = _refusal(grown, node, value, beside)
        if why:
            return why
        operands.append(tails.RESIDUAL)
        beside = value
    step = Step(operator=node.op_type, operands=tuple(operands), parameters=parameters)
    if step.operator == "Pow":
        if step.operands[1] not in (*tails.EXPONENTS, 0.5) or not isinstance(step.operands[0], str):
            return f"{node.name} has an exponent that is neither 2 nor 3 nor a half"
        step = Step(operator="Sqrt", operands=step.operands[:1]) if step.operands[1] == 0.5 else step
    grown.take(node, step, beside)
    return ""


def _is_step(node: ir.Node) -> bool:
    if node.op_type == "Gelu":
        return node.domain in ("", FUSED_DOMAIN)
    binary = node.op_type in tails.BINARY and len(node.inputs) == 2  # Max and Min may have any number
    return is_pointwise(node) and (binary or node.op_type in tails.UNARY)


def _refusal(grown: _Growth, node: ir.Node, value: ir.Value | None, beside: ir.Value | None) -> str:
    """Why a tensor cannot be the tail's residual, as a sentence; "" where it can."""
    if value is None or _depends(value, grown.begin, grown.places):
        return _LATER
    if not _alike(grown.begin, value):
        return f"{node.name} reads {value.name}, which is neither one number nor of the result's shape and type"
    if grown.has_residual or beside not in (None, value):
        return f"{node.name} reads {value.name}, and there is room for one tensor, which is taken"
    return ""


def _left(grown: _Growth) -> str:
    """Why the tail ends where it does, if a pointwise layer stands there."""
    end = grown.taken[grown.whole - 1].outputs[0] if grown.whole else grown.begin
    readers = list(dict.fromkeys(use.node for use in end.uses()))
    reasons = [grown.refused.get(reader, "") for reader in readers]
    if len(readers) == 1 and not end.is_graph_output():
        return next((why for why in reasons if why not in (_FOREIGN, _LATER)), "")
    if not any(reader in grown.taken or why != _FOREIGN for reader, why in zip(readers, reasons, strict=True)):
        return ""
    also = "an output of the network" if end.is_graph_output() else f"read by {len(readers)} layers"
    return f"{end.name} is {also}, so it has to be in memory"


def _depends(value: ir.Value, begin: ir.Value, places: Mapping[ir.Node, int]) -> bool:
    """Whether a value is computed of `begin`, which nothing before its layer is."""
    first = begin.producer()
    assert first is not None, "a layer's result"
    seen: set[ir.Node] = set()
    pending = [value]
    while pending:
        each = pending.pop()
        if each is begin:
            return True
        node = each.producer()
        if node is not None and node not in seen and places.get(node, 0) > places[first]:
            seen.add(node)
            pending += reads(node)
    return False


def _number(network: Network, value: ir.Value | None) -> float | None:
    array = network.constant(value)
    return float(array.item()) if array is not None and array.size == 1 else None


def _alike(value: ir.Value, other: ir.Value) -> bool:
    return value.dtype is other.dtype and static_shape(value) is not None and static_shape(value) == static_shape(other)
