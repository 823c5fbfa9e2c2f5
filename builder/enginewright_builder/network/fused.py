"""Our fused layers around a convolution or matrix product: what they mean (network/expansion.py says it in operators).

`enginewright.FusedConv(x, w, bias?, residual?, x2?, w2?)`, and FusedConvTranspose, FusedGemm and FusedMatMul alike, is

    y = base(x, w, bias) + residual                      base: Conv, ConvTranspose, Gemm or MatMul, its own attributes
    y = scale * (x w) + bias + residual                  where MatMul, which has no alpha of its own, has a scale
    y = y + conv(x2, w2)                                 only where there is a pair (`Pair`): a second, 1x1 convolution
    y = activation(y), or y * activation(y) if gated     (SiLU is a gated Sigmoid)
    y = tail(y, residual)                                only where there is a tail (tail.py); one that reads the
                                                         residual has it alone: it is not added above
    y = maxpool(y)                                       only where there is a pool (`Pool`)
    y = concat(high, y - high), high = y rounded         only where the result is in halves: twice the channels

in the model's own opset. MatMul has no bias of its own: there it is a further Add. All is computed in the type of the
weights: x is cast to it where it has another (the stem reads a picture as it is given), and the result from it (a
classifier gives float32). The attributes that begin with "epilogue_" are ours, all others the base's. A fused layer
keeps the names of those it was made of, for reports and so that expanding gives the names back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from enginewright_builder.network import tail as tails
from enginewright_builder.network.network import FUSED_DOMAIN, static_shape
from enginewright_builder.network.tail import Tail

BASES: Mapping[str, str] = {
    "Conv": "FusedConv",
    "ConvTranspose": "FusedConvTranspose",
    "Gemm": "FusedGemm",
    "MatMul": "FusedMatMul",
}
BASE_OF: Mapping[str, str] = {fused: base for base, fused in BASES.items()}
VERSION = 1

LAYERS = "enginewright.layers"  # the metadata that keeps the names of the parts
_ACTIVATION, _GATED, _SCALE = "epilogue_activation", "epilogue_gated", "epilogue_scale"
_PARAMETER = "epilogue_parameter_"
_PAIR, _POOL, _TAIL = "epilogue_pair_", "epilogue_pool_", "epilogue_tail"
_HALVES = "epilogue_halves"

Parameters = Mapping[str, float | str]
Inputs = tuple[ir.Value | None, ir.Value | None, ir.Value | None, ir.Value | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Epilogue:
    """What follows the base: `activation` is an ONNX operator or "", `parameters` its attributes (Clip: min, max;
    Gelu: approximate, "none" or "tanh"), `scale` a factor of a MatMul, `tail` what stands behind the activation."""

    activation: str = ""
    parameters: Parameters = field(default_factory=dict)
    gated: bool = False
    scale: float = 1.0
    tail: Tail = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A second convolution, added: inputs 4 and 5 of the layer, and its window. Its bias is in the layer's own."""

    strides: tuple[int, ...]
    pads: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A max pool at the very end; `pads` has all beginnings, then all ends."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]


def is_fused(node: ir.Node) -> bool:
    """Whether a layer is one of these."""
    return node.domain == FUSED_DOMAIN and node.op_type in BASE_OF


def drop_activation(node: ir.Node) -> None:
    """Leave the sum of a fused layer: base, bias and the residual that is added to them; no activation, no tail."""
    if tails.reads_residual(epilogue_of(node).tail):
        node.replace_input_with(3, None)
    for name in list(node.attributes):
        if name in (_ACTIVATION, _GATED, _TAIL) or name.startswith(_PARAMETER):
            del node.attributes[name]


def layers_of(node: ir.Node) -> tuple[str, ...]:
    """The names of the layers that a layer was made of; its own where it is not fused."""
    text = node.metadata_props.get(LAYERS)
    return tuple(text.split("\n")) if text else (node.name or "",)


def epilogue_of(node: ir.Node) -> Epilogue:
    """What follows the base of a fused layer."""
    parameters = {
        name.removeprefix(_PARAMETER): attribute.value
        for name, attribute in node.attributes.items()
        if name.startswith(_PARAMETER)
    }
    activation = node.attributes.get_string(_ACTIVATION, "") or ""
    gated, scale = bool(node.attributes.get_int(_GATED, 0)), node.attributes.get_float(_SCALE, 1.0)
    tail = tails.parsed(tuple(node.attributes.get_strings(_TAIL, ()) or ()))
    return Epilogue(activation=activation, parameters=parameters, gated=gated, scale=scale, tail=tail)


def pair_of(node: ir.Node) -> Pair | None:
    """The second convolution of a fused layer."""
    strides = node.attributes.get_ints(_PAIR + "strides", None)
    pads = node.attributes.get_ints(_PAIR + "pads", None)
    return Pair(strides=tuple(strides), pads=tuple(pads)) if strides and pads else None


