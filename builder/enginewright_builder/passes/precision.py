"""float32 layers => float16 (or bfloat16) layers, with casts only where the two meet.

Inputs and outputs of the network keep their types. A layer stays in float32 where a rule of the recipe keeps it, where
ONNX has no narrow form of it, where it works with angles, coordinates, counts or scales that ten bits cannot hold or
makes them for one that does, and where a constant of it would overflow or vanish. Some stems (passes/stems.py) stay
float32 but for their result. Weights are rounded once, from float32, so this pass runs after those that compute new
weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from enginewright_builder.network import fused, rewire
from enginewright_builder.network.network import FUSED_DOMAIN, Array, Network, bodies, is_constant, static_shape
from enginewright_builder.network.pointwise import is_pointwise
from enginewright_builder.passes import balanced_rounding, stems
from enginewright_builder.passes.base import PassReport

Floats = NDArray[np.float32]
Balance = Callable[[Floats, ir.DataType, str], Array]

_WIDE = ir.DataType.FLOAT
_TYPES = {ir.DataType.FLOAT16: "tensor(float16)", ir.DataType.BFLOAT16: "tensor(bfloat16)"}
# Their float inputs are angles, coordinates, scores to be compared, scales of integers, or sums without end.
_DELICATE = frozenset(
    {
        "Cast", "CumSum", "DequantizeLinear", "DynamicQuantizeLinear", "GridSample", "AffineGrid", "MaxRoiPool",
        "NonMaxSuppression", "QuantizeLinear", "Range", "ReduceProd", "ReduceSumSquare", "RoiAlign", "DFT", "STFT",
        "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Det", "LSTM", "GRU", "RNN", "Cos", "Sin",
        "Tan",
    }
)  # fmt: skip
_MOVES = ("Concat", "Expand", "Flatten", "Gather", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
# Inputs, by operator, that stay float32 although the type would do.
_WIDE_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}
_NO_MATTER = 1e30  # a mask's "minus infinity": anything so low means the same as the narrow type's lowest number


@dataclass(frozen=True, slots=True, kw_only=True)
class NarrowFloats:
    """See the module. `keep` holds globs: a layer of which any part has such a name stays in float32. `stems` says that
    there are kernels for stems that multiply in float32."""

    dtype: ir.DataType = ir.DataType.FLOAT16
    keep: tuple[str, ...] = ()
    stems: bool = False
    name: str = "precision"
    reason: str = "half the bytes, and the tensor cores"

    def apply(self, network: Network) -> PassReport:
        """Counts the layers that became narrow; declined are those that stay, with the reason."""
        details: list[str] = []
        declined: list[str] = []
        narrow: dict[ir.Node, tuple[int, ...]] = {}
        delicate: set[ir.Node] = set()
        for node in reversed(list(network.layers())):
            if not any(_is_wide(value) for value in (*node.inputs, *node.outputs)):
                continue
            why = self._refusal(network, node)
            if not node.domain and node.op_type in _DELICATE and node.op_type != "Cast":
                delicate.add(node)
            elif not why and _serves(node, delicate):
                delicate.add(node)
                why = "what it computes is for a layer that does"
            if why:
                declined.append(f"{node.name}: stays in float32, {why}")
            elif self.stems and stems.stays_whole(node):
                details.append(f"{node.name}: multiplies in float32 and rounds its result alone, {stems.WHY}")
                narrow[node] = ()
            else:
                narrow[node] = _indices(network, node, self.dtype)
        declined.reverse()
        with balanced_rounding.at_once() as balance:
            clamped = _Narrowing(network, self.dtype, narrow, balance).run()
        if narrow:
            rewire.drop_unread_constants(network)
            details.append(f"{len(narrow)} layers in {self.dtype.name.lower()}")
        details += [f"constant {name}: what lies below the type's range became its lowest number" for name in clamped]
        return PassReport(name=self.name, changed=len(narrow), details=tuple(details), declined=tuple(declined))

    def _refusal(self, network: Network, node: ir.Node) -> str:
        for part in fused.layers_of(node):
            rule = next((glob for glob in self.keep if fnmatchcase(part, glob)), None)
            if rule is not None:
                return f"as the rule {rule!r} says"
        if node.domain not in ("", FUSED_DOMAIN):
            return f"the domain {node.domain!r} is not ONNX's"
        if bodies(node):
            return "it has a body"
        if not node.domain and node.op_type in _DELICATE:
            return f"{node.op_type} works with numbers that need it"
        indices = _indices(network, node, self.dtype)
        if not indices:
            return f"ONNX's {node.op_type} has no such form"
        for value in (node.inputs[index] for index in indices):
            array = network.constant(value)
            why = "" if array is None else _misfit(array.astype(np.float32, copy=False), self.dtype)
            if why and value is not None:
                return f"its constant {value.name} {why}"
        return ""


def _serves(node: ir.Node, delicate: set[ir.Node]) -> bool:
    """Whether all that a small layer makes goes into delicate ones: angles, coordinates, positions."""
    small = is_pointwise(node) or (not node.domain and node.op_type in _MOVES)
    if not node.domain and node.op_type == "MatMul":
        small = node.inputs[0] is not None and (static_shape(node.inputs[0]) or (0,))[-1] == 1  # an outer product
    readers = [use.node for value in node.outputs for use in value.uses()]
    return (
        small
        and bool(readers)
        and delicate.issuperset(readers)
        and not any(value.is_graph_output() for value in node.outputs)
    )


class _Narrowing:
    """One run: `narrow` are the layers with the inputs that change, `balance` rounds weights."""

    def __init__(
        self, network: Network, dtype: ir.DataType, narrow: dict[ir.Node, tuple[int, ...]], balance: Balance
    ) -> None:
        self.network, self.dtype, self.narrow, self.balance = network, dtype, narrow, balance
        self.casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self.clamped: list[str] = []

    def run(self) -> list[str]:
        """Returns the names of the constants that were cut to the range."""
        made = {v for node in self.narrow for v in _narrow_outputs(self.network, node, self.dtype)}
        for node, indices in self.narrow.items():
            for index in indices:
                value = node.inputs[index]
                if value is not None and _is_wide(value) and value not in made:
                    node.replace_input_with(index, self._as(value, self.dtype))
        for value in made:
            self._retype(value)
        return self.clamped

    def _retype(self, value: ir.Value) -> None:
        """The value becomes narrow; who wants it wide, the network's outputs included, gets a cast of it."""
        wide_uses = [u for u in value.uses() if u.node not in self.narrow or u.idx not in self.narrow[u.node]]
        name, is_output = value.name, value.is_graph_output()
        shape = value.shape
        value.type = ir.TensorType(self.dtype)
        if not wide_uses and not is_output:
            return
        cast = self._cast(value, _WIDE)
        wide = cast.outputs[0]
        wide.shape = shape
        for use in wide_uses:
            use.node.replace_input_with(use.idx, wide)
        if is_output:
            for index, output in enumerate(self.network.outputs):
                if output is value:
                    self.network.graph.outputs[index] = wide
            value.name = self.network.fresh(f"{name}_{self.dtype.name.lower()}")
            wide.name = name

    def _as(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        found = self.casts.get((value, dtype))
        if found is None:
            found = self._constant(value) if is_constant(value) else self._cast(value, dtype).outputs[0]
            self.casts[value, dtype] = found
        return found

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Node:
        suffix = dtype.name.lower()
        node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", dtype.value)], name=f"Cast:{value.name}:{suffix}")
        output = node.outputs[0]
        output.name = self.network.fresh(f"{value.name}_{suffix}")
        output.type, output.shape = ir.TensorType(dtype), value.shape
        producer = value.producer()
        if producer is None:
            first = next(iter(self.network.graph), None)
            assert first is not None, "a value that a layer reads comes with that layer"
            self.network.graph.insert_before(first, node)
        else:
            self.network.graph.insert_after(producer, node)
        return node

    def _constant(self, value: ir.Value) -> ir.Value:
        array = self.network.constant(value)
        assert array is not None, f"{value.name} is a float32 constant"
        wide = array.astype(np.float32, copy=False)
        readers = [(use.node, use.idx) for use in value.uses() if use.idx in self.narrow.get(use.node, ())]
        narrow = narrowed(wide, self.dtype, balanced_rounding.form(readers), self.balance)
        if not _inside(wide, self.dtype) and (wide[np.isfinite(wide)] < _lowest(self.dtype)).any():
            self.clamped.append(value.name or "")
        return self.network.add_constant(f"{value.name}_{self.dtype.name.lower()}", narrow)


def narrowed(array: Floats, dtype: ir.DataType, form: str = "", balance: Balance = balanced_rounding.balanced) -> Array:
    """A float32 array rounded to `dtype`; a mask's huge negative numbers become the lowest one. Weights of a `form`
    (balanced_rounding) are rounded by `balance`, so that their errors cancel."""
    low, cut = np.float32(_lowest(dtype)), array
    if not _inside(array, dtype):
        cut = np.asarray(np.where((array <= -_NO_MATTER) & (array < low) & np.isfinite(array), low, array))
    if form:
        return balance(cut, dtype, form)
    with np.errstate(over="ignore"):
        result: Array = cut.astype(dtype.numpy())
    return result


def _misfit(array: Floats, dtype: ir.DataType) -> str:
    """Why a constant cannot be narrow."""
    low = _lowest(dtype)
    finite = array if _inside(array, dtype) else array[np.isfinite(array)]
    if finite is not array and ((finite > -low).any() or ((finite < low) & (finite > -_NO_MATTER)).any()):
        return f"holds {float(np.max(np.abs(finite))):.3g}, beyond the largest {-low:.6g}"
    if array.size == 1 and finite.any() and not narrowed(array, dtype).any():
        return f"is {float(array.item()):.3g}, which would become 0"
    return ""


def _inside(array: Floats, dtype: ir.DataType) -> bool:
    """Whether all are finite numbers of the type's range, as nearly all weights are: two quick looks at them."""
    low = _lowest(dtype)
    return not array.size or bool(array.min() >= low and array.max() <= -low)


def _lowest(dtype: ir.DataType) -> float:
    """Minus the largest finite number."""
    return -65504.0 if dtype is ir.DataType.FLOAT16 else -float(2**127 * (2 - 2**-7))


def _is_wide(value: ir.Value | None) -> bool:
    return value is not None and value.dtype is _WIDE


def _indices(network: Network, node: ir.Node, dtype: ir.DataType) -> tuple[int, ...]:
    """Which inputs of a layer become narrow: those whose type is a parameter that may be."""
    present = [index for index, value in enumerate(node.inputs) if _is_wide(value)]
    if node.domain:
        return tuple(present)
    stay = _WIDE_INPUTS.get(node.op_type, ())
    allowed = _narrow_parameters(network, node, dtype)
    inputs = _schema(network, node).inputs
    return tuple(i for i in present if i not in stay and inputs[min(i, len(inputs) - 1)].type_str in allowed)


def _narrow_outputs(network: Network, node: ir.Node, dtype: ir.DataType) -> list[ir.Value]:
    made = [value for value in node.outputs if value.name and _is_wide(value)]
    if node.domain:
        return made
    allowed, outputs = _narrow_parameters(network, node, dtype), _schema(network, node).outputs
    read = {
        _schema(network, node).inputs[min(i, len(_schema(network, node).inputs) - 1)].type_str
        for i in _indices(network, node, dtype)
    }
    places = {value: min(index, len(outputs) - 1) for index, value in enumerate(node.outputs)}
    return [value for value in made if outputs[places[value]].type_str in allowed & read]


def _narrow_parameters(network: Network, node: ir.Node, dtype: ir.DataType) -> set[str]:
    """The type parameters that may be narrow. What today's ONNX allows is allowed in older opsets too: bfloat16 came
    late, and the meaning is the same."""
    names: set[str] = set()
    for schema in (_schema(network, node), onnx.defs.get_schema(node.op_type)):
        names |= {c.type_param_str for c in schema.type_constraints if _TYPES[dtype] in c.allowed_type_strs}
    return names


def _schema(network: Network, node: ir.Node) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(node.op_type, network.opset, "")
