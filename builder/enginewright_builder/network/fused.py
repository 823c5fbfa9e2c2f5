"""Our fused layers: what they mean, and how they expand back into the operators they were made of.

`enginewright.FusedConv(x, w, bias?, residual?)`, and FusedGemm and FusedMatMul alike, is

    y = base(x, w, bias) + residual                      base: Conv, Gemm or MatMul with its own attributes
    y = activation(y), or y * activation(y) if gated     (SiLU is a gated Sigmoid)

in the model's own opset. MatMul has no bias of its own: there it is a further Add. The attributes that begin with
"epilogue_" are ours, all others the base's. A fused layer keeps the names of those it was made of, for reports and so
that expanding gives the names back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from enginewright_builder.network.network import FUSED_DOMAIN, Network

BASES: Mapping[str, str] = {"Conv": "FusedConv", "Gemm": "FusedGemm", "MatMul": "FusedMatMul"}
BASE_OF: Mapping[str, str] = {fused: base for base, fused in BASES.items()}
VERSION = 1

_LAYERS = "enginewright.layers"
_ACTIVATION, _GATED = "epilogue_activation", "epilogue_gated"
_PARAMETER = "epilogue_parameter_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Epilogue:
    """What follows the base: `activation` is an ONNX operator or "", `parameters` its attributes (Clip: min, max)."""

    activation: str = ""
    parameters: Mapping[str, float] = field(default_factory=dict)
    gated: bool = False


def is_fused(node: ir.Node) -> bool:
    """Whether a layer is one of ours."""
    return node.domain == FUSED_DOMAIN and node.op_type in BASE_OF


def layers_of(node: ir.Node) -> tuple[str, ...]:
    """The names of the layers that a layer was made of; its own where it is not fused."""
    text = node.metadata_props.get(_LAYERS)
    return tuple(text.split("\n")) if text else (node.name or "",)


def epilogue_of(node: ir.Node) -> Epilogue:
    """What follows the base of a fused layer."""
    parameters = {
        name.removeprefix(_PARAMETER): attribute.as_float()
        for name, attribute in node.attributes.items()
        if name.startswith(_PARAMETER)
    }
    activation = node.attributes.get_string(_ACTIVATION, "") or ""
    return Epilogue(activation=activation, parameters=parameters, gated=bool(node.attributes.get_int(_GATED, 0)))


def base_attributes(node: ir.Node) -> list[ir.Attr]:
    """The attributes that are the base's."""
    return [attribute for name, attribute in node.attributes.items() if not name.startswith("epilogue_")]


def fuse(base: ir.Node, others: list[ir.Node], *, bias: ir.Value | None, residual: ir.Value | None, epilogue: Epilogue
         ) -> ir.Node:  # fmt: skip
    """A fused layer in the place of `base` and what follows it; not yet in a graph."""
    inputs = [base.inputs[0], base.inputs[1], bias, residual]
    while inputs[-1] is None:
        inputs.pop()
    attributes = list(base.attributes.values())
    if epilogue.activation:
        attributes.append(ir.AttrString(_ACTIVATION, epilogue.activation))
    if epilogue.gated:
        attributes.append(ir.AttrInt64(_GATED, 1))
    attributes += [ir.AttrFloat32(_PARAMETER + name, value) for name, value in epilogue.parameters.items()]
    names = [name for node in (base, *others) for name in layers_of(node)]
    return ir.Node(
        FUSED_DOMAIN,
        BASES[base.op_type],
        inputs,
        attributes,
        name="+".join(names),
        metadata_props={_LAYERS: "\n".join(names)},
    )


def expand(network: Network, node: ir.Node) -> list[ir.Node]:
    """The layers that a fused one stands for; the last one's output stands for the fused layer's."""
    base_name, (x, weights, bias, residual) = BASE_OF[node.op_type], padded_inputs(node)
    names = iter(layers_of(node))
    base_inputs = [x, weights] if bias is None or base_name == "MatMul" else [x, weights, bias]
    nodes = [_like(network, node, next(names), base_name, base_inputs, base_attributes(node))]
    if bias is not None and base_name == "MatMul":
        nodes.append(_like(network, node, next(names), "Add", [nodes[-1].outputs[0], bias]))
    if residual is not None:
        nodes.append(_like(network, node, next(names), "Add", [nodes[-1].outputs[0], residual]))
    epilogue = epilogue_of(node)
    if epilogue.activation:
        before = nodes[-1].outputs[0]
        inputs, attributes = _activation_arguments(network, before, epilogue)
        nodes.append(_like(network, node, next(names), epilogue.activation, inputs, attributes))
        if epilogue.gated:
            nodes.append(_like(network, node, next(names), "Mul", [before, nodes[-1].outputs[0]]))
    return nodes


def padded_inputs(node: ir.Node) -> tuple[ir.Value | None, ir.Value | None, ir.Value | None, ir.Value | None]:
    """x, weights, bias and residual of a fused layer, None where it has none."""
    x, weights, bias, residual = [*node.inputs, None, None][:4]
    return x, weights, bias, residual


def _activation_arguments(
    network: Network, before: ir.Value, epilogue: Epilogue
) -> tuple[list[ir.Value | None], list[ir.Attr]]:
    if epilogue.activation == "Clip" and network.opset >= 11:  # bounds became inputs, of the tensor's own type
        assert before.dtype is not None, f"the type of {before.name} was known when it was fused"
        dtype = before.dtype.numpy()
        bounds = [epilogue.parameters.get(name) for name in ("min", "max")]
        inputs = [
            None if b is None else network.add_constant(f"{before.name}_bound", np.array(b, dtype)) for b in bounds
        ]
        return [before, *inputs], []
    return [before], [ir.AttrFloat32(name, value) for name, value in epilogue.parameters.items()]


def _like(
    network: Network,
    fused: ir.Node,
    name: str,
    operator: str,
    inputs: list[ir.Value | None],
    attributes: list[ir.Attr] | None = None,
) -> ir.Node:
    output = network.add_output(fused.outputs[0], operator)
    return ir.Node("", operator, inputs, attributes or [], name=name, outputs=[output])