def pool_of(node: ir.Node) -> Pool | None:
    """The max pool at the end of a fused layer."""
    kernel, strides, pads = (node.attributes.get_ints(_POOL + name, None) for name in ("kernel", "strides", "pads"))
    return Pool(kernel=tuple(kernel), strides=tuple(strides), pads=tuple(pads)) if kernel and strides and pads else None


def in_halves(node: ir.Node) -> bool:
    """Whether a fused layer gives its result rounded, then what that lost, as twice the channels."""
    return bool(node.attributes.get_int(_HALVES, 0))


def give_halves(node: ir.Node) -> None:
    """Let a fused layer of pictures, whose shape is known and whose result is of a half type, give it so."""
    images, channels, *pixels = static_shape(node.outputs[0]) or ()
    node.attributes[_HALVES] = ir.AttrInt64(_HALVES, 1)
    node.outputs[0].shape = ir.Shape((images, 2 * channels, *pixels))


def base_attributes(node: ir.Node) -> list[ir.Attr]:
    """The attributes that are the base's."""
    return [attribute for name, attribute in node.attributes.items() if not name.startswith("epilogue_")]


def padded_inputs(node: ir.Node) -> Inputs:
    """x, weights, bias and residual of a fused layer, None where it has none."""
    x, weights, bias, residual = [*node.inputs, None, None][:4]
    return x, weights, bias, residual


def pair_inputs(node: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    """x and weights of the second convolution, None where there is none."""
    x, weights = [*node.inputs, *[None] * 6][4:6]
    return x, weights


def fuse(base: ir.Node, others: Sequence[ir.Node], *, bias: ir.Value | None, residual: ir.Value | None,
         epilogue: Epilogue) -> ir.Node:  # fmt: skip
    """A fused layer in the place of `base` and what follows it; not yet in a graph."""
    attributes = [*base.attributes.values(), *_epilogue_attributes(epilogue)]
    inputs = [base.inputs[0], base.inputs[1], bias, residual]
    return _node(BASES[base.op_type], inputs, attributes, (base, *others))


def with_tail(node: ir.Node, others: Sequence[ir.Node], residual: ir.Value | None, tail: Tail) -> ir.Node:
    """A base or fused layer without a tail, and with one, in the place of it and `others`; not yet in a graph."""
    if not is_fused(node):
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        return fuse(node, others, bias=bias, residual=residual, epilogue=Epilogue(tail=tail))
    inputs = list(padded_inputs(node)) if residual is None else [*padded_inputs(node)[:3], residual]
    attributes = [*node.attributes.values(), ir.AttrStrings(_TAIL, tails.texts(tail))]
    return _node(node.op_type, inputs, attributes, (node, *others))


def with_pair(main: ir.Node, second: ir.Node, bias: ir.Value | None, pair: Pair, *, epilogue: Epilogue,
              names: Sequence[ir.Node]) -> ir.Node:  # fmt: skip
    """The convolutions `main` and `second` as one layer, in the place of `names`; not yet in a graph."""
    attributes = [
        *base_attributes(main),
        *_epilogue_attributes(epilogue),
        ir.AttrInt64s(_PAIR + "strides", pair.strides),
        ir.AttrInt64s(_PAIR + "pads", pair.pads),
    ]
    inputs = [main.inputs[0], main.inputs[1], bias, None, second.inputs[0], second.inputs[1]]
    return _node("FusedConv", inputs, attributes, names)


def with_pool(node: ir.Node, pool: ir.Node, window: Pool) -> ir.Node:
    """The FusedConv or Conv `node` with a max pool after it; not yet in a graph."""
    attributes = [
        *node.attributes.values(),
        ir.AttrInt64s(_POOL + "kernel", window.kernel),
        ir.AttrInt64s(_POOL + "strides", window.strides),
        ir.AttrInt64s(_POOL + "pads", window.pads),
    ]
    return _node("FusedConv", list(node.inputs), attributes, (node, pool))


def _node(operator: str, inputs: list[ir.Value | None], attributes: list[ir.Attr], parts: Sequence[ir.Node]) -> ir.Node:
    while inputs[-1] is None:
        inputs.pop()
    names = [name for part in parts for name in layers_of(part)]
    metadata = {LAYERS: "\n".join(names)}
    return ir.Node(FUSED_DOMAIN, operator, inputs, attributes, name="+".join(names), metadata_props=metadata)


def _epilogue_attributes(epilogue: Epilogue) -> list[ir.Attr]:
    attributes = []
    if epilogue.activation:
        attributes.append(ir.AttrString(_ACTIVATION, epilogue.activation))
    if epilogue.gated:
        attributes.append(ir.AttrInt64(_GATED, 1))
    if epilogue.scale != 1.0:
        attributes.append(ir.AttrFloat32(_SCALE, epilogue.scale))
    if epilogue.tail:
        attributes.append(ir.AttrStrings(_TAIL, tails.texts(epilogue.tail)))
    for name, value in epilogue.parameters.items():
        key = _PARAMETER + name
        attributes.append(ir.AttrString(key, value) if isinstance(value, str) else ir.AttrFloat32(key, value))
    return attributes
