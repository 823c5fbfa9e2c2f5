"""Convolutions and pools: channels first, with TensorFlow's padding (SAME puts the odd element behind)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.tensorflow.call import Call, Convert, Table
from enginewright_builder.importers.tensorflow.scope import Array, Tensor


def given(call: Call, index: int, rank: int) -> ir.Value:
    """An input channels first, whatever the operation's data format."""
    tensor = call.inputs[index]
    if call.last:
        return call.scope.turned(tensor, rank)
    return call.scope.plain(tensor)


def made(call: Call, value: ir.Value, rank: int) -> Tensor:
    """A result that is channels first, in the operation's data format."""
    return Tensor(first=value, rank=rank) if call.last else Tensor(value=value, rank=rank)


def spatial(call: Call, numbers: Sequence[int], rank: int) -> list[int]:
    """Of a list with a number for each dimension those of the spatial ones; ones where it is empty."""
    if len(numbers) != rank:
        return [1] * (rank - 2)
    return list(numbers[1:-1] if call.last else numbers[2:])


def padding(call: Call, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> dict[str, Any]:
    """ONNX's attributes for the operation's padding. SAME needs no image size where the stride is 1."""
    kind = call.text("padding", "VALID")
    if kind == "VALID":
        return {}
    if kind == "EXPLICIT":
        pairs = np.array(call.list("explicit_paddings")).reshape(-1, 2)
        pairs = pairs[1:-1] if call.last else pairs[2:]
        return {"pads": [int(each) for each in (*pairs[:, 0], *pairs[:, 1])]}
    if kind != "SAME":
        raise call.refuse(f"has the padding {kind!r}, which is none of VALID, SAME and EXPLICIT")
    if all(stride == 1 for stride in strides):
        total = [(size - 1) * dilation for size, dilation in zip(kernel, dilations, strict=True)]
        return {"pads": [*(each // 2 for each in total), *(each - each // 2 for each in total)]}
    return {"auto_pad": "SAME_UPPER"}


def _weights(call: Call, index: int, rank: int) -> Array:
    weights = call.constant(index, "weights")
    if weights.ndim != rank:
        raise call.refuse(f"has weights of shape {list(weights.shape)}, and wants {rank} dimensions")
    return weights


def _steps(call: Call, rank: int) -> tuple[list[int], list[int]]:
    """Strides and dilations."""
    return spatial(call, call.list("strides"), rank), spatial(call, call.list("dilations"), rank)


def _turned(weights: Array) -> Array:
    """[spatial…, a, b] as ONNX has them: [b, a, spatial…]."""
    return weights.transpose(weights.ndim - 1, weights.ndim - 2, *range(weights.ndim - 2))


def _written(call: Call, op: str, x: ir.Value, weights: Array, **attributes: Any) -> Tensor:
    """The layer of weights as ONNX has them."""
    strides, dilations = _steps(call, weights.ndim)
    held = call.scope.constant(weights, f"{call.node.name}/weights")
    kernel = list(weights.shape[2:])
    value = call.scope.put(op, x, held, kernel_shape=kernel, strides=strides, dilations=dilations, **attributes)
    return made(call, value, weights.ndim)


def _convolution(rank: int) -> Convert:
    """Weights [spatial…, in / groups, out]. How many groups there are only shapes tell: grouping.py."""

    def convert(call: Call) -> list[Tensor]:
        weights, strides, dilations = _weights(call, 1, rank), *_steps(call, rank)
        attributes = padding(call, weights.shape[:-2], strides, dilations)
        return [_written(call, "Conv", given(call, 0, rank), _turned(weights), **attributes)]

    return convert


def _depthwise(call: Call) -> list[Tensor]:
    """Weights [height, width, channels, multiplier]: a group for each channel."""
    weights = _weights(call, 1, 4)
    height, width, channels, multiplier = weights.shape
    ordered = weights.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
    edges = padding(call, (height, width), *_steps(call, 4))
    return [_written(call, "Conv", given(call, 0, 4), ordered, group=channels, **edges)]


def _transposed(rank: int) -> Convert:
    """The gradient of a convolution: (sizes of the result, weights [spatial…, out, in], input)."""

    def convert(call: Call) -> list[Tensor]:
        weights = _weights(call, 1, rank)
        edges = _cut(call, weights.shape[:-2], *_steps(call, rank), _sizes(call, rank))
        return [_written(call, "ConvTranspose", given(call, 2, rank), _turned(weights), **edges)]

    return convert


def _sizes(call: Call, rank: int) -> Sequence[int | None]:
    """The spatial sizes of a transposed convolution's result, as far as they are numbers: the rest may be packed."""
    given = call.inputs[0]
    numbers: list[int | None] = [None] * rank
    producer = given.value.producer() if given.value is not None else None
    if given.array is not None:
        numbers = [int(each) for each in given.array]
    elif producer is not None and producer.op_type == "Concat" and len(producer.inputs) == rank:
        parts = [None if part is None else part.const_value for part in producer.inputs]
        numbers = [None if part is None else int(part.numpy().item()) for part in parts]
    return numbers[1:-1] if call.last else numbers[2:]


def _cut(
    call: Call, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], wanted: Sequence[int | None]
) -> dict[str, Any]:
    """What the full result loses at its edges, and what it gets behind, to be of the wanted size.

    Where a size is no constant, it is Keras's: a whole number of strides, and with VALID what the kernel is wider.
    """
    reaches = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    if call.text("padding") != "SAME":
        pads = padding(call, kernel, strides, dilations).get("pads", [0] * 2 * len(kernel))
        ends = zip(wanted, pads, pads[len(kernel) :], reaches, strides, strict=False)
        more = [
            max(stride - reach, 0) if size is None else (size + first + last - reach) % stride
            for size, first, last, reach, stride in ends
        ]
        return {"pads": pads, "output_padding": more}
    before, behind, more = [], [], []
    for axis, (reach, stride) in enumerate(zip(reaches, strides, strict=True)):
        over = reach - stride  # of the full result over the wanted one
        if (size := wanted[axis]) is not None:
            over = (-(-size // stride) - 1) * stride + reach - size
        total = max(over, 0)
        before.append(total // 2)
        behind.append(total - total // 2)
        more.append(max(-over, 0))
    return {"pads": [*before, *behind], "output_padding": more}


def _pool(op: str, rank: int) -> Convert:
    def convert(call: Call) -> list[Tensor]:
        kernel, strides = (spatial(call, call.list(name), rank) for name in ("ksize", "strides"))
        edges = padding(call, kernel, strides, [1] * (rank - 2))
        value = call.scope.put(op, given(call, 0, rank), kernel_shape=kernel, strides=strides, **edges)
        return [made(call, value, rank)]

    return convert


def _bias(call: Call) -> list[Tensor]:
    """Along the channels, wherever they are."""
    x, bias = call.inputs
    if call.last and x.first is None:
        return [Tensor(value=call.scope.put("Add", call.scope.plain(x), call.scope.plain(bias)), rank=x.rank)]
    rank = call.scope.rank(x)
    shape = (1, -1, *[1] * (rank - 2))
    if bias.array is not None:
        spread = call.scope.constant(bias.array.reshape(shape))
    else:
        spread = call.scope.put("Reshape", call.scope.plain(bias), call.scope.ints(*shape))
    return [made(call, call.scope.put("Add", given(call, 0, rank), spread), rank)]


def _batch_norm(call: Call) -> list[Tensor]:
    rank = len(call.text("data_format", "NHWC"))  # V3 takes volumes too
    if call.flag("is_training", default=True):
        return [made(call, _by_its_batch(call, rank), rank)]
    parts = [call.scope.plain(each) for each in call.inputs[1:5]]
    value = call.scope.put("BatchNormalization", given(call, 0, rank), *parts, epsilon=call.number("epsilon", 1e-4))
    return [made(call, value, rank)]


def _by_its_batch(call: Call, rank: int) -> ir.Value:
    """Keras writes a layer norm so, and a batch norm that trains is one too: by the mean and variance of what comes."""
    scope, x = call.scope, given(call, 0, rank)
    axes, column = scope.ints(0, *range(2, rank)), scope.ints(-1, *[1] * (rank - 2))
    scale, offset = (scope.put("Reshape", scope.plain(each), column) for each in call.inputs[1:3])
    epsilon = scope.constant(np.array(call.number("epsilon", 1e-4), call.dtype().numpy()))
    centred = scope.put("Sub", x, scope.put("ReduceMean", x, axes, keepdims=1))
    variance = scope.put("ReduceMean", scope.put("Mul", centred, centred), axes, keepdims=1)
    unit = scope.put("Div", centred, scope.put("Sqrt", scope.put("Add", variance, epsilon)))
    scope.notes.append(f"{call.node.name}: normalized by its own batch, as layer norms are, or as it was in training")
    return scope.put("Add", scope.put("Mul", unit, scale), offset)


def _local_response_norm(call: Call) -> list[Tensor]:
    radius = call.integer("depth_radius", 5)
    size = 2 * radius + 1
    value = call.scope.put(
        "LRN",
        call.scope.turned(call.inputs[0], 4),
        size=size,
        alpha=call.number("alpha", 1.0) * size,  # ONNX divides it by the size
        beta=call.number("beta", 0.5),
        bias=call.number("bias", 1.0),
    )
    return [Tensor(first=value, rank=4)]


TABLE: Table = {
    "Conv2D": _convolution(4),
    "Conv3D": _convolution(5),
    "DepthwiseConv2dNative": _depthwise,
    "Conv2DBackpropInput": _transposed(4),
    "Conv3DBackpropInputV2": _transposed(5),
    "MaxPool": _pool("MaxPool", 4),
    "AvgPool": _pool("AveragePool", 4),
    "MaxPool3D": _pool("MaxPool", 5),
    "AvgPool3D": _pool("AveragePool", 5),
    "BiasAdd": _bias,
    "BiasAddV1": _bias,
    "FusedBatchNorm": _batch_norm,
    "FusedBatchNormV2": _batch_norm,
    "FusedBatchNormV3": _batch_norm,
    "LRN": _local_response_norm,
}
