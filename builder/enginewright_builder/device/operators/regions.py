"""Pooling over regions given at run time: RoiAlign and MaxRoiPool.

A region's size is known at run time only, while a reduction's extent is not: reductions run over all that can be met,
and what a region does not have is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from enginewright_builder.device.expression import Computation, Expression, Index
from enginewright_builder.device.operators import terms
from enginewright_builder.device.operators.layer import Layer, Lowering
from enginewright_builder.device.operators.moves import computation, empty
from enginewright_builder.device.operators.terms import add, call, multiply, subtract


@dataclass(frozen=True, slots=True, kw_only=True)
class _Samples:
    """One dimension of a bin's samples: the reduction's axis, whether the sample exists, whether it lies on the
    feature map, its lower neighbour, the upper one's share, and how many samples the bin has (as a number)."""

    axis: tuple[str, int]
    exists: Expression
    inside: Expression
    low: Expression
    share: Expression
    count: Expression


def align(layer: Layer) -> tuple[Computation, ...]:
    """RoiAlign: the mean (or largest weighted neighbour) of bilinear samples on a regular grid in each bin.

    The grid has sampling_ratio samples a side, or, where that is 0, as many as the bin has elements, rounded up.
    """
    given, output = terms.operand(layer, 0), terms.result(layer)
    if 0 in output.shape:
        return (empty(output),)
    at = terms.indices(output.shape)
    region, channel = at[0], at[1]
    height = _samples(layer, region, at[2], 0)
    width = _samples(layer, region, at[3], 1)
    batch = terms.cast(terms.clamp(terms.load(layer, 2, [region]), 0, given.shape[0] - 1), "int32")
    largest = str(layer.attributes.get("mode", "avg")).lower() == "max"
    corners = [("corner0", 2), ("corner1", 2)]
    places, weights = [], []
    for samples, corner, extent in ((height, corners[0], given.shape[2]), (width, corners[1], given.shape[3])):
        side = terms.axis(*corner)
        places.append(call("min", add(samples.low, side), extent - 1))
        rest = subtract(terms.number(1.0, terms.dtype_of(samples.share)), samples.share)
        weights.append(terms.select(call("==", side, 0), rest, samples.share))
    value = terms.load(layer, 0, [batch, channel, *places])
    weighted = multiply(multiply(weights[0], weights[1]), value)
    dtype = terms.dtype_of(weighted)
    nothing = terms.number(0.0, dtype)
    on_map = terms.select(terms.both(height.inside, width.inside), weighted, nothing)
    exists = terms.both(height.exists, width.exists)
    axes = [height.axis, width.axis, *corners]
    if largest:
        best = terms.summed(axes, terms.select(exists, on_map, terms.lowest(dtype)), "max")
        any_sample = terms.both(call("<", 0.0, height.count), call("<", 0.0, width.count))
        return (computation(output, terms.select(any_sample, best, nothing)),)
    total = terms.summed(axes, terms.select(exists, on_map, nothing))
    count = call("max", multiply(height.count, width.count), 1.0)
    return (computation(output, call("/", total, count)),)


