"""Reading between the elements, at coordinates given at run time: GridSample, AffineGrid, DeformConv."""

from collections.abc import Mapping

from enginewright_builder.device.expression import Computation, Expression
from enginewright_builder.device.operators import interpolation, terms, windows
from enginewright_builder.device.operators.interpolation import Sampled
from enginewright_builder.device.operators.layer import Declined, Layer, Lowering
from enginewright_builder.device.operators.moves import computation, empty
from enginewright_builder.device.operators.terms import add, call, multiply, subtract

_CUBIC = -0.75
_MODES = {"bilinear": "linear", "bicubic": "cubic"}  # their names before opset 20


def grid_sample(layer: Layer) -> tuple[Computation, ...]:
    """y[n, c, o] = x[n, c] at the coordinates grid[n, o], which go from -1 to 1 and name the last dimension first."""
    given, output = terms.operand(layer, 0), terms.result(layer)
    if 0 in output.shape:
        return (empty(output),)
    mode = str(layer.attributes.get("mode", "bilinear"))
    mode = _MODES.get(mode, mode)
    if mode not in ("nearest", "linear", "cubic"):
        raise Declined(f"its mode is {mode}")
    at = terms.indices(output.shape)
    spatial = given.shape[2:]
    sampled = []
    for k, extent in enumerate(spatial):
        where = terms.load(layer, 1, [at[0], *at[2:], len(spatial) - 1 - k])
        sampled.append(_sampled(layer, mode, terms.cast(where, "float32"), extent, k))
    value = terms.load(layer, 0, [*at[:2], *(each.place for each in sampled)])
    body = value
    for each in sampled:
        body = multiply(body, terms.cast(each.weight, terms.dtype_of(value)))
    inside = terms.both(*(each.inside for each in sampled))
    body = terms.select(inside, body, terms.number(0, terms.dtype_of(value)))
    return (computation(output, terms.summed([each.axis for each in sampled], body)),)


def _sampled(layer: Layer, mode: str, where: Expression, extent: int, k: int) -> Sampled:
    """One dimension: the coordinate in elements, brought inside as the padding mode says, and its taps."""
    corners = bool(layer.attributes.get("align_corners", 0))
    padding = str(layer.attributes.get("padding_mode", "zeros"))
    if corners:
        x = call("*", call("/", call("+", where, 1.0), 2.0), float(extent - 1))
        low, high = 0.0, extent - 1.0
    else:
        x = call("/", call("-", call("*", call("+", where, 1.0), float(extent)), 1.0), 2.0)
        low, high = -0.5, extent - 0.5
    if mode == "nearest":
        x = call("round_even", x)
    # A cubic that is only held at the border is so tap by tap, as in PyTorch and ONNX Runtime.
    nearby = "zeros" if mode == "cubic" and padding == "border" else padding
    x = _brought_inside(x, nearby, low, high, extent)
    base = call("floor", x)
    first, count = {"nearest": (0, 1), "linear": (0, 2), "cubic": (-1, 4)}[mode]
    axis = (f"tap{k}", count)
    step = add(terms.axis(*axis), first)
    place = add(interpolation.whole(base), step)
    distance = subtract(terms.cast(step, "float32"), subtract(x, base))
    weight: Expression = terms.number(1.0, "float32")
    if mode != "nearest":
        weight = interpolation.linear(distance) if mode == "linear" else interpolation.cubic(distance, _CUBIC)
    inside: Expression = terms.number(True, "bool")
    if padding == "zeros":
        inside = terms.within(place, extent)
    elif padding == "reflection":
        place = _mirrored(place, extent, corners=corners)
    return Sampled(axis=axis, place=terms.clamp(place, 0, extent - 1), weight=weight, inside=inside)


def _brought_inside(x: Expression, padding: str, low: float, high: float, extent: int) -> Expression:
    beyond = terms.either(call("<", x, low), call("<", high, x))
    match padding:
        case "zeros":  # far outside nothing changes; the bounds keep the coordinate within an integer's range
            return terms.clamp(x, terms.number(-4.0, "float32"), terms.number(extent + 4.0, "float32"))
        case "border":
            inner = terms.clamp(x, terms.number(0.0, "float32"), terms.number(extent - 1.0, "float32"))
            return terms.select(beyond, inner, x)
        case "reflection":
            span = high - low
            if span == 0:
                return terms.number(0.0, "float32")
            away = call("abs", call("-", x, low))
            turns = call("floor", call("/", away, span))
            rest = subtract(away, call("*", turns, span))
            odd = call("==", call("-", turns, call("*", call("floor", call("/", turns, 2.0)), 2.0)), 1.0)
            back = subtract(terms.number(high, "float32"), rest)
            return terms.select(beyond, terms.select(odd, back, call("+", rest, low)), x)
        case _:
            raise Declined(f"its padding_mode is {padding}")


