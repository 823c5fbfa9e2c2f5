"""A problem as a graph of cuDNN's: which operation, over which tensors, with what behind it. Pure: no vendor package.

    convolution             conv_fprop(x, w)  + bias + residual, activation, tail
    transposed convolution  conv_dgrad(x, w)  + bias + residual, activation, tail
    product                 alpha * matmul(a, b) + bias + residual, activation, tail
    attention               softmax(scale * q k^T + mask) v, one kernel

cuDNN writes every tensor as dimensions in ONNX's order with strides in elements, so layouts, slices of wider buffers
and transposed operands are only strides. Images have two dimensions or three there: one dimension becomes two.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from enginewright_builder.device import tails
from enginewright_builder.device.implementation import Array, Constants
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, row_major
from enginewright_builder.network.tail import Tail
from enginewright_runtime.engine.cuda.program import Pointer, Space

WEIGHTS = "weights"  # the constant that holds the packed weights
_HALVES = ("float16", "bfloat16")
_DTYPES = (*_HALVES, "float32")
# What stands behind the operation, by ONNX's names; cudnn.py has a line for each.
ACTIVATIONS = frozenset(
    {"Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "Elu", "Softplus", "Gelu", "HardSigmoid", "HardSwish", "Mish"}
)
STEPS = frozenset(  # of a tail, beside these
    {"Abs", "Add", "Cos", "Div", "Erf", "Exp", "Log", "Max", "Min", "Mul", "Neg", "Pow", "Reciprocal", "Sin", "Sqrt",
     "Sub"}
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTensor:
    """A tensor of the graph that lies in memory, and where."""

    uid: int
    dtype: str
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    pointer: Pointer


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSketch:
    """What cudnn.py builds. `operation` is the frontend's method; `first`, `second` and `third` are its operands.

    `window` are its keyword arguments of lists (padding, stride, dilation); `pack` says that the weights are a constant
    that has to be packed with the channels last. `math` is "tf32" where float32 may be rounded to it.
    """

    operation: str
    first: GraphTensor
    second: GraphTensor
    output: GraphTensor
    third: GraphTensor | None = None
    bias: GraphTensor | None = None
    residual: GraphTensor | None = None
    window: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    alpha: float = 1.0
    causal: bool = False
    activation: str = ""
    parameters: Mapping[str, float | str] = field(default_factory=dict)
    gated: bool = False
    tail: Tail = ()
    math: str = ""
    pack: bool = False

    @property
    def tensors(self) -> tuple[GraphTensor, ...]:
        """All that lie in memory."""
        every = (self.first, self.second, self.third, self.bias, self.residual, self.output)
        return tuple(each for each in every if each is not None)


def sketch(problem: Problem, constant: frozenset[int]) -> GraphSketch | None:
    """The problem as one graph, or None where cuDNN has no such graph."""
    made: GraphSketch | None = None
    present = [each for each in problem.operands if each is not None]
    if any(0 in each.shape for each in present):
        return None
    match problem.kind:
        case Kind.CONVOLUTION | Kind.TRANSPOSED_CONVOLUTION:
            made = _convolution(problem, constant)
        case Kind.PRODUCT:
            made = _product(problem)
        case Kind.ATTENTION:
            made = _attention(problem)
        case _:
            return None
    if made is None or made.first.dtype not in _DTYPES or made.second.dtype != made.first.dtype:
        return None
    return made if _has(made) else None


def _has(drawn: GraphSketch) -> bool:
    """Whether cuDNN has everything that stands behind the operation."""
    steps = [(step.operator, step.parameters) for step in drawn.tail]
    given = [(drawn.activation, drawn.parameters)] if drawn.activation else []
    if any(operator not in ACTIVATIONS for operator, _ in given):
        return False
    if any(operator not in ACTIVATIONS | STEPS for operator, _ in steps):
        return False
    elus = [said for operator, said in (*given, *steps) if operator == "Elu"]
    return all(said.get("alpha", 1.0) == 1.0 for said in elus)  # cuDNN's has no other


def packed_channels_last(constants: Constants) -> Array:
    """Weights (k, c, spatial...) as k, spatial..., c in memory: what cuDNN's tensor-core kernels read."""
    return np.ascontiguousarray(np.moveaxis(constants[1], 1, -1))


def _convolution(problem: Problem, constant: frozenset[int]) -> GraphSketch | None:
    x, weights, bias, residual = problem.inputs[:4]
    y, attributes = problem.outputs[0], problem.attributes
    if x is None or weights is None or len(x.shape) not in (3, 4, 5) or x.dtype != weights.dtype:
        return None
    if not attributes.keys().isdisjoint(("pair", "pool", "halves")):
        return None
    transposed = problem.kind is Kind.TRANSPOSED_CONVOLUTION
    spatial = len(x.shape) - 2
    pads = tuple(attributes["pads"])
    window = {
        "pre_padding": pads[:spatial],
        "post_padding": pads[spatial:],
        "stride": tuple(attributes["strides"]),
        "dilation": tuple(attributes["dilations"]),
    }
    if min(pads, default=0) < 0:
        return None
    last = _channels_last(x if x.shape[1] > 1 else y)
    pack = last and 1 in constant and weights.shape[1] > 1
    if pack:
        weights = TensorType(dtype=weights.dtype, shape=weights.shape, strides=channels_last(weights.shape))
    if spatial == 1:
        filler = {"pre_padding": 0, "post_padding": 0, "stride": 1, "dilation": 1}
        window = {name: (filler[name], *values) for name, values in window.items()}
    channels = weights.shape[1] * attributes["groups"] if transposed else weights.shape[0]
    place = Pointer(space=Space.CONSTANT, name=WEIGHTS) if pack else _operand(1)
    rank = max(len(x.shape), 4)
    return GraphSketch(
        operation="conv_dgrad" if transposed else "conv_fprop",
        first=_image(1, x, _operand(0), last),
        second=_image(2, weights, place, last),
        bias=None if bias is None else _across(3, bias, _operand(2), (1, channels, *(1,) * (rank - 2)), 1),
        residual=None if residual is None else _image(4, residual, _operand(3), last),
        output=_image(5, y, _operand(len(problem.inputs)), last),
        window=window,
        pack=pack,
        **_epilogue(problem),  # type: ignore[arg-type]  # three fields of their own types
    )