def _samples(layer: Layer, region: Expression, bin_number: Expression, k: int) -> _Samples:
    """The samples in dimension k (0 is the height) of a bin."""
    extent, bins = terms.operand(layer, 0).shape[2 + k], terms.result(layer).shape[2 + k]
    ratio = int(layer.attributes.get("sampling_ratio", 0))
    centred = layer.attributes.get("coordinate_transformation_mode", "half_pixel") == "half_pixel" and layer.opset >= 16
    scale = float(layer.attributes.get("spatial_scale", 1.0))
    edges = [call("*", terms.load(layer, 1, [region, terms.number(1 - k + side)]), scale) for side in (0, 2)]
    if centred:
        edges = [call("-", edge, 0.5) for edge in edges]
    begin, length = edges[0], subtract(edges[1], edges[0])
    if not centred:
        length = call("max", length, 1.0)
    size = call("/", length, float(bins))
    dtype = terms.dtype_of(size)
    first = add(begin, multiply(terms.cast(bin_number, dtype), size))
    count: Expression = terms.number(float(ratio), dtype) if ratio > 0 else call("ceil", size)
    step = call("/", size, call("max", count, 1.0))
    axis = (f"sample{k}", ratio if ratio > 0 else extent + 5)
    number = terms.cast(terms.axis(*axis), dtype)
    exists: Expression = terms.number(True, "bool")
    if ratio <= 0:
        # Steps are longer than half an element where there are several, and no more than extent + 3 of them fall on
        # the map: begin one before those, and end one after; where none does, with the last there is.
        skipped = call("-", call("floor", call("/", call("-", call("neg", first), 1.0), step)), 1.0)
        skipped = terms.select(call("<", terms.number(0.0, dtype), step), skipped, terms.number(0.0, dtype))
        number = add(number, call("max", call("min", skipped, call("-", count, 1.0)), 0.0))
        exists = call("<", number, count)
    place = add(first, multiply(call("+", number, 0.5), step))
    inside = terms.both(call("<=", -1.0, place), call("<=", place, float(extent)))
    near = call("min", call("max", place, 0.0), float(extent - 1))
    low = call("floor", near)
    return _Samples(
        axis=axis,
        exists=exists,
        inside=inside,
        low=terms.cast(low, "int32"),
        share=subtract(near, low),
        count=count,
    )


def max_pool(layer: Layer) -> tuple[Computation, ...]:
    """MaxRoiPool: the largest element of each bin of a region whose corners are rounded; 0 where a bin is empty."""
    given, output = terms.operand(layer, 0), terms.result(layer)
    at = terms.indices(output.shape)
    batch = terms.clamp(terms.cast(terms.load(layer, 1, [at[0], 0]), "int32"), 0, given.shape[0] - 1)
    inside, counts, places, axes = [], [], [], []
    for k in (0, 1):
        extent = given.shape[2 + k]
        begin, end = _bin(layer, at[0], at[2 + k], k)
        axes.append((f"place{k}", extent))
        place = Index(f"place{k}")
        places.append(place)
        inside += [call("<=", begin, place), call("<", place, end)]
        counts.append(call("<", begin, end))
    value = terms.load(layer, 0, [batch, at[1], *places])
    lowest = terms.lowest(terms.dtype_of(value))
    best = terms.reduction("max", axes, terms.select(terms.both(*inside), value, lowest))
    return (computation(output, terms.select(terms.both(*counts), best, terms.number(0.0, terms.dtype_of(value)))),)


def _bin(layer: Layer, region: Expression, number: Expression, k: int) -> tuple[Expression, Expression]:
    """The first place of a bin and the one behind its last, in dimension k, within the feature map."""
    extent, bins = terms.operand(layer, 0).shape[2 + k], terms.result(layer).shape[2 + k]
    scale = float(layer.attributes.get("spatial_scale", 1.0))
    corners = []
    for side in (0, 2):
        edge = call("*", terms.load(layer, 1, [region, terms.number(2 - k + side)]), scale)
        away = call("floor", call("+", call("abs", edge), 0.5))  # halves go away from zero
        corners.append(terms.cast(terms.select(call("<", edge, 0.0), call("neg", away), away), "int32"))
    dtype = "float64" if terms.operand(layer, 1).dtype == "float64" else "float32"
    length = call("max", add(subtract(corners[1], corners[0]), 1), 1)
    size = call("/", terms.cast(length, dtype), float(bins))
    here = terms.cast(number, dtype)
    begin = terms.cast(call("floor", multiply(here, size)), "int32")
    end = terms.cast(call("ceil", multiply(call("+", here, 1.0), size)), "int32")
    inner = [terms.clamp(add(each, corners[0]), 0, extent) for each in (begin, end)]
    return inner[0], inner[1]


LOWERINGS: Mapping[str, Lowering] = {"RoiAlign": align, "MaxRoiPool": max_pool}
