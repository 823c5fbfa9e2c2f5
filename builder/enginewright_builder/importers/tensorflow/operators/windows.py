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
        weights, sizes = _weights(call, 1, rank), call.inputs[0].array
        wanted = spatial(call, [int(each) for each in sizes], rank) if sizes is not None else None
        edges = _cut(call, weights.shape[:-2], *_steps(call, rank), wanted)
        return [_written(call, "ConvTranspose", given(call, 2, rank), _turned(weights), **edges)]

    return convert


def _cut(
    call: Call, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], wanted: Sequence[int] | None
) -> dict[str, Any]:
    """What the full result loses at its edges, and what it gets behind, to be of the wanted size.

    Without a constant size: a whole number of strides with SAME, the smallest there is with VALID and EXPLICIT.
    """
    reaches = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    if call.text("padding") != "SAME":
        pads = padding(call, kernel, strides, dilations).get("pads", [0] * 2 * len(kernel))
        more = [0] * len(kernel)
        if wanted is not None:
            ends = zip(wanted, pads, pads[len(kernel) :], reaches, strides, strict=False)
            more = [(size + first + last - reach) % stride for size, first, last, reach, stride in ends]
        return {"pads": pads, "output_padding": more}
    before, behind, more = [], [], []
    for axis, (reach, stride) in enumerate(zip(reaches, strides, strict=True)):
        over = reach - stride  # of the full result over the wanted one
        if wanted is not None:
            over = (-(-wanted[axis] // stride) - 1) * stride + reach - wanted[axis]
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
    if call.flag("is_training", default=True):
        raise call.refuse("is a batch norm that still trains: freeze the model for inference")
    rank = len(call.text("data_format", "NHWC"))  # V3 takes volumes too
    parts = [call.scope.plain(each) for each in call.inputs[1:5]]
    value = call.scope.put("BatchNormalization", given(call, 0, rank), *parts, epsilon=call.number("epsilon", 1e-4))
    return [made(call, value, rank)]


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
