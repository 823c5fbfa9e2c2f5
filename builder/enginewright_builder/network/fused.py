"""Our fused layers around a convolution or matrix product: what they mean, and how they expand back into operators.

`enginewright.FusedConv(x, w, bias?, residual?, x2?, w2?)`, and FusedConvTranspose, FusedGemm and FusedMatMul alike, is

    y = base(x, w, bias) + residual                      base: Conv, ConvTranspose, Gemm or MatMul, its own attributes
    y = scale * (x w) + bias + residual                  where MatMul, which has no alpha of its own, has a scale
    y = y + conv(x2, w2)                                 only where there is a pair (`Pair`): a second, 1x1 convolution
    y = activation(y), or y * activation(y) if gated     (SiLU is a gated Sigmoid)
    y = maxpool(y)                                       only where there is a pool (`Pool`)

in the model's own opset. MatMul has no bias of its own: there it is a further Add. All is computed in the type of the
weights: x is cast to it where it has another (the stem reads a picture as it is given), and the result from it (a
classifier gives float32). The attributes that begin with "epilogue_" are ours, all others the base's. A fused layer
keeps the names of those it was made of, for reports and so that expanding gives the names back.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from enginewright_builder.network.gelu import gelu
from enginewright_builder.network.network import FUSED_DOMAIN, Network

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
_PAIR, _POOL = "epilogue_pair_", "epilogue_pool_"

Parameters = Mapping[str, float | str]
Inputs = tuple[ir.Value | None, ir.Value | None, ir.Value | None, ir.Value | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Epilogue:
    """What follows the base: `activation` is an ONNX operator or "", `parameters` its attributes (Clip: min, max;
    Gelu: approximate, "none" or "tanh"), `scale` a factor of a MatMul."""

    activation: str = ""
    parameters: Parameters = field(default_factory=dict)
    gated: bool = False
    scale: float = 1.0


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
    """Leave the base, bias and residual of a fused layer, and no activation."""
    for name in list(node.attributes):
        if name in (_ACTIVATION, _GATED) or name.startswith(_PARAMETER):
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
    return Epilogue(activation=activation, parameters=parameters, gated=gated, scale=scale)


def pair_of(node: ir.Node) -> Pair | None:
    """The second convolution of a fused layer."""
    strides = node.attributes.get_ints(_PAIR + "strides", None)
    pads = node.attributes.get_ints(_PAIR + "pads", None)
    return Pair(strides=tuple(strides), pads=tuple(pads)) if strides and pads else None


def pool_of(node: ir.Node) -> Pool | None:
    """The max pool at the end of a fused layer."""
    kernel, strides, pads = (node.attributes.get_ints(_POOL + name, None) for name in ("kernel", "strides", "pads"))
    return Pool(kernel=tuple(kernel), strides=tuple(strides), pads=tuple(pads)) if kernel and strides and pads else None


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


def expand(network: Network, node: ir.Node) -> list[ir.Node]:
    """The layers that a fused one stands for; the last one's output stands for the fused layer's."""
    return list(_Expansion(network, node).run())


class _Expansion:
    """One run. Each layer is named after the part that it stands for, as long as there are names."""

    def __init__(self, network: Network, node: ir.Node) -> None:
        self.network, self.node = network, node
        self.names = iter(layers_of(node))
        self.end: ir.Value | None = None
        weights = node.inputs[1]
        self.type = weights.type if weights is not None and weights.type is not None else node.outputs[0].type

    def run(self) -> Iterator[ir.Node]:
        x, weights, bias, residual = padded_inputs(self.node)
        base = BASE_OF[self.node.op_type]
        if x is not None and _differ(x, self.type):
            yield self._cast(x, self.type)
            x = self.end
        first = self._pair() if pair_of(self.node) else None
        if first is not None:
            yield first
        beside = self.end if first is not None else residual
        given = [x, weights] if bias is None or base == "MatMul" else [x, weights, bias]
        yield self._make(base, given, base_attributes(self.node))
        yield from self._scaled()
        if bias is not None and base == "MatMul":
            yield self._make("Add", [self.end, bias])
        if beside is not None:
            yield self._make("Add", [self.end, beside])
        yield from self._activate()
        if (pool := pool_of(self.node)) is not None:
            attributes = [
                ir.AttrInt64s("kernel_shape", pool.kernel),
                ir.AttrInt64s("strides", pool.strides),
                ir.AttrInt64s("pads", pool.pads),
            ]
            yield self._make("MaxPool", [self.end], attributes)
        result = self.node.outputs[0]
        if self.end is not None and _differ(self.end, result.type):
            yield self._cast(self.end, result.type)

    def _cast(self, value: ir.Value, to: ir.TypeProtocol | None) -> ir.Node:
        """A Cast that none of the names is for."""
        assert to is not None, f"{value.name} is cast to a type that is known"
        output = self.network.add_output(self.node.outputs[0], "Cast")
        output.type, output.shape, self.end = to, value.shape, output
        return ir.Node("", "Cast", [value], [ir.AttrInt64("to", to.dtype.value)], name=f"Cast:{output.name}",
                       outputs=[output])  # fmt: skip

    def _pair(self) -> ir.Node:
        pair, (x, weights) = pair_of(self.node), pair_inputs(self.node)
        assert pair is not None, f"{self.node.name} has a pair"
        attributes = [ir.AttrInt64s("strides", pair.strides), ir.AttrInt64s("pads", pair.pads)]
        return self._make("Conv", [x, weights], attributes)

    def _scaled(self) -> Iterator[ir.Node]:
        scale, before = epilogue_of(self.node).scale, self.end
        if scale != 1.0 and before is not None and before.dtype is not None:
            factor = self.network.add_constant(f"{before.name}_scale", np.array(scale, before.dtype.numpy()))
            yield self._make("Mul", [before, factor])

    def _activate(self) -> Iterator[ir.Node]:
        epilogue, before = epilogue_of(self.node), self.end
        assert before is not None, "the base comes first"
        if epilogue.activation == "Gelu":
            tanh = epilogue.parameters.get("approximate") == "tanh"
            nodes = gelu(self.network, self.node, before, next(self.names, "Gelu"), tanh=tanh)
            self.end = nodes[-1].outputs[0]
            yield from nodes
            return
        if epilogue.activation:
            inputs, attributes = _activation_arguments(self.network, before, epilogue)
            yield self._make(epilogue.activation, inputs, attributes)
            if epilogue.gated:
                yield self._make("Mul", [before, self.end])

    def _make(self, operator: str, inputs: Sequence[ir.Value | None], attributes: Sequence[ir.Attr] = ()) -> ir.Node:
        output = self.network.add_output(self.node.outputs[0], operator)
        output.type = self.type
        if pool_of(self.node) is not None:
            output.shape = None  # not the layer's own shape; whoever needs it infers it
        self.end = output
        name = next(self.names, f"{operator}:{output.name}")
        return ir.Node("", operator, inputs, attributes, name=name, outputs=[output])


def _differ(value: ir.Value, other: ir.TypeProtocol | None) -> bool:
    """Whether a value certainly has another type."""
    return value.type is not None and other is not None and value.dtype is not other.dtype


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
    for name, value in epilogue.parameters.items():
        key = _PARAMETER + name
        attributes.append(ir.AttrString(key, value) if isinstance(value, str) else ir.AttrFloat32(key, value))
    return attributes


def _activation_arguments(
    network: Network, before: ir.Value, epilogue: Epilogue
) -> tuple[list[ir.Value | None], list[ir.Attr]]:
    numbers = {name: float(value) for name, value in epilogue.parameters.items()}
    if epilogue.activation == "Clip" and network.opset >= 11:  # bounds became inputs, of the tensor's own type
        assert before.dtype is not None, f"the type of {before.name} was known when it was fused"
        dtype = before.dtype.numpy()
        bounds = [numbers.get(name) for name in ("min", "max")]
        inputs = [
            None if b is None else network.add_constant(f"{before.name}_bound", np.array(b, dtype)) for b in bounds
        ]
        return [before, *inputs], []
    return [before], [ir.AttrFloat32(name, value) for name, value in numbers.items()]
