"""Layers that normalize, and those that scale what was normalized."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from enginewright_builder.importers.caffe.layer import Layer
from enginewright_builder.importers.caffe.writing import Blob


def batch_norm(layer: Layer) -> Sequence[Blob]:
    """(x - mean) / sqrt(variance + eps), the two divided by the trained third blob; NVIDIA's fork scales in it too."""
    given, x, write = layer.message.batch_norm_param, layer.x, layer.write
    if given.HasField("use_global_stats") and not given.use_global_stats:
        layer.refuse("it normalizes by the batch's own statistics, which training does: set use_global_stats true")
    if len(x.shape) < 2:
        layer.wrong(f"it normalizes a blob of the shape {list(x.shape)}, which has no channels")
    channels = (x.shape[1],)
    total = float(layer.weight(2, (1,))[0])
    with np.errstate(all="ignore"):
        factor = np.float32(0 if total == 0 else 1 / total)
        mean, variance = layer.weight(0, channels) * factor, layer.weight(1, channels) * factor
    if given.scale_bias:
        affine = [layer.weight(3, channels), layer.weight(4, channels)]
    else:
        affine = [np.ones(channels, np.float32), np.zeros(channels, np.float32)]
    named = zip(("scale", "bias", "mean", "variance"), (*affine, mean, variance), strict=True)
    constants = [write.constant(array, name) for name, array in named]
    return [write.blob("BatchNormalization", [x.value, *constants], x.shape, epsilon=given.eps)]


def scale(layer: Layer) -> Sequence[Blob]:
    """x times a trained blob, or the second bottom, along some axes; then a trained bias on the same axes."""
    given, x, write = layer.message.scale_param, layer.x, layer.write
    factor, shape = _along(layer, given, "factors")
    result = write.blob("Mul", [x.value, factor.value], x.shape)
    if given.bias_term:
        offset = layer.weight(len(layer.bottoms) == 1, shape, filler=given.bias_filler).reshape(factor.shape)
        result = write.blob("Add", [result.value, write.constant(offset, "bias")], x.shape)
    return [result]


def bias(layer: Layer) -> Sequence[Blob]:
    """x plus a trained blob, or the second bottom, along some axes."""
    given = layer.message.bias_param
    offset, _ = _along(layer, given, "bias")
    return [layer.write.blob("Add", [layer.x.value, offset.value], layer.x.shape)]


def _along(layer: Layer, given: Any, like: str) -> tuple[Blob, tuple[int, ...]]:
    """What is applied, with ones behind so that it meets its axes; and its own shape."""
    x = layer.x
    axis = layer.axis(given.axis, end=True)
    if len(layer.bottoms) > 1:
        shape = layer.bottoms[1].shape
    else:
        end = len(x.shape) if given.num_axes == -1 else axis + given.num_axes
        if not axis <= end <= len(x.shape):
            layer.wrong(f"it covers {given.num_axes} axes from {axis} on of the shape {list(x.shape)}")
        shape = x.shape[axis:end]
    if x.shape[axis : axis + len(shape)] != shape:
        layer.wrong(
            f"its second blob has the shape {list(shape)}, which is not that of {list(x.shape)} from axis {axis} on"
        )
    aligned = (*shape, *[1] * (len(x.shape) - axis - len(shape)))
    if len(layer.bottoms) > 1:
        return layer.write.reshape(layer.bottoms[1], aligned), shape
    array = layer.weight(0, shape, filler=given.filler).reshape(aligned)
    return Blob(layer.write.constant(array, like), aligned), shape


