"""f(constants) => constant, computed once by ONNX Runtime, the very library that would compute it while serving.

All layers that depend on constants alone are computed in one session, and only what other layers read of it is kept. A
shape that became known makes more constants, so this is repeated with inference in between until nothing changes. What
is computed is bounded, for a few bytes can make billions: each layer by what it reads, all together by what was there.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field

import onnx_ir as ir

from enginewright_builder.network import rewire, shapes
from enginewright_builder.network.network import Network, bodies, static_shape
from enginewright_builder.passes import branches, evaluation, late_expand
from enginewright_builder.passes.base import PassReport

# Their constants are a compression or the record of a quantization, which tactics want to see.
_QUANTIZATION = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger",
     "MatMulInteger"}
)  # fmt: skip
_MOST = (1 << 63) - 1  # elements that Size can count
_NO_ANSWER = "is not computed ahead: "
_UNSIZED = "the size of its result is not known before it is computed, or is no plain tensor"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldConstants:
    """`grow_bytes`: a result larger than this and than `grow_times` its constants is left to be computed each time;
    `room`: bytes that all results may have together, beside `grow_times` the network's constants."""

    name: str = "fold-constants"
    reason: str = "what does not depend on the input is computed once, here"
    grow_bytes: int = 64 << 10
    grow_times: int = 4
    room: int = 256 << 20
    rounds: int = 32

    def apply(self, network: Network) -> PassReport:
        """See the module. Layers with outputs of the network stay, so that a name is never a constant's."""
        details: list[str] = []
        given = sum(value.const_value.nbytes for value in network.graph.initializers.values() if value.const_value)
        ledger = _Ledger(room=self.room + self.grow_times * given)
        changed = 0
        for _ in range(self.rounds):
            ledger.ask_again()
            rewire.lift_constants(network)
            now = [*branches.inline(network), *branches.scalar_bounds(network), *_known_shapes(network)]
            now += _replace(network, self._able(network, ledger), ledger)
            now += late_expand.move(network, ledger.refused)
            if not now:
                break
            details += now
            changed += len(now)
            rewire.drop_unread_constants(network)
            shapes.infer(network)
        declined = tuple(f"{layer} {_NO_ANSWER}{why}" for layer, why in ledger.refused.items())
        return PassReport(name=self.name, changed=changed, details=tuple(details), declined=declined)

    def _able(self, network: Network, ledger: "_Ledger") -> list[ir.Node]:
        """The layers that are computed now, in their order."""
        asked = _on_constants(network, network.layers(), lambda node, coming: _why_not(network, node, coming), ledger)
        sizes = evaluation.sizes(network, asked) if asked else {}
        return _on_constants(network, asked, lambda node, _: self._why_too_large(node, sizes, ledger), ledger)

    def _why_too_large(self, node: ir.Node, sizes: Mapping[ir.Value, int], ledger: "_Ledger") -> str | None:
        if any(value.name and value not in sizes for value in node.outputs):
            return _UNSIZED
        size = sum(sizes[value] for value in node.outputs if value.name)
        given = sum(
            sizes.get(value, value.const_value.nbytes if value.const_value else 0)
            for value in node.inputs
            if value is not None
        )
        if size > max(self.grow_bytes, self.grow_times * given):
            return f"its result of {size} bytes would make the plan grow (from constants of {given} bytes)"
        return ledger.take(size)


@dataclass(slots=True, kw_only=True)
class _Ledger:
    """Which layers are not computed ahead, and why; and how many bytes may still be made."""

    room: int
    refused: dict[str, str] = field(default_factory=dict)

    def ask_again(self) -> None:
        """By now more sizes may be known."""
        self.refused = {layer: why for layer, why in self.refused.items() if why != _UNSIZED}

    def take(self, size: int) -> str | None:
        """Why not; None if it is taken."""
        if size > self.room:
            return (
                f"its result of {size} bytes is more than the {self.room} that are left of what may be computed ahead"
            )
        self.room -= size
        return None


