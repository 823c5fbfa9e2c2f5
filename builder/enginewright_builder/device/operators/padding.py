"""Operators that widen, crop or roll a tensor: Pad and CenterCropPad."""

from collections.abc import Mapping

from enginewright_builder.device.expression import Computation, Expression
from enginewright_builder.device.operators import terms
from enginewright_builder.device.operators.layer import Declined, Layer, Lowering
from enginewright_builder.device.operators.moves import computation, empty


def pad(layer: Layer) -> tuple[Computation, ...]:
    """out[i] = in[i - begin] inside, else a constant, the mirrored, nearest or wrapped element.

    A negative pad crops first; what is mirrored, repeated or wrapped is what the crop has left.
    """
    given, output = terms.operand(layer, 0), terms.result(layer)
    rank = len(given.shape)
    mode = str(layer.attributes.get("mode", "constant"))
    begins, ends = _pads(layer, rank)
    if 0 in output.shape:
        return (empty(output),)
    at: list[Expression] = []
    inside: list[Expression] = []
    for each, extent, begin, end in zip(terms.indices(output.shape), given.shape, begins, ends, strict=True):
        left = extent + min(begin, 0) + min(end, 0)
        place = terms.subtract(each, max(begin, 0))
        if mode == "constant":
            if begin > 0:
                inside.append(terms.call("<=", 0, place))
            if end > 0:
                inside.append(terms.call("<", place, left))
        elif begin > 0 or end > 0:
            if left < 1:
                raise Declined(f"it pads a dimension without elements by the mode {mode}")
            place = _moved_inside(place, left, mode)
        at.append(terms.add(place, max(-begin, 0)))
    if mode != "constant":
        return (computation(output, terms.load(layer, 0, at)),)
    return (computation(output, terms.select(terms.both(*inside), terms.load(layer, 0, at), _filling(layer))),)


def _filling(layer: Layer) -> Expression:
    if terms.optional(layer, 2) is not None:
        return terms.load(layer, 2, [0] * len(terms.operand(layer, 2).shape))
    dtype = terms.computed(terms.operand(layer, 0).dtype)
    value = layer.attributes.get("value", 0.0) if terms.is_float(dtype) else 0
    return terms.number(bool(value) if dtype == "bool" else value, dtype)


def _moved_inside(place: Expression, extent: int, mode: str) -> Expression:
    match mode:
        case "edge":
            return terms.clamp(place, 0, extent - 1)
        case "wrap":
            return terms.modulo(place, extent)
        case "reflect":
            if extent == 1:
                return terms.number(0)
            turned = terms.modulo(place, 2 * (extent - 1))
            return terms.call("min", turned, terms.subtract(2 * (extent - 1), turned))
        case _:
            raise Declined(f"its mode is {mode}")


def _pads(layer: Layer, rank: int) -> tuple[list[int], list[int]]:
    pads = terms.integers(layer, "pads") or terms.integers(layer, "paddings") or terms.settled(layer, 1, "pads")
    if pads is None:
        raise Declined("it has no pads")
    axes = terms.settled(layer, 3, "axes") or tuple(range(rank))
    half = len(pads) // 2
    begins, ends = [0] * rank, [0] * rank
    for axis, begin, end in zip(axes, pads[:half], pads[half:], strict=True):
        begins[axis], ends[axis] = begin, end
    return begins, ends


def center_crop_pad(layer: Layer) -> tuple[Computation, ...]:
    """The middle of the input, or the input in the middle of zeros; an odd remainder goes behind."""
    given, output = terms.operand(layer, 0), terms.result(layer)
    if 0 in output.shape:
        return (empty(output),)
    at: list[Expression] = []
    inside: list[Expression] = []
    for each, have, want in zip(terms.indices(output.shape), given.shape, output.shape, strict=True):
        shift = (have - want) // 2 if have >= want else -((want - have) // 2)
        place = terms.add(each, shift)
        if want > have:
            inside.append(terms.within(place, have))
        at.append(place)
    dtype = terms.computed(given.dtype)
    zero = terms.number(False, dtype) if dtype == "bool" else terms.number(0, dtype)
    return (computation(output, terms.select(terms.both(*inside), terms.load(layer, 0, at), zero)),)


LOWERINGS: Mapping[str, Lowering] = {"Pad": pad, "CenterCropPad": center_crop_pad}
