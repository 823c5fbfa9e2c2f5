"""Gelu in its written-out forms => one layer.

Exporters and authors write it in a dozen ways: x * 0.5 * (1 + erf(x / sqrt(2))), with the half first or last, or with
tanh(sqrt(2 / pi) * (x + 0.044715 x^3)) for the erf, multiplied out or not. So the pass does not compare texts: it
takes the scalar function that the layers around an Erf or Tanh compute of one value, and compares numbers. Hendrycks
and Gimpel 2016.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from enginewright_builder.network import composites, fused, rewire
from enginewright_builder.network.network import FUSED_DOMAIN, Network, only_use
from enginewright_builder.passes.base import PassReport

Numbers = NDArray[np.float64]

_MOST_LAYERS = 12  # of one written-out Gelu
_SAMPLES: Numbers = np.concatenate([np.linspace(-6, 6, 97), [-30.0, 30.0]])
_TOLERANCE = 2e-4  # of constants rounded to a few digits, as 1.4142 and 0.7978
_erf = np.vectorize(math.erf, otypes=[np.float64])
_SCALAR: Mapping[str, Callable[..., Numbers]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Erf": _erf,
    "Tanh": np.tanh,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseGelu:
    """See the module."""

    name: str = "fuse-gelu"
    reason: str = "one layer can be the epilogue of the product before it; eight cannot"

    def apply(self, network: Network) -> PassReport:
        """Declines an Erf or Tanh whose neighbours look like a Gelu and are not."""
        details: list[str] = []
        declined: list[str] = []
        for node in list(network.layers()):
            if node.domain or node.op_type not in ("Erf", "Tanh") or node.graph is None:
                continue
            found = _find(network, node)
            if found is None:
                if node.op_type == "Erf":
                    declined.append(f"{node.name}: what surrounds it is no Gelu of one value")
                continue
            x, last, parts = found
            approximate = "tanh" if node.op_type == "Tanh" else "none"
            made = composites.make("Gelu", [x], [ir.AttrString("approximate", approximate)], parts)
            rewire.put(network, made, last, list(reversed(parts)))
            details.append(f"{' + '.join(part.name or '' for part in parts)}: Gelu, {approximate}")
        if details:
            network.graph.opset_imports[FUSED_DOMAIN] = fused.VERSION
            rewire.drop_unread_constants(network)
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))


def _find(network: Network, center: ir.Node) -> tuple[ir.Value, ir.Node, list[ir.Node]] | None:
    """The value that is put in, the layer that gives the result, and all parts in order."""
    wanted = _gelu(_SAMPLES, tanh=center.op_type == "Tanh")
    before = _before(network, center)
    last: ir.Node | None = center
    for _ in range(6):
        last = only_use(last.outputs[0]) if last is not None else None
        if last is None or last.domain or last.op_type not in _SCALAR:
            return None
        for x in before:
            parts = _between(network, x, last)
            if parts is None or center not in parts or not _closed(parts, last):
                continue
            with np.errstate(all="ignore"):
                got = _evaluate(network, x, parts, last)
            if got.shape == wanted.shape and np.allclose(got, wanted, rtol=_TOLERANCE, atol=_TOLERANCE):
                return x, last, parts
    return None


def _gelu(x: Numbers, *, tanh: bool) -> Numbers:
    bend = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)) if tanh else _erf(x / math.sqrt(2))
    result: Numbers = 0.5 * x * (1 + bend)
    return result


def _before(network: Network, center: ir.Node) -> list[ir.Value]:
    """The values that the center depends on, nearest first: one of them may be what is put in."""
    seen: dict[ir.Value, None] = {}
    front = [center]
    for _ in range(6):
        values = [v for node in front for v in node.inputs if v is not None and _number(network, v) is None]
        seen |= dict.fromkeys(values)
        front = [p for v in values if (p := v.producer()) is not None and not p.domain and p.op_type in _SCALAR]
    return list(seen)


def _between(network: Network, x: ir.Value, last: ir.Node) -> list[ir.Node] | None:
    """The layers on every way from x to `last`, in order; None if anything else than x and numbers comes in."""
    parts: dict[ir.Node, None] = {}

    def visit(node: ir.Node) -> bool:
        if node in parts:
            return True
        if node.domain or node.op_type not in _SCALAR or len(parts) >= _MOST_LAYERS:
            return False
        for value in node.inputs:
            if value is None or value is x or _number(network, value) is not None:
                continue
            producer = value.producer()
            if producer is None or not visit(producer):
                return False
        parts[node] = None
        return True

    return list(parts) if visit(last) else None


def _closed(parts: list[ir.Node], last: ir.Node) -> bool:
    """Whether nothing outside reads what lies between."""
    inside = set(parts)
    return all(
        node is last or (not node.outputs[0].is_graph_output() and {u.node for u in node.outputs[0].uses()} <= inside)
        for node in parts
    )


def _evaluate(network: Network, x: ir.Value, parts: list[ir.Node], last: ir.Node) -> Numbers:
    known: dict[ir.Value, Numbers] = {x: _SAMPLES}
    for node in parts:
        arguments = [known[v] if v in known else np.float64(_number(network, v) or 0.0) for v in node.inputs if v]
        known[node.outputs[0]] = _SCALAR[node.op_type](*arguments)
    return known[last.outputs[0]]


def _number(network: Network, value: ir.Value) -> float | None:
    array = network.constant(value)
    return float(array.item()) if array is not None and array.size == 1 and array.dtype.kind in "fi" else None