def _on_constants(
    network: Network,
    nodes: Iterable[ir.Node],
    why_not: Callable[[ir.Node, Set[ir.Value]], str | None],
    ledger: _Ledger,
) -> list[ir.Node]:
    """Those of the layers that depend on constants and each other alone, and that nothing speaks against.

    `why_not` gets a layer and what the layers before it will make; it says None, "" (that goes without saying), or why.
    """
    coming: set[ir.Value] = set()
    kept: list[ir.Node] = []
    for node in nodes:
        if (node.name or "") in ledger.refused or not _depends_on_constants(network, node, coming):
            continue
        why = why_not(node, coming)
        if why is None:
            kept.append(node)
            coming.update(node.outputs)
        elif why:
            ledger.refused[node.name or ""] = why
    return kept


def _why_not(network: Network, node: ir.Node, coming: Set[ir.Value]) -> str | None:
    """What speaks against it however much it makes."""
    if bodies(node) or any(value.is_graph_output() for value in node.outputs):
        return ""
    if node.domain or not rewire.is_deterministic(node):
        return f"{node.op_type} may give another result each time"
    if node.op_type in _QUANTIZATION:
        return "it is a quantization, which tactics want to see"
    return _why_not_division(network, node, coming)


def _depends_on_constants(network: Network, node: ir.Node, coming: Set[ir.Value]) -> bool:
    given = [value for value in node.inputs if value is not None]
    return bool(given) and all(value in coming or network.constant(value) is not None for value in given)


def _why_not_division(network: Network, node: ir.Node, coming: Set[ir.Value]) -> str | None:
    """An integer division by zero would end this process, so divisors are looked at first."""
    divisor = node.inputs[1] if node.op_type in ("Div", "Mod") and len(node.inputs) > 1 else None
    if divisor is None or divisor.dtype is None or divisor.dtype.is_floating_point():
        return None
    array = network.constant(divisor)
    if array is None:
        return "" if divisor in coming else "its divisor is not known"
    return None if array.all() else "it divides an integer by zero"


def _known_shapes(network: Network) -> list[str]:
    """Shape and Size of a value whose dimensions are all known, though the value itself is not."""
    done: list[str] = []
    for node in list(network.layers()):
        if node.domain or node.op_type not in ("Shape", "Size") or node.outputs[0].is_graph_output():
            continue
        shape = static_shape(node.inputs[0])
        if shape is None:
            continue
        if node.op_type == "Shape":
            start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(shape))
            tensor = ir.tensor(list(_between(shape, start or 0, len(shape) if end is None else end)), ir.DataType.INT64)
        elif math.prod(shape) > _MOST:
            continue
        else:
            tensor = ir.tensor(math.prod(shape), ir.DataType.INT64)
        rewire.make_constant(network, node.outputs[0], tensor)
        rewire.remove(network, node)
        done.append(f"{node.name}: {node.op_type} of {list(shape)}")
    return done


def _between(shape: tuple[int, ...], start: int, end: int) -> tuple[int, ...]:
    """Both ends count from the back when negative and are clamped to the rank, as ONNX's Shape says."""
    rank = len(shape)
    start, end = (min(max(at + rank if at < 0 else at, 0), rank) for at in (start, end))
    return shape[start:end]


def _replace(network: Network, nodes: list[ir.Node], ledger: _Ledger) -> list[str]:
    inside = set(nodes)
    wanted = [v for node in nodes for v in node.outputs if any(use.node not in inside for use in v.uses())]
    if not nodes:
        return []
    try:
        arrays = evaluation.run(network, nodes, wanted)
    except evaluation.FailedError as error:
        ledger.refused[error.layer] = error.reason
        return _replace(network, _without(nodes, error.layer), ledger)
    for value, array in zip(wanted, arrays, strict=True):
        rewire.make_constant(network, value, ir.tensor(array))
    for node in reversed(nodes):
        rewire.remove(network, node)
    return [f"{node.name}: {node.op_type}" for node in nodes]


def _without(nodes: list[ir.Node], layer: str) -> list[ir.Node]:
    """All but a layer and what depends on it."""
    lost: set[ir.Value] = set()
    kept: list[ir.Node] = []
    for node in nodes:
        if node.name == layer or any(value in lost for value in node.inputs):
            lost.update(node.outputs)
        else:
            kept.append(node)
    return kept
