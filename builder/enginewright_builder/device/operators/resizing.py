"""Resize and Upsample: for each dimension a coordinate in the input, then its nearest or a weighted sum of taps.

Coordinates are computed in float32 by ONNX Runtime's formulas (onnxruntime/core/providers/cpu/tensor/upsamplebase.h),
so that `nearest` picks the same element; a dimension that keeps its size is not interpolated.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from enginewright_builder.device.expression import Computation, Expression
from enginewright_builder.device.operators import interpolation, terms
from enginewright_builder.device.operators.interpolation import Sampled
from enginewright_builder.device.operators.layer import Declined, Layer, Lowering, Operand
from enginewright_builder.device.operators.moves import computation, empty
from enginewright_builder.device.operators.terms import add, call, multiply, subtract


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """A dimension that changes: its number, extents before and after, scale, and where its part of `roi` lies."""

    number: int
    before: int
    after: int
    scale: float
    begin: Expression | None = None
    end: Expression | None = None


def resize(layer: Layer) -> tuple[Computation, ...]:
    """See the module."""
    given, output = terms.operand(layer, 0), terms.result(layer)
    if 0 in output.shape:
        return (empty(output),)
    transformation = _transformation(layer)
    at = terms.indices(output.shape)
    outside: list[Expression] = []
    sampled: list[Sampled] = []
    norms: list[Expression] = []
    mode = str(layer.attributes.get("mode", "nearest"))
    for axis in _axes(layer, given, output, crops=transformation == "tf_crop_and_resize"):
        coordinate = _coordinate(axis, terms.cast(at[axis.number], "float32"), transformation)
        if transformation == "tf_crop_and_resize":
            outside += [call("<", coordinate, 0.0), call("<", float(axis.before - 1), coordinate)]
        if mode == "nearest":
            place = interpolation.whole(_nearest(layer, axis, coordinate))
            at[axis.number] = terms.clamp(place, 0, axis.before - 1)
        else:
            tap, norm = _taps(layer, mode, axis, coordinate)
            at[axis.number] = tap.place
            sampled.append(tap)
            norms += norm
    value = terms.load(layer, 0, at)
    if sampled:
        value = _weighted(value, sampled, norms, output.dtype)
    for each in outside:
        value = terms.select(each, _extrapolated(layer, terms.dtype_of(value)), value)
    return (computation(output, value),)


def _weighted(value: Expression, sampled: list[Sampled], norms: list[Expression], dtype: str) -> Expression:
    kind = "float64" if dtype == "float64" else "float32"
    total = terms.cast(value, kind)
    for each in sampled:
        total = multiply(total, terms.cast(each.weight, kind))
    total = terms.summed([each.axis for each in sampled], total)
    for norm in norms:
        total = call("/", total, terms.cast(norm, kind))
    return terms.cast(total, terms.computed(dtype))


def _extrapolated(layer: Layer, dtype: str) -> Expression:
    value = float(layer.attributes.get("extrapolation_value", 0.0))
    return terms.number(value if terms.is_float(dtype) else int(value), dtype)


def _transformation(layer: Layer) -> str:
    if layer.operator == "Upsample" or layer.opset < 11:
        return "asymmetric"
    return str(layer.attributes.get("coordinate_transformation_mode", "half_pixel"))


def _axes(layer: Layer, given: Operand, output: Operand, *, crops: bool) -> list[_Axis]:
    """The dimensions that change, or are cropped."""
    rank = len(given.shape)
    axes = [axis % rank for axis in terms.integers(layer, "axes") or range(rank)]
    scales = _scales(layer, given, output, axes)
    made = []
    for place, (number, scale) in enumerate(zip(axes, scales, strict=True)):
        before, after = given.shape[number], output.shape[number]
        begin = end = None
        if crops:
            begin, end = (
                terms.cast(terms.load(layer, 1, [terms.number(at)]), "float32") for at in (place, len(axes) + place)
            )
        if crops or before != after or scale != 1.0:
            made.append(_Axis(number=number, before=before, after=after, scale=scale, begin=begin, end=end))
    return made


def _scales(layer: Layer, given: Operand, output: Operand, axes: list[int]) -> list[float]:
    """The scale of each of the axes, rounded to float32."""
    said = layer.attributes.get("scales")
    position = 1 if layer.operator == "Upsample" or layer.opset < 11 else 2
    operand = terms.optional(layer, position)
    if said is None and operand is not None and 0 not in operand.shape:
        if operand.constant is None:
            raise Declined("its scales are not constant")
        said = operand.constant.reshape(-1).tolist()
    if said is not None:
        return [float(np.float32(each)) for each in said]
    sizes = [output.shape[axis] for axis in axes]
    policy = str(layer.attributes.get("keep_aspect_ratio_policy", "stretch"))
    wanted = terms.settled(layer, 3, "sizes") if policy != "stretch" else None
    ratios = [size / given.shape[axis] for size, axis in zip(wanted or sizes, axes, strict=True)]
    if wanted is not None:
        ratios = [min(ratios) if policy == "not_larger" else max(ratios)] * len(axes)
    return [float(np.float32(each)) for each in ratios]


def _coordinate(axis: _Axis, x: Expression, transformation: str) -> Expression:
    """Where an output index lies in the input."""
    before, after = axis.before, axis.after
    centred = subtract(call("/", call("+", x, 0.5), axis.scale), terms.number(0.5, "float32"))
    match transformation:
        case "half_pixel":
            return centred
        case "asymmetric":
            return call("/", x, axis.scale)
        case "pytorch_half_pixel":
            return centred if after > 1 else terms.number(0.0, "float32")
        case "tf_half_pixel_for_nn":
            return call("/", call("+", x, 0.5), axis.scale)
        case "align_corners":
            return call("/", call("*", x, float(before - 1)), float(max(after - 1, 1)))
        case "half_pixel_symmetric":
            return _symmetric(axis, x)
        case "tf_crop_and_resize" if axis.begin is not None and axis.end is not None:
            first = call("*", axis.begin, float(before - 1))
            if after == 1:
                return call("*", add(axis.begin, axis.end), 0.5 * (before - 1))
            step = call("/", call("*", subtract(axis.end, axis.begin), float(before - 1)), float(after - 1))
            return add(first, multiply(x, step))
        case _:
            raise Declined(f"its coordinate_transformation_mode is {transformation}")


def _symmetric(axis: _Axis, x: Expression) -> Expression:
    """Half pixels from the middle outwards: here ONNX Runtime computes in double and rounds the result."""
    adjustment = np.float32(axis.after) / np.float32(axis.scale * axis.before)
    shift = float(np.float32(axis.before / 2) * (np.float32(1) - adjustment))
    wide = call("/", call("+", terms.cast(x, "float64"), 0.5), axis.scale)
    return terms.cast(call("-", call("+", wide, shift), 0.5), "float32")


def _nearest(layer: Layer, axis: _Axis, x: Expression) -> Expression:
    if layer.operator == "Upsample" or layer.opset < 11:
        return call("ceil" if axis.scale < 1 else "floor", x)
    match str(layer.attributes.get("nearest_mode", "round_prefer_floor")):
        case "round_prefer_floor":
            return call("ceil", call("-", x, 0.5))
        case "round_prefer_ceil":
            return call("floor", call("+", x, 0.5))
        case "floor":
            return call("floor", x)
        case "ceil":
            return call("ceil", x)
        case other:
            raise Declined(f"its nearest_mode is {other}")


def _taps(layer: Layer, mode: str, axis: _Axis, x: Expression) -> tuple[Sampled, list[Expression]]:
    """The taps of a dimension and, where their weights do not sum to 1 of themselves, what to divide by.

    For a smaller output `antialias` stretches the kernel by the scale; taps beyond the edge read the edge.
    """
    if mode not in ("linear", "bilinear", "cubic"):
        raise Declined(f"its mode is {mode}")
    antialias = bool(layer.attributes.get("antialias", 0))
    excluded = bool(layer.attributes.get("exclude_outside", 0))
    squeeze = min(axis.scale, 1.0) if antialias else 1.0
    reach = (2 if mode == "cubic" else 1) / squeeze
    first = math.floor(-reach) + 1
    count = 2 - 2 * first
    low = call("floor", x)
    fraction = subtract(x, low)

    def weight(tap: Expression) -> tuple[Expression, Expression]:
        step = add(tap, first)
        place = add(interpolation.whole(low), step)
        distance = subtract(terms.cast(step, "float32"), fraction)
        if squeeze != 1.0:
            distance = call("*", distance, squeeze)
        made = (
            interpolation.cubic(distance, float(layer.attributes.get("cubic_coeff_a", -0.75)))
            if mode == "cubic"
            else interpolation.linear(distance)
        )
        if excluded:
            made = terms.select(terms.within(place, axis.before), made, terms.number(0.0, "float32"))
        return place, made

    name = (f"tap{axis.number}", count)
    place, made = weight(terms.axis(*name))
    norms = []
    if squeeze != 1.0 or excluded:
        norm = (f"norm{axis.number}", count)
        norms.append(terms.summed([norm], weight(terms.axis(*norm))[1]))
    tap = Sampled(
        axis=name,
        place=terms.clamp(place, 0, axis.before - 1),
        weight=made,
        inside=terms.number(True, "bool"),
    )
    return tap, norms


LOWERINGS: Mapping[str, Lowering] = {"Resize": resize, "Upsample": resize}
