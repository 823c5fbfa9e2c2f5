"""How a fused layer (network/fused.py) expands back into operators: what it means, to the letter."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from enginewright_builder.network import fused
from enginewright_builder.network import tail as tails
from enginewright_builder.network.gelu import gelu
from enginewright_builder.network.network import Network
from enginewright_builder.network.tail import Parameters, Step, Tail


def expand(network: Network, node: ir.Node) -> list[ir.Node]:
    """The layers that a fused one stands for; the last one's output stands for the fused layer's."""
    return list(_Expansion(network, node).run())


class _Expansion:
    """One run. Each layer is named after the part that it stands for, as long as there are names."""

    def __init__(self, network: Network, node: ir.Node) -> None:
        self.network, self.node = network, node
        self.names = iter(fused.layers_of(node))
        self.end: ir.Value | None = None
        weights = node.inputs[1]
        self.type = weights.type if weights is not None and weights.type is not None else node.outputs[0].type

    def run(self) -> Iterator[ir.Node]:
        x, weights, bias, residual = fused.padded_inputs(self.node)
        base = fused.BASE_OF[self.node.op_type]
        if x is not None and _differ(x, self.type):
            yield self._cast(x, self.type)
            x = self.end
        first = self._pair() if fused.pair_of(self.node) else None
        if first is not None:
            yield first
        beside = self.end if first is not None else residual
        given = [x, weights] if bias is None or base == "MatMul" else [x, weights, bias]
        yield self._make(base, given, fused.base_attributes(self.node))
        yield from self._scaled()
        if bias is not None and base == "MatMul":
            yield self._make("Add", [self.end, bias])
        tail = fused.epilogue_of(self.node).tail
        if beside is not None and not tails.reads_residual(tail):
            yield self._make("Add", [self.end, beside])
        yield from self._activate()
        yield from self._behind(tail, residual)
        if (pool := fused.pool_of(self.node)) is not None:
            attributes = [
                ir.AttrInt64s("kernel_shape", pool.kernel),
                ir.AttrInt64s("strides", pool.strides),
                ir.AttrInt64s("pads", pool.pads),
            ]
            yield self._make("MaxPool", [self.end], attributes)
        result = self.node.outputs[0]
        if fused.in_halves(self.node):
            yield from self._halves(result)
        elif self.end is not None and _differ(self.end, result.type):
            yield self._cast(self.end, result.type)

    def _halves(self, result: ir.Value) -> Iterator[ir.Node]:
        whole = self.end
        yield self._cast(whole, result.type)
        high = self.end
        yield self._cast(high, self.type)
        yield self._make("Sub", [whole, self.end])
        yield self._cast(self.end, result.type)
        yield self._make("Concat", [high, self.end], [ir.AttrInt64("axis", 1)], result.type)

    def _cast(self, value: ir.Value | None, to: ir.TypeProtocol | None) -> ir.Node:
        """A Cast that none of the names is for."""
        assert value is not None, "what is cast was made before"
        assert to is not None, f"{value.name} is cast to a type that is known"
        output = self.network.add_output(self.node.outputs[0], "Cast")
        output.type, output.shape, self.end = to, value.shape, output
        return ir.Node("", "Cast", [value], [ir.AttrInt64("to", to.dtype.value)], name=f"Cast:{output.name}",
                       outputs=[output])  # fmt: skip

    def _pair(self) -> ir.Node:
        pair, (x, weights) = fused.pair_of(self.node), fused.pair_inputs(self.node)
        assert pair is not None, f"{self.node.name} has a pair"
        attributes = [ir.AttrInt64s("strides", pair.strides), ir.AttrInt64s("pads", pair.pads)]
        return self._make("Conv", [x, weights], attributes)

    def _scaled(self) -> Iterator[ir.Node]:
        scale, before = fused.epilogue_of(self.node).scale, self.end
        if scale != 1.0 and before is not None and before.dtype is not None:
            factor = self.network.add_constant(f"{before.name}_scale", np.array(scale, before.dtype.numpy()))
            yield self._make("Mul", [before, factor])

    def _activate(self) -> Iterator[ir.Node]:
        epilogue, before = fused.epilogue_of(self.node), self.end
        assert before is not None, "the base comes first"
        if epilogue.activation == "Gelu":
            yield from self._gelu(before, epilogue.parameters)
            return
        if epilogue.activation:
            inputs, attributes = _arguments(self.network, before, epilogue.activation, epilogue.parameters)
            yield self._make(epilogue.activation, inputs, attributes)
            if epilogue.gated:
                yield self._make("Mul", [before, self.end])

    def _behind(self, tail: Tail, residual: ir.Value | None) -> Iterator[ir.Node]:
        """The tail's steps, in float32 whatever is around them."""
        if not tail:
            return
        known = {tails.SUM: self.end, tails.RESIDUAL: residual}
        wide = ir.TensorType(ir.DataType.FLOAT)
        for name, value in known.items():
            if value is not None and _differ(value, wide) and any(name in step.operands for step in tail):
                yield self._cast(value, wide)
                known[name] = self.end
        self.type = wide
        for number, step in enumerate(tail):
            yield from self._step(step, known)
            known[tails.result(number)] = self.end

    def _step(self, step: Step, known: Mapping[str, ir.Value | None]) -> Iterator[ir.Node]:
        given = [known[each] if isinstance(each, str) else self._number(each) for each in step.operands]
        first = given[0]
        assert first is not None, "what a step reads is made before it"
        if step.operator == "Gelu":
            yield from self._gelu(first, step.parameters)
            return
        inputs, attributes = _arguments(self.network, first, step.operator, step.parameters)
        yield self._make(step.operator, [*given, *inputs[1:]], attributes)

    def _number(self, value: float) -> ir.Value:
        return self.network.add_constant(f"{self.node.outputs[0].name}_tail", np.array(value, np.float32))

    def _gelu(self, x: ir.Value, parameters: Parameters) -> Iterator[ir.Node]:
        tanh = parameters.get("approximate") == "tanh"
        nodes = gelu(self.network, self.node, x, next(self.names, "Gelu"), tanh=tanh)
        for node in nodes:
            node.outputs[0].type = self.type
        self.end = nodes[-1].outputs[0]
        yield from nodes

    def _make(
        self, operator: str, inputs: Sequence[ir.Value | None], attributes: Sequence[ir.Attr] = (),
        dtype: ir.TypeProtocol | None = None,
    ) -> ir.Node:  # fmt: skip
        output = self.network.add_output(self.node.outputs[0], operator)
        output.type = dtype or self.type
        if fused.pool_of(self.node) is not None or fused.in_halves(self.node):
            output.shape = None  # not the layer's own shape; whoever needs it infers it
        self.end = output
        name = next(self.names, f"{operator}:{output.name}")
        return ir.Node("", operator, inputs, attributes, name=name, outputs=[output])


def _differ(value: ir.Value, other: ir.TypeProtocol | None) -> bool:
    """Whether a value certainly has another type."""
    return value.type is not None and other is not None and value.dtype is not other.dtype


def _arguments(
    network: Network, before: ir.Value, operator: str, parameters: Parameters
) -> tuple[list[ir.Value | None], list[ir.Attr]]:
    numbers = {name: float(value) for name, value in parameters.items()}
    if operator == "Clip" and network.opset >= 11:  # bounds became inputs, of the tensor's own type
        assert before.dtype is not None, f"the type of {before.name} was known when it was fused"
        dtype = before.dtype.numpy()
        bounds = [numbers.get(name) for name in ("min", "max")]
        inputs = [
            None if b is None else network.add_constant(f"{before.name}_bound", np.array(b, dtype)) for b in bounds
        ]
        return [before, *inputs], []
    return [before], [ir.AttrFloat32(name, value) for name, value in numbers.items()]
