"""Pooling over windows and over whole planes, and its reverse by kept indices."""

import math
from collections.abc import Mapping, Sequence

from enginewright_builder.device.expression import Computation, Expression, Index
from enginewright_builder.device.operators import terms, windows
from enginewright_builder.device.operators.layer import Declined, Layer, Lowering
from enginewright_builder.device.operators.moves import computation, empty
from enginewright_builder.device.operators.windows import Window


def _window(layer: Layer) -> Window:
    kernel = terms.integers(layer, "kernel_shape")
    if kernel is None:
        raise Declined("it has no kernel_shape")
    output = next((each for each in layer.outputs if each is not None), None)
    assert output is not None, "a layer has an output"
    return windows.of(layer, terms.operand(layer, 0).shape[2:], output.shape[2:], kernel, pools=True)


def max_pool(layer: Layer) -> tuple[Computation, ...]:
    """The largest element that the window meets and, as a second output, its position in the whole input."""
    window = _window(layer)
    made = []
    for position, output in enumerate(layer.outputs):
        if output is None:
            continue
        if 0 in output.shape:
            made.append(empty(output))
        else:
            at = terms.indices(output.shape)
            made.append(
                computation(output, _maximum(layer, window, at) if position == 0 else _where(layer, window, at))
            )
    return tuple(made)


def _maximum(layer: Layer, window: Window, at: Sequence[Expression]) -> Expression:
    places, inside = windows.met(window, at[2:])
    value = terms.load(layer, 0, [*at[:2], *places])
    body = terms.select(inside, value, terms.lowest(terms.dtype_of(value)))
    return terms.summed(window.axes, body, "max")


def _where(layer: Layer, window: Window, at: Sequence[Expression]) -> Expression:
    """The first of the largest elements: the taps are one axis here, since its position is what argmax gives."""
    shape = terms.operand(layer, 0).shape
    taps = math.prod(window.kernel)
    places = _places(window, at[2:], Index("tap"))
    inside = terms.both(*(terms.within(place, extent) for place, extent in zip(places, shape[2:], strict=True)))
    value = terms.load(layer, 0, [*at[:2], *places])
    body = terms.select(inside, value, terms.lowest(terms.dtype_of(value)))
    best = terms.reduction("argmax", [("tap", taps)], body, "int32")
    found = [
        terms.clamp(place, 0, extent - 1)
        for place, extent in zip(_places(window, at[2:], best), shape[2:], strict=True)
    ]
    plane = terms.ravel(at[:2], shape[:2])
    if int(layer.attributes.get("storage_order", 0)):
        inner = terms.ravel(found[::-1], shape[:1:-1])
    else:
        inner = terms.ravel(found, shape[2:])
    return terms.cast(terms.add(terms.multiply(plane, math.prod(shape[2:])), inner), "int64")


def _places(window: Window, at: Sequence[Expression], tap: Expression) -> list[Expression]:
    taps = terms.unravel(tap, window.kernel)
    return [
        terms.add(windows.start(window, here, k), terms.multiply(step, window.dilations[k]))
        for k, (here, step) in enumerate(zip(at, taps, strict=True))
    ]


def average_pool(layer: Layer) -> tuple[Computation, ...]:
    """The mean of what the window meets; padding that was asked for counts as zeros if count_include_pad is set."""
    output, window = terms.result(layer), _window(layer)
    if 0 in output.shape:
        return (empty(output),)
    at = terms.indices(output.shape)
    include = bool(layer.attributes.get("count_include_pad", 0))
    count = terms.multiply(*(_counted(window, here, k, include=include) for k, here in enumerate(at[2:])))
    total = _total(layer, window, at)
    return (computation(output, terms.call("/", total, terms.cast(count, terms.dtype_of(total)))),)


def _total(layer: Layer, window: Window, at: Sequence[Expression]) -> Expression:
    places, inside = windows.met(window, at[2:])
    value = terms.load(layer, 0, [*at[:2], *places])
    return terms.summed(window.axes, terms.select(inside, value, terms.number(0, terms.dtype_of(value))))


def _counted(window: Window, here: Expression, k: int, *, include: bool) -> Expression:
    """How many taps of dimension k count: those from `low` up to `high` of the input."""
    taps, dilation = window.kernel[k], window.dilations[k]
    low = -window.begins[k] if include else 0
    high = window.extents[k] + (window.ends[k] if include else 0)
    if windows.last(window, k) < high and -window.begins[k] >= low:
        return terms.number(taps)
    start = windows.start(window, here, k)
    end = terms.call("min", _steps(terms.subtract(high, start), dilation), taps)
    begin = terms.call("max", _steps(terms.subtract(low, start), dilation), 0)
    return terms.subtract(end, begin)


