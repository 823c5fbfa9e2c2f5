"""Convolutions as plain sums: right for every rank, group and dilation, and what their fast kernels are checked by."""

from collections.abc import Mapping, Sequence

from enginewright_builder.device.expression import Computation, Expression
from enginewright_builder.device.operators import terms, windows
from enginewright_builder.device.operators.layer import Layer, Lowering
from enginewright_builder.device.operators.moves import computation, empty


def convolution(layer: Layer) -> tuple[Computation, ...]:
    """y[n, k, o] = sum over c, t of x[n, c, o * stride - pad + t * dilation] * w[k, c, t], + bias[k]."""
    output = terms.result(layer)
    if 0 in output.shape:
        return (empty(output),)
    at = terms.indices(output.shape)
    value = _sum(layer, at, 0, 1, None, None)
    if terms.optional(layer, 2) is not None:
        value = terms.add(value, terms.load(layer, 2, at[1:2]))
    return (computation(output, value),)


def _sum(
    layer: Layer,
    at: Sequence[Expression],
    data: int,
    weights: int,
    data_zero: Expression | None,
    weights_zero: Expression | None,
) -> Expression:
    """The sum without a bias; in int32 over differences from zero points where they are given."""
    x, w, output = terms.operand(layer, data), terms.operand(layer, weights), terms.result(layer)
    window = windows.of(layer, x.shape[2:], output.shape[2:], w.shape[2:])
    places, inside = windows.met(window, at[2:])
    inputs = w.shape[1]
    channel = terms.axis("channel", inputs)
    group = _group(at[1], w.shape[0], int(layer.attributes.get("group", 1)))
    source = terms.add(terms.multiply(group, inputs), channel)
    left = terms.load(layer, data, [at[0], source, *places])
    right = terms.load(layer, weights, [at[1], channel, *window.taps])
    if data_zero is not None and weights_zero is not None:
        left = terms.subtract(terms.cast(left, "int32"), data_zero)
        right = terms.subtract(terms.cast(right, "int32"), weights_zero)
    product = terms.multiply(left, right)
    body = terms.select(inside, product, terms.number(0, terms.dtype_of(product)))
    return terms.summed([("channel", inputs), *window.axes], body)


def _group(channel: Expression, channels: int, groups: int) -> Expression:
    return terms.number(0) if groups == 1 else terms.call("//", channel, channels // groups)


def integer_convolution(layer: Layer) -> tuple[Computation, ...]:
    """ConvInteger: the sum in int32 over differences from the zero points, which padding has too."""
    output = terms.result(layer)
    if 0 in output.shape:
        return (empty(output),)
    at = terms.indices(output.shape)
    return (computation(output, _sum(layer, at, 0, 1, _zero(layer, 2, at[1]), _zero(layer, 3, at[1]))),)


def quantized_convolution(layer: Layer) -> tuple[Computation, ...]:
    """QLinearConv: y = saturate(round((sum + bias) * x_scale * w_scale / y_scale) + y_zero), halves to even."""
    output = terms.result(layer)
    if 0 in output.shape:
        return (empty(output),)
    at = terms.indices(output.shape)
    total = _sum(layer, at, 0, 3, _zero(layer, 2, at[1]), _zero(layer, 5, at[1]))
    if terms.optional(layer, 8) is not None:
        total = terms.add(total, terms.load(layer, 8, at[1:2]))
    scale = terms.call(
        "/", terms.multiply(_of_channel(layer, 1, at[1]), _of_channel(layer, 4, at[1])), _of_channel(layer, 6, at[1])
    )
    real = terms.call("round_even", terms.multiply(terms.cast(total, "float32"), scale))
    shifted = terms.add(real, terms.cast(_zero(layer, 7, at[1]), "float32"))
    return (computation(output, terms.cast(shifted, output.dtype)),)


def _of_channel(layer: Layer, position: int, channel: Expression) -> Expression:
    """A scale or zero point: one, or one for each output channel."""
    shape = terms.operand(layer, position).shape
    return terms.load(layer, position, [channel] if shape else [])


def _zero(layer: Layer, position: int, channel: Expression) -> Expression:
    if terms.optional(layer, position) is None:
        return terms.number(0)
    return terms.cast(_of_channel(layer, position, channel), "int32")


def transposed_convolution(layer: Layer) -> tuple[Computation, ...]:
    """y[n, k, o] = sum over c, t, p of x[n, c, p] * w[c, k, t] where o = p * stride - pad + t * dilation, + bias[k]."""
    x, w, output = terms.operand(layer, 0), terms.operand(layer, 1), terms.result(layer)
    if 0 in output.shape:
        return (empty(output),)
    at = terms.indices(output.shape)
    reached = windows.reached(windows.of_transposed(layer, x.shape[2:], output.shape[2:], w.shape[2:]), at[2:])
    groups = int(layer.attributes.get("group", 1))
    inputs, outputs = x.shape[1] // groups, w.shape[1]
    channel = terms.axis("channel", inputs)
    source = terms.add(terms.multiply(_group(at[1], outputs * groups, groups), inputs), channel)
    target = at[1] if groups == 1 else terms.call("%", at[1], outputs)
    product = terms.multiply(
        terms.load(layer, 0, [at[0], source, *reached.places]), terms.load(layer, 1, [source, target, *reached.taps])
    )
    body = terms.select(reached.exists, product, terms.number(0, terms.dtype_of(product)))
    value = terms.summed([("channel", inputs), *reached.axes], body)
    if terms.optional(layer, 2) is not None:
        value = terms.add(value, terms.load(layer, 2, at[1:2]))
    return (computation(output, value),)


def columns_to_image(layer: Layer) -> tuple[Computation, ...]:
    """Col2Im: y[n, c, o] = the sum of columns[n, c * taps + t, p] where o = p * stride - pad + t * dilation."""
    given, output = terms.operand(layer, 0), terms.result(layer)
    block = terms.settled(layer, 2, "block_shape") or ()
    rank = len(block)
    strides = terms.integers(layer, "strides") or (1,) * rank
    dilations = terms.integers(layer, "dilations") or (1,) * rank
    pads = terms.integers(layer, "pads") or (0,) * (2 * rank)
    counts = tuple(
        (output.shape[2 + k] + pads[k] + pads[rank + k] - dilations[k] * (block[k] - 1) - 1) // strides[k] + 1
        for k in range(rank)
    )
    window = windows.Window(
        extents=counts,
        outputs=output.shape[2:],
        kernel=block,
        strides=strides,
        dilations=dilations,
        begins=pads[:rank],
        ends=pads[rank:],
    )
    at = terms.indices(output.shape)
    reached = windows.reached(window, at[2:])
    row = terms.ravel([at[1], *reached.taps], (output.shape[1], *block))
    value = terms.load(layer, 0, [at[0], row, terms.ravel(reached.places, counts)])
    dtype = terms.computed(given.dtype)
    body = terms.select(reached.exists, value, terms.number(0, dtype))
    return (computation(output, terms.summed(reached.axes, body)),)


LOWERINGS: Mapping[str, Lowering] = {
    "Conv": convolution,
    "ConvInteger": integer_convolution,
    "QLinearConv": quantized_convolution,
    "ConvTranspose": transposed_convolution,
    "Col2Im": columns_to_image,
}