def lrn(layer: Layer) -> Sequence[Blob]:
    """x / (k + alpha / n sum of squares)^beta over neighbouring channels; or over a square of the image, with k = 1."""
    given, x, write = layer.message.lrn_param, layer.x, layer.write
    size = given.local_size
    if size % 2 == 0 or len(x.shape) != 4:
        layer.wrong(f"it takes an odd local_size and [N, C, H, W], got {size} and {list(x.shape)}")
    if given.norm_region == given.ACROSS_CHANNELS:
        options = {"alpha": given.alpha, "beta": given.beta, "bias": given.k}
        return [write.blob("LRN", [x.value], x.shape, size=size, **options)]
    square = write.blob("Mul", [x.value, x.value], x.shape)
    window = {"kernel_shape": [size, size], "strides": [1, 1], "pads": [size // 2] * 4, "count_include_pad": 1}
    mean = write.blob("AveragePool", [square.value], x.shape, **window)
    scaled = write.blob("Mul", [mean.value, write.scalar(given.alpha, "alpha")], x.shape)
    base = write.blob("Add", [scaled.value, write.scalar(1.0, "one")], x.shape)
    divisor = write.blob("Pow", [base.value, write.scalar(given.beta, "beta")], x.shape)
    return [write.blob("Div", [x.value, divisor.value], x.shape)]


def normalize(layer: Layer) -> Sequence[Blob]:
    """SSD's: x / sqrt(sum of squares + eps) over the channels, or over the image too, times a trained scale."""
    given, x, write = layer.message.norm_param, layer.x, layer.write
    if len(x.shape) != 4:
        layer.wrong(f"it normalizes a blob of the shape {list(x.shape)}, wanted [N, C, H, W]")
    axes = [1, 2, 3] if given.across_spatial else [1]
    reduced = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    total = write.blob("ReduceSumSquare", [x.value, write.constant(axes, "axes")], reduced, keepdims=1)
    above = write.blob("Add", [total.value, write.scalar(given.eps, "eps")], reduced)
    root = write.blob("Sqrt", [above.value], reduced)
    unit = write.blob("Div", [x.value, root.value], x.shape)
    channels = 1 if given.channel_shared else x.shape[1]
    factors = layer.weight(0, (channels,), filler=given.scale_filler).reshape(channels, 1, 1)
    return [write.blob("Mul", [unit.value, write.constant(factors, "scale")], x.shape)]


def mean_variance(layer: Layer) -> Sequence[Blob]:
    """(x - mean) / (sqrt(variance) + eps) of each image's channel, or of each image."""
    given, x, write = layer.message.mvn_param, layer.x, layer.write
    first = 1 if given.across_channels else 2
    if len(x.shape) <= first:
        layer.wrong(f"it normalizes a blob of the shape {list(x.shape)}, wanted [N, C, H, W]")
    axes = write.constant(list(range(first, len(x.shape))), "axes")
    reduced = [*x.shape[:first], *[1] * (len(x.shape) - first)]
    mean = write.blob("ReduceMean", [x.value, axes], reduced, keepdims=1)
    centred = write.blob("Sub", [x.value, mean.value], x.shape)
    if not given.normalize_variance:
        return [centred]
    square = write.blob("Mul", [centred.value, centred.value], x.shape)
    variance = write.blob("ReduceMean", [square.value, axes], reduced, keepdims=1)
    root = write.blob("Sqrt", [variance.value], reduced)
    above = write.blob("Add", [root.value, write.scalar(given.eps, "eps")], reduced)
    return [write.blob("Div", [centred.value, above.value], x.shape)]


def softmax(layer: Layer) -> Sequence[Blob]:
    """e^x over its sum along one axis."""
    axis = layer.axis(layer.message.softmax_param.axis)
    return [layer.write.blob("Softmax", [layer.x.value], layer.x.shape, axis=axis)]


def reduction(layer: Layer) -> Sequence[Blob]:
    """The sum, the sum of magnitudes or squares, or the mean, of everything from an axis on, times a coefficient."""
    given, x, write = layer.message.reduction_param, layer.x, layer.write
    operators = {
        given.SUM: "ReduceSum", given.ASUM: "ReduceL1", given.SUMSQ: "ReduceSumSquare", given.MEAN: "ReduceMean"
    }  # fmt: skip
    axis = layer.axis(given.axis)
    axes = write.constant(list(range(axis, len(x.shape))), "axes")
    made = write.blob(operators[given.operation], [x.value, axes], x.shape[:axis], keepdims=0)
    if not math.isclose(given.coeff, 1.0, rel_tol=0):
        made = write.blob("Mul", [made.value, write.scalar(given.coeff, "coefficient")], made.shape)
    return [made]
