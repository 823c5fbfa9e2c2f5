"""Back to ONNX: our fused layers expanded into the operators they were made of, for ONNX Runtime and for proofs.

With `contrib`, those that ONNX Runtime's CPU provider has a fused kernel for become that kernel's own operator of the
domain com.microsoft (float32 only; onnxruntime/contrib_ops/cpu/fused_conv.cc, fused_gemm.cc): another tactic to time.
"""

from collections.abc import Mapping

import onnx_ir as ir

from enginewright_builder.network import composites, expansion, fused, rewire
from enginewright_builder.network.fused import Epilogue
from enginewright_builder.network.network import FUSED_DOMAIN, Network

_CONTRIB_DOMAIN = "com.microsoft"
# What each kernel knows, with its parameters in the order in which it wants them, and ONNX's defaults.
_CONV_ACTIVATIONS: Mapping[str, Mapping[str, float]] = {
    "": {},
    "Relu": {},
    "Sigmoid": {},
    "Tanh": {},
    "LeakyRelu": {"alpha": 0.01},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Clip": {"min": -3.4028234663852886e38, "max": 3.4028234663852886e38},
}
_GEMM_ACTIVATIONS: Mapping[str, Mapping[str, float]] = {
    "Relu": {},
    "Sigmoid": {},
    "Tanh": {},
    "LeakyRelu": {"alpha": 0.01},
}


def to_onnx(network: Network, *, contrib: bool = False) -> ir.Model:
    """A model that computes what the network does, of standard operators (and com.microsoft's fused ones if `contrib`).

    The network is left as it is. Constants are shared with it.
    """
    lowered = network.copy()
    for node in list(lowered.layers()):
        if fused.is_fused(node) or composites.is_composite(node):
            nodes = _expanded(lowered, node, contrib=contrib)
            lowered.graph.insert_before(node, nodes)
            rewire.take_over(lowered, node.outputs[0], nodes[-1].outputs[0])
            rewire.remove(lowered, node)
    imports = lowered.graph.opset_imports
    imports.pop(FUSED_DOMAIN, None)
    if any(node.domain == _CONTRIB_DOMAIN for node in lowered.layers()):
        imports.setdefault(_CONTRIB_DOMAIN, 1)
    return lowered.model


def _expanded(network: Network, node: ir.Node, *, contrib: bool) -> list[ir.Node]:
    if composites.is_composite(node):
        return composites.expand(network, node)
    return (_contrib(node) if contrib else None) or expansion.expand(network, node)


def _is_contrib(node: ir.Node) -> bool:
    _, _, bias, residual = fused.padded_inputs(node)
    epilogue = fused.epilogue_of(node)
    if node.outputs[0].dtype is not ir.DataType.FLOAT or epilogue.gated or epilogue.tail:
        return False
    if fused.pair_of(node) is not None or fused.pool_of(node) is not None:
        return False
    match fused.BASE_OF[node.op_type]:
        case "Conv":
            return epilogue.activation in _CONV_ACTIVATIONS
        case "Gemm":
            return epilogue.activation in _GEMM_ACTIVATIONS and residual is None and bias is not None
        case _:
            return False


def _contrib(node: ir.Node) -> list[ir.Node] | None:
    if not _is_contrib(node):
        return None
    epilogue, attributes = fused.epilogue_of(node), fused.base_attributes(node)
    if epilogue.activation:
        attributes.append(ir.AttrString("activation", epilogue.activation))
    if node.op_type == "FusedConv":
        parameters = _parameters(epilogue, _CONV_ACTIVATIONS)
        if parameters:
            attributes.append(ir.AttrFloat32s("activation_params", list(parameters.values())))
    else:
        parameters = _parameters(epilogue, _GEMM_ACTIVATIONS)
        attributes += [ir.AttrFloat32(f"activation_{name}", value) for name, value in parameters.items()]
    made = node.outputs[0]
    output = ir.Value(name=None, shape=made.shape, type=made.type)
    return [ir.Node(_CONTRIB_DOMAIN, node.op_type, list(node.inputs), attributes, name=node.name, outputs=[output])]


def _parameters(epilogue: Epilogue, known: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    defaults = known[epilogue.activation]
    return {name: float(epilogue.parameters.get(name, default)) for name, default in defaults.items()}
