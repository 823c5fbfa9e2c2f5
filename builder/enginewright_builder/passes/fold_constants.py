"""f(constants) => constant, computed once by ONNX Runtime, the very library that would compute it while serving.

All layers that depend on constants alone are computed in one session, and only what other layers read of it is kept. A
shape that became known makes more constants, so this is repeated with inference in between until nothing changes.
"""

import math
from dataclasses import dataclass

import onnx_ir as ir

from enginewright_builder.network import rewire, shapes
from enginewright_builder.network.network import Network, bodies, is_computable, static_shape
from enginewright_builder.passes import branches, evaluation
from enginewright_builder.passes.base import PassReport

# Their constants are a compression or the record of a quantization, which tactics want to see.
_QUANTIZATION = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger",
     "MatMulInteger"}
)  # fmt: skip
_NO_ANSWER = "is not computed ahead: "
_UNSIZED = "the size of its result is not known before it is computed, or is no plain tensor"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldConstants:
    """`grow_bytes`: a result larger than this and than `grow_times` its constants is left to be computed each time."""

    name: str = "fold-constants"
    reason: str = "what does not depend on the input is computed once, here"
    grow_bytes: int = 64 << 10
    grow_times: int = 4
    rounds: int = 32

    def apply(self, network: Network) -> PassReport:
        """See the module. Layers with outputs of the network stay, so that a name is never a constant's."""
        details: list[str] = []
        refused: dict[str, str] = {}
        changed = 0
        for _ in range(self.rounds):
            refused = {layer: why for layer, why in refused.items() if why != _UNSIZED}  # by now it may be known
            rewire.lift_constants(network)
            now = [*branches.inline(network), *branches.scalar_bounds(network), *_known_shapes(network)]
            now += self._evaluate(network, refused)
            if not now:
                break
            details += now
            changed += len(now)
            rewire.drop_unread_constants(network)
            shapes.infer(network)
        declined = tuple(f"{layer} {_NO_ANSWER}{why}" for layer, why in refused.items())
        return PassReport(name=self.name, changed=changed, details=tuple(details), declined=declined)

    def _evaluate(self, network: Network, refused: dict[str, str]) -> list[str]:
        coming: set[ir.Value] = set()
        nodes: list[ir.Node] = []
        for node in network.layers():
            if (node.name or "") in refused or not _depends_on_constants(network, node, coming):
                continue
            why = self._why_not(network, node, coming)
            if why is None:
                nodes.append(node)
                coming.update(node.outputs)
            elif why:
                refused[node.name or ""] = why
        return _replace(network, nodes, refused)

    def _why_not(self, network: Network, node: ir.Node, coming: set[ir.Value]) -> str | None:
        """None if the layer can be computed ahead; "" if not and that goes without saying; else why not."""
        if bodies(node) or any(value.is_graph_output() for value in node.outputs):
            return ""
        if node.domain or not rewire.is_deterministic(node):
            return f"{node.op_type} may give another result each time"
        if node.op_type in _QUANTIZATION:
            return "it is a quantization, which tactics want to see"
        sizes = [_bytes(value) for value in node.outputs if value.name]
        if None in sizes:
            return _UNSIZED
        given = sum(_bytes(value) or 0 for value in node.inputs if value is not None)
        size = sum(size for size in sizes if size is not None)
        if size > max(self.grow_bytes, self.grow_times * given):
            return f"its result of {size} bytes would make the plan grow (from constants of {given} bytes)"
        return _why_not_division(network, node, coming)


def _depends_on_constants(network: Network, node: ir.Node, coming: set[ir.Value]) -> bool:
    given = [value for value in node.inputs if value is not None]
    return bool(given) and all(value in coming or network.constant(value) is not None for value in given)


def _why_not_division(network: Network, node: ir.Node, coming: set[ir.Value]) -> str | None:
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


def _replace(network: Network, nodes: list[ir.Node], refused: dict[str, str]) -> list[str]:
    inside = set(nodes)
    wanted = [v for node in nodes for v in node.outputs if any(use.node not in inside for use in v.uses())]
    if not nodes:
        return []
    try:
        arrays = evaluation.run(network, nodes, wanted)
    except evaluation.FailedError as error:
        refused[error.layer] = error.reason
        return _replace(network, _without(nodes, error.layer), refused)
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


def _bytes(value: ir.Value) -> int | None:
    shape = static_shape(value)
    if shape is None or not isinstance(value.type, ir.TensorType) or not is_computable(value.dtype):
        return None
    return math.prod(shape) * value.type.dtype.itemsize.__ceil__()
