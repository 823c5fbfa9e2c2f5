"""Normalizations. Means and variances are two folds over the input, the second around the first's result."""

import math
from collections.abc import Mapping

from enginewright_builder.device.expression import Computation, Expression, Index
from enginewright_builder.device.operators import elementwise, reductions, terms
from enginewright_builder.device.operators.elementwise import real
from enginewright_builder.device.operators.layer import Layer, Lowering
from enginewright_builder.device.operators.reductions import Span
from enginewright_builder.device.operators.terms import call


def _moments(over: Span) -> tuple[Expression, Expression]:
    mean = over.mean("m", over.element("m"))
    off = call("-", over.element("v"), mean)
    return mean, over.mean("v", call("*", off, off))


def _inverse_root(term: Expression, epsilon: float) -> Expression:
    return call("/", terms.number(1.0, terms.dtype_of(term)), call("sqrt", call("+", term, epsilon)))


def _affine(layer: Layer, value: Expression, at: list[Expression], *, scale: int = 1, bias: int = 2) -> Expression:
    """value * scale + bias, both inputs at their own places."""
    value = call("*", value, terms.cast(terms.broadcast(layer, scale, at), terms.dtype_of(value)))
    if terms.optional(layer, bias) is None:
        return value
    return call("+", value, terms.cast(terms.broadcast(layer, bias, at), terms.dtype_of(value)))


def _layer_normalization(layer: Layer) -> tuple[Computation, ...]:
    shape = terms.operand(layer, 0).shape
    over = reductions.span(layer, range(terms.axis_of(layer, len(shape), -1), len(shape)))
    at = terms.indices(shape)
    mean, variance = _moments(over)
    inverse = _inverse_root(variance, real(layer, "epsilon", 1e-5))
    normal = call("*", call("-", terms.load(layer, 0, at), mean), inverse)
    return elementwise.present(layer, lambda: _affine(layer, normal, at), lambda: mean, lambda: inverse)


def _rms_normalization(layer: Layer) -> tuple[Computation, ...]:
    shape = terms.operand(layer, 0).shape
    over = reductions.span(layer, range(terms.axis_of(layer, len(shape), -1), len(shape)))
    at = terms.indices(shape)
    element = over.element("v")
    inverse = _inverse_root(over.mean("v", call("*", element, element)), real(layer, "epsilon", 1e-5))
    return elementwise.only(layer, _affine(layer, call("*", terms.load(layer, 0, at), inverse), at))


def _instance_normalization(layer: Layer) -> tuple[Computation, ...]:
    shape = terms.operand(layer, 0).shape
    at = terms.indices(shape)
    mean, variance = _moments(reductions.span(layer, range(2, len(shape))))
    inverse = _inverse_root(variance, real(layer, "epsilon", 1e-5))
    normal = call("*", call("-", terms.load(layer, 0, at), mean), inverse)
    return elementwise.only(layer, _affine(layer, normal, [at[1]]))


