"""A value of three dimensions as pictures, with blocks of depths as channels; and what layers make of such."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import onnx_ir as ir

from enginewright_builder.device.writing import Writer, shape_of
from enginewright_builder.network.network import Array
from enginewright_builder.passes import depth_weights

ROWS = 32  # output channels from which a 2-D convolution runs at its full speed (two blocks of AVX-512's 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some channels of a value: `value` [batch * depth / block, block * channels, height, width]."""

    value: ir.Value
    block: int
    channels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """[batch, channels, depth, height, width] as pictures; the channels are those of the parts, in their order."""

    parts: tuple[Part, ...]
    batch: int
    depth: int
    size: tuple[int, int]

    def of(self, part: Part, block: int) -> tuple[int, int, int, int]:
        """The shape of a part in blocks of so many depths."""
        return (self.batch * self.depth // block, block * part.channels, *self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Of a layer, without the depth: its attributes, and the size of what it gives."""

    attributes: tuple[ir.Attr, ...]
    size: tuple[int, int]


def enter(w: Writer, value: ir.Value) -> Pictures:
    """A value as it lies in the network, turned."""
    batch, channels, depth, *size = shape_of(value)
    turned = w.reshape(w.transpose(value, (0, 2, 1, 3, 4)), (batch * depth, channels, *size))
    part = Part(value=turned, block=1, channels=channels)
    return Pictures(parts=(part,), batch=batch, depth=depth, size=(size[0], size[1]))


def leave(w: Writer, x: Pictures) -> ir.Value:
    """Back to [batch, channels, depth, height, width]."""
    shapes = [(x.batch, x.depth, part.channels, *x.size) for part in x.parts]
    whole = w.concat([w.reshape(part.value, shape) for part, shape in zip(x.parts, shapes, strict=True)], 2)
    return w.transpose(whole, (0, 2, 1, 3, 4))


def pointwise(w: Writer, operator: str, x: Pictures, attributes: Sequence[ir.Attr]) -> Pictures:
    """An activation."""
    made = [replace(p, value=w.layer(operator, [p.value], shape_of(p.value), attributes)) for p in x.parts]
    return replace(x, parts=tuple(made))


def both(w: Writer, operator: str, x: Pictures, y: Pictures) -> Pictures:
    """A pointwise operator of two values of one shape."""
    (a,), (b,) = x.parts, y.parts
    shape = x.of(a, a.block)
    made = w.layer(operator, [a.value, w.reshape(b.value, shape)], shape)
    return replace(x, parts=(replace(a, value=made),))


def joined(values: Sequence[Pictures]) -> Pictures:
    """Channels behind channels: nothing is copied."""
    return replace(values[0], parts=tuple(part for value in values for part in value.parts))


def block_of(depth: int, outputs: int, reach: int) -> int:
    """How many depths make a block for a convolution that looks `reach` depths to each side; 0: none does."""
    block = 1
    while depth % (2 * block) == 0 and 2 * block * outputs <= ROWS:
        block *= 2
    return block if block >= reach else 0


def _block(x: Pictures, outputs: int, reach: int) -> int:
    if reach:
        return block_of(x.depth, outputs, reach)
    block = x.parts[0].block  # as they lie, unless that is mostly zeros
    return block if len({part.block for part in x.parts}) == 1 and block * outputs <= ROWS else 1


def convolved(w: Writer, x: Pictures, weights: Array, bias: Array | None, window: Window) -> Pictures:
    """A convolution that slides one depth at a time and keeps their number; `weights` [o, c, depth, h, w]."""
    outputs, reach = weights.shape[0], weights.shape[2] // 2
    block = _block(x, outputs, reach)
    shape = (x.batch * x.depth // block, block * outputs, *window.size)
    more = [] if bias is None else [w.constant(np.tile(bias, block))]
    sums: list[ir.Value] = []

    def add(value: ir.Value, kernel: Array) -> None:
        given = [value, w.constant(kernel), *(more if not sums else [])]
        sums.append(w.layer("Conv", given, shape, window.attributes))

    first = 0
    for part in x.parts:
        own = weights[:, first : first + part.channels]
        first += part.channels
        picture = w.reshape(part.value, x.of(part, block))
        if reach and x.depth > block:
            add(_beside(w, x, replace(part, value=picture, block=block), reach), depth_weights.outer(own, block))
        add(picture, depth_weights.inner(own, block))
    total = reduce(lambda before, each: w.both("Add", each, before), sums)
    return replace(x, parts=(Part(value=total, block=block, channels=outputs),), size=window.size)


def pooled(w: Writer, x: Pictures, depths: int, window: Window) -> Pictures:
    """A max pool over `depths` depths at a time, that many further each time."""
    made = []
    for part in x.parts:
        pictures, channels, *_ = shape_of(part.value)
        value = w.layer("MaxPool", [part.value], (pictures, channels, *window.size), window.attributes)
        if depths == 1:
            made.append(replace(part, value=value))
            continue
        few, pixels = x.batch * x.depth // depths, part.channels * window.size[0] * window.size[1]
        highest = _highest(w, w.reshape(value, (few, depths, pixels)))
        made.append(replace(part, value=w.reshape(highest, (few, part.channels, *window.size)), block=1))
    return replace(x, parts=tuple(made), depth=x.depth // depths, size=window.size)


def transposed(
    w: Writer, x: Pictures, weights: Array, bias: Array | None, along: tuple[int, int], window: Window
) -> Pictures:
    """A transposed convolution, `weights` [c, o, depth, h, w]; `along` the depth it has this stride and first pad."""
    stride, begin = along
    outputs, back = weights.shape[1], depth_weights.steps(weights.shape[2], stride, begin)
    single = w.concat([w.reshape(part.value, x.of(part, 1)) for part in x.parts], 1)
    given = w.concat([_moved(w, x, single, step) for step in back], 1)
    inputs = [given, w.constant(depth_weights.spread(weights, stride, begin))]
    inputs += [] if bias is None else [w.constant(np.tile(bias, stride))]
    shape = (x.batch * x.depth, stride * outputs, *window.size)
    value = w.layer("ConvTranspose", inputs, shape, window.attributes)
    part = Part(value=value, block=stride, channels=outputs)
    return replace(x, parts=(part,), depth=x.depth * stride, size=window.size)


def _highest(w: Writer, value: ir.Value) -> ir.Value:
    few, _, pixels = shape_of(value)
    axes, keep = [1], ir.AttrInt64("keepdims", 0)
    if w.network.opset < 18:
        return w.layer("ReduceMax", [value], (few, pixels), [ir.AttrInt64s("axes", axes), keep])
    return w.layer("ReduceMax", [value, w.constant(np.array(axes, np.int64))], (few, pixels), [keep])


def _beside(w: Writer, x: Pictures, part: Part, reach: int) -> ir.Value:
    """The last depths of the block before and the first of the block behind each: zeros at the ends."""
    blocks, width = x.depth // part.block, part.block * part.channels
    value, edge = w.reshape(part.value, (x.batch, blocks, width, *x.size)), reach * part.channels
    before = _shifted(w, value, (1, edge - width), (-1, 0))
    behind = _shifted(w, value, (-1, 0), (1, edge - width))
    return w.reshape(w.concat([before, behind], 2), (x.batch * blocks, 2 * edge, *x.size))


def _moved(w: Writer, x: Pictures, value: ir.Value, step: int) -> ir.Value:
    """Single depths, each taken from `step` before it: zeros at the ends."""
    if step == 0:
        return value
    single = w.reshape(value, (x.batch, x.depth, *shape_of(value)[1:]))
    return w.reshape(_shifted(w, single, (step, 0), (-step, 0)), shape_of(value))


def _shifted(w: Writer, value: ir.Value, begin: tuple[int, int], end: tuple[int, int]) -> ir.Value:
    """Zeros put on both ends of the second and third dimension, or, where negative, elements taken off: one copy."""
    batch, depth, width, *size = shape_of(value)
    pads = w.constant(np.array([0, *begin, 0, 0, 0, *end, 0, 0], np.int64))
    return w.layer("Pad", [value, pads], (batch, depth + begin[0] + end[0], width + begin[1] + end[1], *size))
