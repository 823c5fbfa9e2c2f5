"""Layers that slide a window over an image: Convolution, Deconvolution, Pooling, Upsample."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.caffe.layer import Layer
from enginewright_builder.importers.caffe.writing import Blob


def convolution(layer: Layer) -> Sequence[Blob]:
    """out = (in + 2 pad - reach) // stride + 1, where reach is the dilated kernel."""
    return _convolve(layer, transposed=False)


def deconvolution(layer: Layer) -> Sequence[Blob]:
    """out = stride (in - 1) + reach - 2 pad; the weights are [in, out / group, …]."""
    return _convolve(layer, transposed=True)


def _convolve(layer: Layer, *, transposed: bool) -> Sequence[Blob]:
    given = layer.message.convolution_param
    if layer.axis(given.axis) != 1 or len(layer.x.shape) < 3:
        layer.refuse(
            f"it slides over the axes behind {given.axis} of the shape {list(layer.x.shape)}, wanted [N, C, …]"
        )
    batch, channels, *image = layer.x.shape
    kernel = _spatial(layer, "kernel", given.kernel_size, (given.kernel_h, given.kernel_w), len(image), 0)
    stride = _spatial(layer, "stride", given.stride, (given.stride_h, given.stride_w), len(image), 1)
    pad = _spatial(layer, "pad", given.pad, (given.pad_h, given.pad_w), len(image), 0)
    dilation = _spatial(layer, "dilation", given.dilation, (0, 0), len(image), 1)
    outputs, group = given.num_output, given.group
    if 0 in (*kernel, *stride, *dilation, group, outputs) or channels % group or outputs % group:
        layer.wrong(
            f"it has kernel {kernel}, stride {stride}, dilation {dilation}, group {group}, "
            f"{channels} channels and {outputs} outputs"
        )
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    sizes = zip(image, pad, reach, stride, strict=True)
    if transposed:
        made = [s * (size - 1) + r - 2 * p for size, p, r, s in sizes]
        shape = (channels, outputs // group, *kernel)
    else:
        made = [(size + 2 * p - r) // s + 1 for size, p, r, s in sizes]
        shape = (outputs, channels // group, *kernel)
    weights = layer.write.constant(layer.weight(0, shape, filler=given.weight_filler), "weights")
    inputs = [layer.x.value, weights]
    if given.bias_term:
        inputs.append(layer.write.constant(layer.weight(1, (outputs,), filler=given.bias_filler), "bias"))
    operator = "ConvTranspose" if transposed else "Conv"
    out = (batch, outputs, *made)
    return [
        layer.write.blob(
            operator,
            inputs,
            out,
            kernel_shape=kernel,
            strides=stride,
            pads=[*pad, *pad],
            dilations=dilation,
            group=group,
        )
    ]


def pooling(layer: Layer) -> Sequence[Blob]:
    """Caffe rounds up, and never lets the last window begin behind the image and its padding.

    A window that reaches further is cut. MAX leaves out what is padded; AVE divides by the cut window's size, in which
    the padding counts. A second top is the place of the largest number in its image, as a float.
    """
    given, x = layer.message.pooling_param, layer.x
    if len(x.shape) != 4:
        layer.wrong(f"it pools a blob of the shape {list(x.shape)}, wanted [N, C, H, W]")
    if given.pool == given.STOCHASTIC:
        layer.refuse("STOCHASTIC pooling is for training: pool MAX or AVE")
    batch, channels, *image = x.shape
    largest = given.pool == given.MAX
    if given.global_pooling:
        kernel, stride, pad = image, [1, 1], [0, 0]
    else:
        kernel = _spatial(layer, "kernel", _one(given, "kernel_size"), (given.kernel_h, given.kernel_w), 2, 0)
        stride = _spatial(layer, "stride", _one(given, "stride"), (given.stride_h, given.stride_w), 2, 1)
        pad = _spatial(layer, "pad", _one(given, "pad"), (given.pad_h, given.pad_w), 2, 0)
    if 0 in (*kernel, *stride) or any(p >= k for p, k in zip(pad, kernel, strict=True)):
        layer.wrong(f"it has kernel {kernel}, stride {stride}, pad {pad}")
    up = given.round_mode == given.CEIL and given.ceil_mode
    made, behind = _windows(layer, image, kernel, stride, pad, up=up)
    out = (batch, channels, *made)
    if largest:
        return _largest(layer, out, kernel, stride, [*pad, *behind])
    inner = x.value
    if any(pad):
        # Written out, so that it counts: the average leaves out what is cut behind it.
        inner = layer.write.values("Pad", [inner, layer.write.constant([0, 0, *pad, 0, 0, *pad], "pads")])[0]
    cut = [max(b - p, 0) for b, p in zip(behind, pad, strict=True)]
    return [
        layer.write.blob(
            "AveragePool", [inner], out, kernel_shape=kernel, strides=stride, pads=[0, 0, *cut], count_include_pad=0
        )
    ]


def _windows(
    layer: Layer, image: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int], *, up: bool
) -> tuple[list[int], list[int]]:
    """How many windows there are along each axis, and how far the last one reaches behind the image."""
    made, behind = [], []
    for size, k, s, p in zip(image, kernel, stride, pad, strict=True):
        free = size + 2 * p - k
        if free < 0:
            layer.wrong(f"its kernel of {k} is larger than the padded image of {size + 2 * p}")
        count = (-(-free // s) if up else free // s) + 1
        if p and (count - 1) * s >= size + p:
            count -= 1
        if (count - 1) * s - p >= size:
            layer.refuse(f"its last window of {k} by {s} lies behind the image of {size} and holds nothing")
        made.append(count)
        behind.append(max((count - 1) * s + k - p - size, 0))
    return made, behind


def _largest(
    layer: Layer, out: tuple[int, ...], kernel: Sequence[int], stride: Sequence[int], pads: Sequence[int]
) -> Sequence[Blob]:
    write, x = layer.write, layer.x
    if layer.tops < 2:
        return [write.blob("MaxPool", [x.value], out, kernel_shape=kernel, strides=stride, pads=pads)]
    top, place = write.values("MaxPool", [x.value], outputs=2, kernel_shape=kernel, strides=stride, pads=pads)
    plane = write.values("Mod", [place, write.constant(np.array(x.shape[2] * x.shape[3], np.int64), "plane")])[0]
    mask = write.blob("Cast", [plane], out, to=ir.DataType.FLOAT)
    return [Blob(top, out), mask]


def upsample(layer: Layer) -> Sequence[Blob]:
    """With one bottom each pixel becomes a square; with a pooling's mask each number goes back to its place."""
    given, x = layer.message.upsample_param, layer.x
    if len(x.shape) != 4:
        layer.wrong(f"it enlarges a blob of the shape {list(x.shape)}, wanted [N, C, H, W]")
    batch, channels, height, width = x.shape
    tall, wide = given.scale_h or given.scale, given.scale_w or given.scale
    if tall < 1 or wide < 1:
        layer.wrong(f"it enlarges by {tall} and {wide}")
    out_h = given.upsample_h or height * tall - given.pad_out_h
    out_w = given.upsample_w or width * wide - given.pad_out_w
    out = (batch, channels, out_h, out_w)
    if len(layer.bottoms) == 2:
        return _unpooled(layer, out)
    if (out_h, out_w) != (height * tall, width * wide):
        layer.refuse(f"it enlarges [{height}, {width}] to [{out_h}, {out_w}], which takes a pooling's mask")
    scales = layer.write.constant(np.array([1, 1, tall, wide], dtype=np.float32), "scales")
    return [
        layer.write.blob(
            "Resize",
            [x.value, None, scales],
            out,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    ]


def _unpooled(layer: Layer, out: tuple[int, ...]) -> Sequence[Blob]:
    write, (x, mask) = layer.write, layer.bottoms
    if mask.shape != x.shape:
        layer.wrong(f"its mask has the shape {list(mask.shape)}, and its image {list(x.shape)}")
    batch, channels, *_ = x.shape
    flat = (batch, channels, x.shape[2] * x.shape[3])
    places = write.values("Cast", [write.reshape(mask, flat).value], to=ir.DataType.INT64)[0]
    plane = (batch, channels, out[2] * out[3])
    empty = write.blob("Expand", [write.scalar(0.0, "zero"), write.constant(plane, "plane")], plane)
    put = write.blob("ScatterElements", [empty.value, places, write.reshape(x, flat).value], plane, axis=2)
    return [write.reshape(put, out)]


def _one(given: Any, field: str) -> list[int]:
    return [getattr(given, field)] if given.HasField(field) else []


def _spatial(
    layer: Layer, what: str, listed: Sequence[int], pair: tuple[int, int], axes: int, otherwise: int
) -> list[int]:
    """One number for every axis, from a list or from the older pair for height and width."""
    if any(pair):
        if listed or axes != 2:
            layer.wrong(f"it gives {what}_h and {what}_w beside a list or for {axes} axes")
        return list(pair)
    if not listed:
        return [otherwise] * axes
    if len(listed) not in (1, axes):
        layer.wrong(f"it gives {len(listed)} numbers as its {what} for {axes} axes")
    return list(listed) * (axes if len(listed) == 1 else 1)