def _steps(distance: Expression, dilation: int) -> Expression:
    """Steps of the dilation that reach or pass a distance."""
    return terms.floordiv(terms.add(distance, dilation - 1), dilation)


def lp_pool(layer: Layer) -> tuple[Computation, ...]:
    """(sum of |x|^p)^(1/p) over the window."""
    output, window = terms.result(layer), _window(layer)
    if 0 in output.shape:
        return (empty(output),)
    at = terms.indices(output.shape)
    places, inside = windows.met(window, at[2:])
    power = float(layer.attributes.get("p", 2))
    value = _power(terms.load(layer, 0, [*at[:2], *places]), power)
    body = terms.select(inside, value, terms.number(0, terms.dtype_of(value)))
    return (computation(output, _root(terms.summed(window.axes, body), power)),)


def _power(value: Expression, power: float) -> Expression:
    size = terms.call("abs", value)
    if power == 1.0:
        return size
    return terms.multiply(value, value) if power == 2.0 else terms.call("pow", size, power)


def _root(value: Expression, power: float) -> Expression:
    if power == 1.0:
        return value
    return terms.call("sqrt", value) if power == 2.0 else terms.call("pow", value, 1.0 / power)


def _plane(layer: Layer) -> tuple[list[tuple[str, int]], Expression, int]:
    """The axes over a channel's whole plane, an element of it, and how many there are."""
    shape = terms.operand(layer, 0).shape
    axes = [(f"tap{k}", extent) for k, extent in enumerate(shape[2:])]
    at = terms.indices(terms.result(layer).shape)
    return axes, terms.load(layer, 0, [*at[:2], *(terms.axis(*each) for each in axes)]), math.prod(shape[2:])


def global_average(layer: Layer) -> tuple[Computation, ...]:
    """The mean of each channel's plane."""
    axes, value, count = _plane(layer)
    return (computation(terms.result(layer), terms.call("/", terms.summed(axes, value), float(count))),)


def global_max(layer: Layer) -> tuple[Computation, ...]:
    """The largest element of each channel's plane."""
    axes, value, _ = _plane(layer)
    return (computation(terms.result(layer), terms.summed(axes, value, "max")),)


def global_lp(layer: Layer) -> tuple[Computation, ...]:
    """(sum of |x|^p)^(1/p) over each channel's plane."""
    axes, value, _ = _plane(layer)
    power = float(layer.attributes.get("p", 2))
    return (computation(terms.result(layer), _root(terms.summed(axes, _power(value, power)), power)),)


def max_unpool(layer: Layer) -> tuple[Computation, ...]:
    """Each element at the position that MaxPool found it at, zeros elsewhere; positions are those in the tensor whose
    shape follows from the kernel, strides and pads, in whose corner a larger output_shape adds zeros."""
    given, output = terms.operand(layer, 0), terms.result(layer)
    kernel = terms.integers(layer, "kernel_shape") or ()
    rank = len(kernel)
    strides = terms.integers(layer, "strides") or (1,) * rank
    pads = terms.integers(layer, "pads") or (0,) * (2 * rank)
    inferred = tuple((given.shape[2 + k] - 1) * strides[k] - pads[k] - pads[rank + k] + kernel[k] for k in range(rank))
    at = terms.indices(output.shape)
    inside = terms.both(
        *(terms.call("<", at[2 + k], inferred[k]) for k in range(rank) if output.shape[2 + k] > inferred[k])
    )
    position = terms.cast(terms.ravel(at, (*given.shape[:2], *inferred)), "int64")
    count = math.prod(given.shape[2:])
    which = Index("element")
    kept = terms.load(layer, 1, [*at[:2], *terms.unravel(which, given.shape[2:])])
    hit = terms.select(terms.call("==", kept, position), which, terms.number(-1))
    found = terms.reduction("max", [("element", count)], hit, "int32")
    source = terms.unravel(terms.call("max", found, 0), given.shape[2:])
    value = terms.load(layer, 0, [*at[:2], *source])
    nothing = terms.number(0, terms.dtype_of(value))
    chosen = terms.select(terms.call("<=", 0, found), value, nothing)
    return (computation(output, terms.select(inside, chosen, nothing)),)


LOWERINGS: Mapping[str, Lowering] = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "LpPool": lp_pool,
    "GlobalAveragePool": global_average,
    "GlobalMaxPool": global_max,
    "GlobalLpPool": global_lp,
    "MaxUnpool": max_unpool,
}