def _mirrored(place: Expression, extent: int, *, corners: bool) -> Expression:
    """An index beyond the edges, reflected between the outer elements' centres, or their outer edges."""
    if extent == 1:
        return terms.number(0)
    if corners:
        turned = terms.modulo(place, 2 * (extent - 1))
        return call("min", turned, subtract(2 * (extent - 1), turned))
    turned = terms.modulo(place, 2 * extent)
    return call("min", turned, subtract(2 * extent - 1, turned))


def affine_grid(layer: Layer) -> tuple[Computation, ...]:
    """grid[n, o, r] = theta[n, r] times (coordinates of o from -1 to 1, the last dimension first; 1)."""
    theta, output = terms.operand(layer, 0), terms.result(layer)
    rank = theta.shape[1]
    at = terms.indices(output.shape)
    n, row = at[0], at[-1]
    corners = bool(layer.attributes.get("align_corners", 0))
    value = terms.load(layer, 0, [n, row, rank])
    dtype = terms.dtype_of(value)
    for column in range(rank):
        extent = output.shape[rank - column]
        here = terms.cast(at[rank - column], dtype)
        if corners:
            along = call("-", call("*", here, 2.0 / max(extent - 1, 1)), 1.0)
        else:
            along = call("-", call("*", call("+", here, 0.5), 2.0 / extent), 1.0)
        value = add(value, multiply(terms.load(layer, 0, [n, row, column]), along))
    return (computation(output, value),)


def deformable_convolution(layer: Layer) -> tuple[Computation, ...]:
    """DeformConv in two dimensions: each tap reads x at its place plus an offset, bilinearly, times a mask."""
    x, w, output = terms.operand(layer, 0), terms.operand(layer, 1), terms.result(layer)
    if len(x.shape) != 4:
        raise Declined(f"its input has {len(x.shape) - 2} spatial dimensions where 2 are known")
    at = terms.indices(output.shape)
    window = windows.of(layer, x.shape[2:], output.shape[2:], w.shape[2:])
    groups, offset_groups = (int(layer.attributes.get(name, 1)) for name in ("group", "offset_group"))
    inputs = w.shape[1]
    channel = terms.axis("channel", inputs)
    group: Expression = terms.number(0) if groups == 1 else call("//", at[1], w.shape[0] // groups)
    source = add(multiply(group, inputs), channel)
    offset_group: Expression = terms.number(0)
    if offset_groups > 1:
        offset_group = call("//", source, x.shape[1] // offset_groups)
    tap = terms.ravel([offset_group, *window.taps], (offset_groups, *window.kernel))
    corners = []
    for k, extent in enumerate(x.shape[2:]):
        shift = terms.load(layer, 2, [at[0], add(multiply(tap, 2), k), *at[2:]])
        place = add(windows.start(window, at[2 + k], k), multiply(window.taps[k], window.dilations[k]))
        coordinate = add(terms.cast(place, terms.dtype_of(shift)), shift)
        bounded = call("min", call("max", coordinate, -2.0), float(extent + 1))
        corners.append(interpolation.between(bounded, f"corner{k}", extent))
    value = terms.load(layer, 0, [at[0], source, *(each.place for each in corners)])
    for each in corners:
        value = multiply(value, each.weight)
    value = multiply(value, terms.load(layer, 1, [at[1], channel, *window.taps]))
    if terms.optional(layer, 4) is not None:
        value = multiply(value, terms.load(layer, 4, [at[0], tap, *at[2:]]))
    body = terms.select(terms.both(*(each.inside for each in corners)), value, terms.number(0, terms.dtype_of(value)))
    axes = [("channel", inputs), *window.axes, *(each.axis for each in corners)]
    total = terms.summed(axes, body)
    if terms.optional(layer, 3) is not None:
        total = add(total, terms.load(layer, 3, at[1:2]))
    return (computation(output, total),)


LOWERINGS: Mapping[str, Lowering] = {
    "GridSample": grid_sample,
    "AffineGrid": affine_grid,
    "DeformConv": deformable_convolution,
}
