"""Layers that map each number by itself: activations, powers, sums of blobs."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from enginewright_builder.importers.caffe.layer import Layer
from enginewright_builder.importers.caffe.writing import Blob, Writer


def same(layer: Layer) -> Sequence[Blob]:
    """Split: the bottom, once for each top."""
    return [layer.x] * layer.tops


def plain(operator: str) -> Callable[[Layer], Sequence[Blob]]:
    """A layer that is an operator of ONNX's without parameters."""

    def write(layer: Layer) -> Sequence[Blob]:
        return [_map(layer, operator)]

    return write


def relu(layer: Layer) -> Sequence[Blob]:
    """x where x is positive, else negative_slope x."""
    slope = layer.message.relu_param.negative_slope
    return [_map(layer, "LeakyRelu", alpha=slope) if slope else _map(layer, "Relu")]


def prelu(layer: Layer) -> Sequence[Blob]:
    """As ReLU, with a trained slope for each channel, or one for all."""
    given, x = layer.message.prelu_param, layer.x
    channels = 1 if given.channel_shared else x.shape[layer.axis(1)]
    slopes = layer.weight(0, (channels,), filler=given.filler).reshape(channels, *[1] * (len(x.shape) - 2))
    return [layer.write.blob("PRelu", [x.value, layer.write.constant(slopes, "slopes")], x.shape)]


def elu(layer: Layer) -> Sequence[Blob]:
    """x where x is positive, else alpha (e^x - 1)."""
    return [_map(layer, "Elu", alpha=layer.message.elu_param.alpha)]


def power(layer: Layer) -> Sequence[Blob]:
    """(shift + scale x) ^ power."""
    given = layer.message.power_param
    inner = _affine(layer.write, layer.x, given.scale, given.shift)
    if given.power == 1:
        return [inner]
    return [layer.write.blob("Pow", [inner.value, layer.write.scalar(given.power, "power")], layer.x.shape)]


def exponential(layer: Layer) -> Sequence[Blob]:
    """base ^ (shift + scale x); the base -1 stands for e."""
    given = layer.message.exp_param
    factor = _logarithm_of_base(layer, given.base)
    inner = _affine(layer.write, layer.x, given.scale * factor, given.shift * factor)
    return [layer.write.blob("Exp", [inner.value], layer.x.shape)]


def logarithm(layer: Layer) -> Sequence[Blob]:
    """log_base(shift + scale x); the base -1 stands for e."""
    given = layer.message.log_param
    factor = _logarithm_of_base(layer, given.base)
    if factor == 0:
        layer.wrong("there is no logarithm to the base 1")
    inner = _affine(layer.write, layer.x, given.scale, given.shift)
    return [_affine(layer.write, layer.write.blob("Log", [inner.value], layer.x.shape), 1 / factor, 0.0)]


def dropout(layer: Layer) -> Sequence[Blob]:
    """Nothing at test time; with scale_train false (a fork's) what training would have scaled."""
    given = layer.message.dropout_param
    return [layer.x if given.scale_train else _affine(layer.write, layer.x, 1 - given.dropout_ratio, 0.0)]


def threshold(layer: Layer) -> Sequence[Blob]:
    """1 where x is larger, else 0."""
    limit = layer.write.scalar(layer.message.threshold_param.threshold, "threshold")
    above = layer.write.values("Greater", [layer.x.value, limit])[0]
    return [layer.write.blob("Cast", [above], layer.x.shape, to=ir.DataType.FLOAT)]


def eltwise(layer: Layer) -> Sequence[Blob]:
    """The product, the weighted sum or the largest of blobs of one shape."""
    given, write, bottoms = layer.message.eltwise_param, layer.write, layer.bottoms
    if len({bottom.shape for bottom in bottoms}) != 1:
        layer.wrong(f"it takes blobs of one shape, got {[list(bottom.shape) for bottom in bottoms]}")
    if given.coeff and (len(given.coeff) != len(bottoms) or given.operation != given.SUM):
        layer.wrong(f"it gives {len(given.coeff)} coefficients for {len(bottoms)} blobs; only a sum takes them")
    if given.operation == given.MAX:
        return [write.blob("Max", [bottom.value for bottom in bottoms], layer.x.shape)]
    terms = bottoms
    if given.coeff:
        terms = tuple(_affine(write, b, c, 0.0) for b, c in zip(bottoms, given.coeff, strict=True))
    result = terms[0]
    for term in terms[1:]:
        operator = "Mul" if given.operation == given.PROD else "Add"
        result = write.blob(operator, [result.value, term.value], result.shape)
    return [result]


def _map(layer: Layer, operator: str, **attributes: Any) -> Blob:
    return layer.write.blob(operator, [layer.x.value], layer.x.shape, **attributes)


def _affine(write: Writer, x: Blob, scale: float, shift: float) -> Blob:
    if scale != 1:
        x = write.blob("Mul", [x.value, write.scalar(scale, "scale")], x.shape)
    if shift != 0:
        x = write.blob("Add", [x.value, write.scalar(shift, "shift")], x.shape)
    return x


def _logarithm_of_base(layer: Layer, base: float) -> float:
    if base == -1:
        return 1.0
    if not base > 0 or math.isinf(base):
        layer.wrong(f"its base is {base}, wanted a number above 0, or -1 for e")
    return math.log(base)