def _group_normalization(layer: Layer) -> tuple[Computation, ...]:
    """Scale and bias are one a group before opset 21, one a channel since."""
    shape = terms.operand(layer, 0).shape
    groups = int(layer.attributes["num_groups"])
    at = terms.indices(shape)
    group = terms.floordiv(at[1], shape[1] // groups)
    mean, inverse = _group_moments(layer, groups, at[0], group)
    normal = call("*", call("-", terms.load(layer, 0, at), mean), inverse)
    return elementwise.only(layer, _affine(layer, normal, [group if layer.opset < 21 else at[1]]))


def _group_moments(layer: Layer, groups: int, batch: Expression, group: Expression) -> tuple[Expression, Expression]:
    """The mean of a group of channels, and one over its deviation."""
    shape = terms.operand(layer, 0).shape
    size = shape[1] // groups
    count = float(size * math.prod(shape[2:]))

    def element(tag: str) -> tuple[Expression, list[tuple[str, int]]]:
        names = [(f"{tag}{axis}", size if axis == 1 else shape[axis]) for axis in range(1, len(shape))]
        channel = terms.add(terms.multiply(group, size), Index(f"{tag}1"))
        return terms.load(layer, 0, [batch, channel, *(Index(name) for name, _ in names[1:])]), names

    body, names = element("m")
    mean = call("/", terms.reduction("sum", names, body), count)
    body, names = element("v")
    off = call("-", body, mean)
    variance = call("/", terms.reduction("sum", names, call("*", off, off)), count)
    return mean, _inverse_root(variance, real(layer, "epsilon", 1e-5))


def _moments_of_groups(layer: Layer) -> tuple[Computation, ...]:
    """The first half of GroupNormalization: two outputs, batch by groups. Ours."""
    batch, groups = terms.result(layer).shape
    mean, inverse = _group_moments(layer, groups, *terms.indices((batch, groups)))
    return elementwise.present(layer, lambda: mean, lambda: inverse)


def _with_moments(layer: Layer) -> tuple[Computation, ...]:
    """The second half: inputs x, scale, bias, and what the first half gave."""
    shape, groups = terms.operand(layer, 0).shape, terms.operand(layer, 3).shape[1]
    at = terms.indices(shape)
    group = terms.floordiv(at[1], shape[1] // groups)
    mean, inverse = (terms.load(layer, position, [at[0], group]) for position in (3, 4))
    normal = call("*", call("-", terms.load(layer, 0, at), mean), inverse)
    channel = at[1] if terms.operand(layer, 1).shape[0] == shape[1] else group
    return elementwise.only(layer, _affine(layer, normal, [channel]))


def _batch_normalization(layer: Layer) -> tuple[Computation, ...]:
    """While training, statistics are the batch's, and the running ones move towards them by 1 - momentum."""
    elementwise.refused(layer, not elementwise.flag(layer, "spatial", 1), "has statistics for each position")
    epsilon = real(layer, "epsilon", 1e-5)
    shape = terms.operand(layer, 0).shape
    at = terms.indices(shape)
    if not elementwise.flag(layer, "training_mode"):
        elementwise.refused(layer, len([o for o in layer.outputs if o is not None]) > 1, "gives training's outputs")
        mean, variance = terms.broadcast(layer, 3, [at[1]]), terms.broadcast(layer, 4, [at[1]])
        return elementwise.only(layer, _normalized(layer, at, mean, variance, epsilon))
    rest = [axis for axis in range(len(shape)) if axis != 1]
    mean, variance = _moments(reductions.span(layer, rest))
    momentum = real(layer, "momentum", 0.9)

    def running(position: int, tag: str) -> Expression:
        """The outputs of one dimension have the channel as their first index."""
        places = tuple(terms.index(0) if axis == 1 else terms.number(0) for axis in range(len(shape)))
        moments = _moments(Span(layer=layer, position=0, axes=tuple(rest), at=places))
        kept = terms.load(layer, position, [terms.index(0)])
        now = terms.cast(moments[0 if tag == "mean" else 1], terms.dtype_of(kept))
        return call("+", call("*", kept, momentum), call("*", now, 1 - momentum))

    return elementwise.present(
        layer,
        lambda: _normalized(layer, at, mean, variance, epsilon),
        lambda: running(3, "mean"),
        lambda: running(4, "variance"),
    )


def _normalized(layer: Layer, at: list[Expression], mean: Expression, variance: Expression, epsilon: float
                ) -> Expression:  # fmt: skip
    x = terms.load(layer, 0, at)
    dtype = terms.dtype_of(x)
    inverse = _inverse_root(terms.cast(variance, dtype), epsilon)
    normal = call("*", call("-", x, terms.cast(mean, dtype)), inverse)
    return _affine(layer, normal, [at[1]])


def _lp_normalization(layer: Layer) -> tuple[Computation, ...]:
    """x / norm, 0 where the norm is."""
    shape = terms.operand(layer, 0).shape
    over = reductions.span(layer, (terms.axis_of(layer, len(shape), -1),))
    element = over.element("r")
    if int(layer.attributes.get("p", 2)) == 1:
        norm = over.fold("sum", "r", call("abs", element))
    else:
        norm = call("sqrt", over.fold("sum", "r", call("*", element, element)))
    x = terms.load(layer, 0, terms.indices(shape))
    zero = terms.number(0.0, terms.dtype_of(x))
    return elementwise.only(layer, terms.select(call("==", norm, 0.0), zero, call("/", x, norm)))


def _mean_variance_normalization(layer: Layer) -> tuple[Computation, ...]:
    """(x - mean) / (deviation + 1e-9), as the operator's function body has it."""
    shape = terms.operand(layer, 0).shape
    axes = terms.integers(layer, "axes") or (0, 2, 3)
    mean, variance = _moments(reductions.span(layer, [axis % len(shape) for axis in axes]))
    off = call("-", terms.load(layer, 0, terms.indices(shape)), mean)
    return elementwise.only(layer, call("/", off, call("+", call("sqrt", variance), 1e-9)))


def _local_response(layer: Layer) -> tuple[Computation, ...]:
    """x / (bias + alpha / size * sum of the squares of the `size` channels around it) ** beta."""
    shape = terms.operand(layer, 0).shape
    at = terms.indices(shape)
    size = int(layer.attributes["size"])
    channel = terms.add(terms.subtract(at[1], (size - 1) // 2), Index("w"))
    element = terms.load(layer, 0, [at[0], channel, *at[2:]])
    inside = terms.within(channel, shape[1])
    square = terms.select(inside, call("*", element, element), terms.number(0.0, terms.dtype_of(element)))
    total = terms.reduction("sum", [("w", size)], square)
    scaled = call("+", call("*", total, real(layer, "alpha", 1e-4) / size), real(layer, "bias", 1.0))
    return elementwise.only(layer, call("/", terms.load(layer, 0, at), call("pow", scaled, real(layer, "beta", 0.75))))


LOWERINGS: Mapping[str, Lowering] = {
    "BatchNormalization": _batch_normalization,
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
    "LRN": _local_response,
    "LayerNormalization": _layer_normalization,
    "LpNormalization": _lp_normalization,
    "MeanVarianceNormalization": _mean_variance_normalization,
    "RMSNormalization": _rms_normalization,
}
OWN_LOWERINGS: Mapping[str, Lowering] = {
    "GroupMoments": _moments_of_groups,
    "GroupScale": _with_moments,
}
