"""A sketch as a graph of NVIDIA's package `cudnn`, described to the library: a call for each thing that it says."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from enginewright_builder.network.tail import RESIDUAL, SUM, Step, reads_residual, result
from enginewright_builder.tactics.cudnn_graph import GraphSketch, GraphTensor
from enginewright_runtime.engine.cuda import steps
from enginewright_runtime.engine.cuda.cudnn import CudnnLibrary, frontend

_TYPES = {"float16": "HALF", "bfloat16": "BFLOAT16", "float32": "FLOAT", "float64": "DOUBLE"}


def _library() -> CudnnLibrary:
    """The one that also runs what is built here."""
    library = steps.library("cudnn")
    assert isinstance(library, CudnnLibrary), "the runtime's table says so"
    return library


def described(drawn: GraphSketch) -> Any:
    """The sketch as the frontend's graph, described to the library."""
    cudnn = frontend()
    kinds = cudnn.data_type
    graph = cudnn.pygraph(
        io_data_type=getattr(kinds, _TYPES[drawn.first.dtype]),
        intermediate_data_type=kinds.FLOAT,
        compute_data_type=kinds.FLOAT,
        handle=_library().handle(0),
    )

    def tensor(each: GraphTensor) -> Any:
        return graph.tensor(
            name=f"t{each.uid}",
            dim=list(each.dims),
            stride=list(each.strides),
            data_type=getattr(kinds, _TYPES[each.dtype]),
            uid=each.uid,
        )

    first, second = tensor(drawn.first), tensor(drawn.second)
    if drawn.operation == "sdpa":
        assert drawn.third is not None, "attention has values"
        bias = None if drawn.bias is None else tensor(drawn.bias)
        value, _ = graph.sdpa(
            q=first,
            k=second,
            v=tensor(drawn.third),
            is_inference=True,
            attn_scale=as_float32(drawn.alpha),
            bias=bias,
            use_causal_mask=drawn.causal,
        )
    else:
        value = _behind(graph, drawn, _base(graph, drawn, first, second), tensor)
    output = drawn.output
    value.set_output(True).set_data_type(getattr(kinds, _TYPES[output.dtype]))
    value.set_dim(list(output.dims)).set_stride(list(output.strides)).set_uid(output.uid)
    graph.validate()
    graph.build_operation_graph()
    return graph


def _base(graph: Any, drawn: GraphSketch, first: Any, second: Any) -> Any:
    window = {name: list(values) for name, values in drawn.window.items()}
    match drawn.operation:
        case "conv_fprop":
            return graph.conv_fprop(image=first, weight=second, **window)
        case "conv_dgrad":
            value = graph.conv_dgrad(loss=first, filter=second, **window)
            return value.set_dim(list(drawn.output.dims))  # a stride leaves several possible
        case _:
            value = graph.matmul(A=first, B=second)
            return value if drawn.alpha == 1.0 else graph.mul(a=value, b=_number(graph, drawn.alpha))


def _behind(graph: Any, drawn: GraphSketch, value: Any, tensor: Callable[[GraphTensor], Any]) -> Any:
    apart = None
    if drawn.residual is not None and reads_residual(drawn.tail):
        apart = tensor(drawn.residual)
    for added in (drawn.bias, None if apart is not None else drawn.residual):
        if added is not None:
            value = graph.add(a=value, b=tensor(added))
    known = {SUM: _activated(graph, drawn, value), RESIDUAL: apart}
    made = known[SUM]
    for number, step in enumerate(drawn.tail):
        operands = [known[each] if isinstance(each, str) else each for each in step.operands]
        made = known[result(number)] = _stepped(graph, step, operands)
    return made


def _stepped(graph: Any, step: Step, operands: list[Any]) -> Any:
    """One step of a tail. A number before a tensor goes behind it: a graph's shapes are those of the first operand."""
    first, *others = operands
    if step.operator in ACTIVATE:
        return ACTIVATE[step.operator](graph, first, step.parameters)
    if not others:
        return getattr(graph, UNARY[step.operator])(input=first)
    second = others[0]
    if isinstance(first, float):
        match step.operator:
            case "Sub":
                turned = graph.neg(input=second)
                return graph.add(a=turned, b=_number(graph, first))
            case "Div":
                turned = graph.reciprocal(input=second)
                return graph.mul(a=turned, b=_number(graph, first))
            case _:
                first, second = second, first
    if isinstance(second, float):
        second = _number(graph, second)
    names = ("a", "b") if step.operator in _SUMS else ("input0", "input1")
    return getattr(graph, step.operator.lower())(**dict(zip(names, (first, second), strict=True)))


def _activated(graph: Any, drawn: GraphSketch, value: Any) -> Any:
    if not drawn.activation:
        return value
    if drawn.gated and drawn.activation == "Sigmoid":
        return graph.swish(input=value)
    activated = ACTIVATE[drawn.activation](graph, value, drawn.parameters)
    return graph.mul(a=value, b=activated) if drawn.gated else activated


def _number(graph: Any, value: float) -> Any:
    return graph.tensor_scalar(as_float32(value), frontend().scalar_type.RUNTIME_PARAM)


def as_float32(value: float) -> float:
    """The nearest number that float32 has: any other one becomes a float64 in the frontend, which kernels misread."""
    return float(np.float32(value))


_Parameters = Mapping[str, Any]


def _clip(graph: Any, value: Any, parameters: _Parameters) -> Any:
    """By max and min, which more engines take than relu with bounds."""
    low, high = parameters.get("min"), parameters.get("max")
    if low is not None:
        value = graph.max(input0=value, input1=_number(graph, low))
    return value if high is None else graph.min(input0=value, input1=_number(graph, high))


def _hard_sigmoid(graph: Any, value: Any, parameters: _Parameters) -> Any:
    scaled = graph.mul(a=value, b=_number(graph, parameters.get("alpha", 0.2)))
    moved = graph.add(a=scaled, b=_number(graph, parameters.get("beta", 0.5)))
    return _clip(graph, moved, {"min": 0.0, "max": 1.0})


def _hard_swish(graph: Any, value: Any, _parameters: _Parameters) -> Any:
    return graph.mul(a=value, b=_hard_sigmoid(graph, value, {"alpha": 1 / 6, "beta": 0.5}))


def _gelu(graph: Any, value: Any, parameters: _Parameters) -> Any:
    return graph.gelu_approx_tanh(input=value) if parameters.get("approximate") == "tanh" else graph.gelu(input=value)


ACTIVATE: Mapping[str, Callable[[Any, Any, _Parameters], Any]] = {
    "Relu": lambda graph, value, _: graph.relu(input=value),
    "LeakyRelu": lambda graph, value, given: graph.leaky_relu(input=value, negative_slope=given.get("alpha", 0.01)),
    "Sigmoid": lambda graph, value, _: graph.sigmoid(input=value),
    "Tanh": lambda graph, value, _: graph.tanh(input=value),
    "Elu": lambda graph, value, _: graph.elu(input=value),
    "Softplus": lambda graph, value, _: graph.softplus(input=value),
    "Mish": lambda graph, value, _: graph.mul(a=value, b=graph.tanh(input=graph.softplus(input=value))),
    "Clip": _clip,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
}
_SUMS = ("Add", "Div", "Mul", "Sub")  # whose operands are a and b; all others' are input0 and input1
UNARY: Mapping[str, str] = {
    name: name.lower() for name in ("Abs", "Cos", "Erf", "Exp", "Log", "Neg", "Reciprocal", "Sin", "Sqrt")
}
BINARY = frozenset({*_SUMS, "Max", "Min", "Pow"})