def _product(problem: Problem) -> GraphSketch | None:
    a, b, bias, residual = _inputs(problem)
    y = problem.outputs[0]
    if a is None or b is None or not 2 <= len(y.shape) <= 4:
        return None
    if any(len(each.shape) > len(y.shape) for each in (a, b, bias, residual) if each is not None):
        return None
    rank = max(len(y.shape), 3)
    return GraphSketch(
        operation="matmul",
        first=_matrices(1, a, _operand(0), rank),
        second=_matrices(2, b, _operand(1), rank),
        bias=None if bias is None else _matrices(3, bias, _operand(2), rank),
        residual=None if residual is None else _matrices(4, residual, _operand(3), rank),
        output=_matrices(5, y, _operand(len(problem.inputs)), rank),
        alpha=float(problem.attributes.get("alpha", 1.0)),
        **_epilogue(problem),  # type: ignore[arg-type]
    )


def _attention(problem: Problem) -> GraphSketch | None:
    q, k, v, mask = _inputs(problem)
    y = problem.outputs[0]
    if q is None or k is None or v is None or q.dtype not in _HALVES:
        return None
    if any(each.strides[-1] != 1 for each in (q, k, v, y)) or v.dtype != q.dtype or y.dtype != q.dtype:
        return None
    if q.shape[-1] % 8 or v.shape[-1] % 8:  # what its kernels read at once
        return None
    return GraphSketch(
        operation="sdpa",
        first=_plain(1, q, _operand(0)),
        second=_plain(2, k, _operand(1)),
        third=_plain(6, v, _operand(2)),
        bias=None if mask is None else _matrices(3, mask, _operand(3), 4),
        output=_plain(5, y, _operand(len(problem.inputs))),
        alpha=float(problem.attributes["scale"]),
        causal=bool(problem.attributes.get("causal", False)),
        math="",
    )


def _epilogue(problem: Problem) -> dict[str, object]:
    attributes = problem.attributes
    return {
        "activation": attributes.get("activation", ""),
        "parameters": attributes.get("activation_parameters", {}),
        "gated": bool(attributes.get("gated", False)),
        "tail": tails.of(attributes),
        "math": attributes.get("math", ""),
    }


def _inputs(problem: Problem) -> tuple[TensorType | None, ...]:
    """The first four; None for those that are not there."""
    return (*problem.inputs, None, None, None)[:4]


def _operand(number: int) -> Pointer:
    return Pointer(space=Space.OPERAND, name=str(number))


def _channels_last(kind: TensorType) -> bool:
    """Also of one pixel, whose strides say nothing else."""
    return kind.is_channels_last or (kind.strides[1] == 1 and kind.shape[1] > 1)


def _plain(uid: int, kind: TensorType, pointer: Pointer) -> GraphTensor:
    return GraphTensor(uid=uid, dtype=kind.dtype, dims=kind.shape, strides=kind.strides, pointer=pointer)


def _image(uid: int, kind: TensorType, pointer: Pointer, last: bool) -> GraphTensor:
    """An image or weights; one spatial dimension becomes two. Dimensions of extent 1 get the strides of the layout,
    by which cuDNN recognizes it."""
    dims, strides = kind.shape, list(kind.strides)
    if len(dims) == 3:
        dims = (*dims[:2], 1, dims[2])
        strides.insert(2, 0)
    inner = 1
    for axis in (1, *range(len(dims) - 1, 1, -1), 0) if last else range(len(dims) - 1, -1, -1):
        if dims[axis] == 1:
            strides[axis] = inner
        inner = max(inner, strides[axis] * dims[axis])
    return GraphTensor(uid=uid, dtype=kind.dtype, dims=dims, strides=tuple(strides), pointer=pointer)


def _across(uid: int, kind: TensorType, pointer: Pointer, dims: tuple[int, ...], axis: int) -> GraphTensor:
    """A vector along one dimension of the output, dense, and with the strides of the layout that has it innermost."""
    strides = tuple(1 if index == axis else dims[axis] for index in range(len(dims)))
    return GraphTensor(uid=uid, dtype=kind.dtype, dims=dims, strides=strides, pointer=pointer)


def _matrices(uid: int, kind: TensorType, pointer: Pointer, rank: int) -> GraphTensor:
    """Matrices with ones before them up to `rank`; a repeated dimension (stride 0) has the extent 1."""
    dims = tuple(1 if not stride else extent for extent, stride in zip(kind.shape, kind.strides, strict=True))
    dims = (1,) * (rank - len(dims)) + dims
    strides = (0,) * (rank - len(kind.strides)) + kind.strides
    dense = row_major(dims)
    settled = tuple(stride or dense[index] for index, stride in enumerate(strides))
    return GraphTensor(uid=uid, dtype=kind.dtype, dims=dims, strides=settled, pointer=pointer)
