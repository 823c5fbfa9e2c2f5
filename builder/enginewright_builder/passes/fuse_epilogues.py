"""activation(conv2d(x, w) + b + residual) => one layer: what follows a convolution or matrix product is its epilogue.

Only where nothing else reads what lies between, so that it never has to be in memory. The fused layer stands where the
last of its parts stood, so a residual that is computed after the base is there in time.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from enginewright_builder.network import fused, rewire
from enginewright_builder.network.fused import Epilogue, Parameters
from enginewright_builder.network.network import FUSED_DOMAIN, Network, only_use
from enginewright_builder.passes.base import PassReport

# Operators of one input whose other arguments are float attributes: they expand back as they were.
_ACTIVATIONS = frozenset(
    {"Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSigmoid", "Elu", "Selu", "Softplus", "Softsign", "HardSwish",
     "ThresholdedRelu", "Celu", "Mish"}
)  # fmt: skip
_GATES = ("Sigmoid", "HardSigmoid")
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)


@dataclass(slots=True, kw_only=True)
class _Chain:
    """What is being gathered: `end` is the value that the chain makes so far."""

    base: ir.Node
    end: ir.Value
    bias: ir.Value | None = None
    residual: ir.Value | None = None
    epilogue: Epilogue = field(default_factory=Epilogue)
    others: list[ir.Node] = field(default_factory=list)
    stopped: str = ""

    def take(self, node: ir.Node) -> None:
        self.others.append(node)
        self.end = node.outputs[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseEpilogues:
    """See the module. `bases` are the operators that take an epilogue, `gelu` says whether it may be a Gelu, `scale`
    whether a product of two computed matrices takes a factor along (one of constants has it in them), and `last`
    whether no pass behind it takes more: then it says why candidates stay."""

    bases: tuple[str, ...] = ("Conv", "Gemm", "MatMul")
    gelu: bool = False
    scale: bool = False
    last: bool = True
    name: str = "fuse-epilogues"
    reason: str = "bias, residual and activation are done while the result is still in registers"

    def apply(self, network: Network) -> PassReport:
        """Counts fused layers; declines each base that something fusable follows, with the reason."""
        details: list[str] = []
        declined: list[str] = []
        for node in list(network.layers()):
            if node.domain or node.op_type not in self.bases or node.outputs[0].dtype not in _FLOATS:
                continue
            chain = _gather(network, node, gelu=self.gelu, scale=self.scale)
            if chain.stopped and self.last:
                declined.append(f"{'+'.join(part.name or '' for part in (node, *chain.others))}: {chain.stopped}")
            if chain.others:
                _replace(network, chain)
                details.append(" + ".join(f"{part.name} ({part.op_type})" for part in (node, *chain.others)))
        if details:
            network.graph.opset_imports[FUSED_DOMAIN] = fused.VERSION
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))


def _gather(network: Network, base: ir.Node, *, gelu: bool, scale: bool) -> _Chain:
    bias = base.inputs[2] if len(base.inputs) > 2 else None
    chain = _Chain(base=base, end=base.outputs[0], bias=bias)
    if base.op_type == "MatMul":
        if scale:
            _take_scale(network, chain)
        _take_bias(network, chain)
    _take_residual(network, chain)
    if not (gelu and _take_gelu(chain)):
        _take_activation(network, chain)
    return chain


def _take_scale(network: Network, chain: _Chain) -> None:
    """matmul(x, y) * c, or / c, where c is one positive number."""
    node = only_use(chain.end)
    if node is None or node.domain or node.op_type not in ("Mul", "Div") or network.opset < 7:
        return
    other = node.inputs[1] if node.inputs[0] is chain.end else node.inputs[0]
    array = network.constant(other)
    divided = node.op_type == "Div"
    if array is None or array.size != 1 or array.item() <= 0 or (divided and other is node.inputs[0]):
        return
    if _keeps_shape(chain.end, node.outputs[0]):
        number = float(array.item())
        chain.epilogue = Epilogue(scale=1 / number if divided else number)
        chain.take(node)


def _take_bias(network: Network, chain: _Chain) -> None:
    """matmul(x, w) + b, where b is one constant for each column."""
    node = _next(chain, ("Add",))
    if node is None or network.opset < 7:
        return
    other = node.inputs[1] if node.inputs[0] is chain.end else node.inputs[0]
    array = network.constant(other)
    if array is None or array.ndim != 1 or not _keeps_shape(chain.end, node.outputs[0]):
        return
    chain.bias = other
    chain.take(node)


def _take_residual(network: Network, chain: _Chain) -> None:
    node = _next(chain, ("Add",))
    if node is None:
        return
    if network.opset < 7:
        chain.stopped = f"{node.name} adds in the way of opset {network.opset}, before shapes broadcast"
        return
    other = node.inputs[1] if node.inputs[0] is chain.end else node.inputs[0]
    if other is None or not _keeps_shape(chain.end, other):
        chain.stopped = f"{node.name} adds a tensor that is not known to be of the same shape"
        return
    chain.residual = other
    chain.take(node)


def _take_activation(network: Network, chain: _Chain) -> None:
    gate = _gate(chain.end)
    if gate is not None:
        activation, product = gate
        chain.epilogue = replace(
            chain.epilogue, activation=activation.op_type, parameters=_floats(activation) or {}, gated=True
        )
        chain.others.append(activation)
        chain.take(product)
        return
    node = _next(chain, _ACTIVATIONS)
    if node is None:
        return
    parameters = parameters_of(network, node)
    if parameters is None:
        chain.stopped = f"{node.name} has arguments that are not constants a fused layer can keep"
        return
    chain.epilogue = replace(chain.epilogue, activation=node.op_type, parameters=parameters)
    chain.take(node)


def _take_gelu(chain: _Chain) -> bool:
    node = only_use(chain.end)
    if node is None or node.op_type != "Gelu" or node.domain not in ("", FUSED_DOMAIN):
        return False
    chain.epilogue = replace(chain.epilogue, activation="Gelu", parameters=_approximation(node))
    chain.take(node)
    return True


def _next(chain: _Chain, operators: tuple[str, ...] | frozenset[str]) -> ir.Node | None:
    """The layer that alone reads the end of the chain, if it is one of these; notes why if others read it too."""
    node = only_use(chain.end)
    if node is not None:
        fits = not node.domain and node.op_type in operators and len(node.outputs) == 1
        return node if fits else None
    readers = [use.node for use in chain.end.uses()]
    if any(not reader.domain and reader.op_type in operators for reader in readers):
        also = "an output of the network" if chain.end.is_graph_output() else f"read by {len(readers)} layers"
        chain.stopped = f"{chain.end.name} is {also}, so it has to be in memory"
    return None


def _gate(value: ir.Value) -> tuple[ir.Node, ir.Node] | None:
    """y * sigmoid(y), and the layers that say so."""
    readers = {use.node for use in value.uses()}
    if len(readers) != 2 or len(value.uses()) != 2 or value.is_graph_output():
        return None
    activation = next((node for node in readers if not node.domain and node.op_type in _GATES), None)
    product = next((node for node in readers if not node.domain and node.op_type == "Mul"), None)
    if activation is None or product is None or only_use(activation.outputs[0]) is not product:
        return None
    return (activation, product) if product.graph is value.graph else None


def parameters_of(network: Network, node: ir.Node) -> Parameters | None:
    """The arguments of a pointwise operator, as a fused layer keeps them; None where they are no constants."""
    match node.op_type:
        case "Clip":
            return _clip_bounds(network, node)
        case "Gelu":
            return _approximation(node)
        case _:
            return _floats(node)


def _approximation(node: ir.Node) -> Parameters:
    return {"approximate": node.attributes.get_string("approximate", "none") or "none"}


def _floats(node: ir.Node) -> dict[str, float] | None:
    """The attributes of an activation, if all are numbers (consumed_inputs of old opsets says nothing)."""
    attributes = [a for name, a in node.attributes.items() if name != "consumed_inputs"]
    if any(attribute.type is not ir.AttributeType.FLOAT or attribute.is_ref() for attribute in attributes):
        return None
    return {attribute.name: attribute.as_float() for attribute in attributes}


def _clip_bounds(network: Network, node: ir.Node) -> dict[str, float] | None:
    if network.opset < 11:
        return _floats(node)
    bounds: dict[str, float] = {}
    for name, value in zip(("min", "max"), node.inputs[1:], strict=False):
        if value is None:
            continue
        array = network.constant(value)
        if array is None or array.size != 1:
            return None
        bound = float(array.item())
        if float(np.float32(bound)) != bound:  # an attribute holds a float32
            return None
        bounds[name] = bound
    return bounds


def _keeps_shape(value: ir.Value, other: ir.Value) -> bool:
    """Whether two values certainly have one shape: equal sizes, or equal names for what is free."""
    if value.shape is None or other.shape is None or len(value.shape) != len(other.shape):
        return False
    return not value.shape.has_unknown_dim() and value.shape == other.shape


def _replace(network: Network, chain: _Chain) -> None:
    last = chain.others[-1]
    node = fused.fuse(chain.base, chain.others, bias=chain.bias, residual=chain.residual, epilogue=chain.epilogue)
    made = node.outputs[0]
    made.name = network.fresh(f"{chain.end.name}_fused")
    made.type, made.shape = chain.end.type, chain.end.shape
    network.graph.insert_before(last, node)
    name, is_output = chain.end.name, chain.end.is_graph_output()
    rewire.take_over(network, chain.end, made)
    for part in reversed([chain.base, *chain.others]):
        rewire.remove(network, part)
    if not is_output:
        made.name = name
