"""Of signal processing: windows, the discrete Fourier transform as its plain sum, and the mel filter bank."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

from enginewright_builder.device.expression import Computation, Expression, Index
from enginewright_builder.device.operators import elementwise, terms
from enginewright_builder.device.operators.elementwise import flag
from enginewright_builder.device.operators.layer import Layer, Lowering
from enginewright_builder.device.operators.terms import call


def _real(term: Expression) -> Expression:
    return terms.cast(term, "float32")


def _scalar(layer: Layer, position: int) -> Expression:
    return terms.load(layer, position, [0] * len(terms.operand(layer, position).shape))


def _window(coefficients: Sequence[float], layer: Layer) -> tuple[Computation, ...]:
    """The sum over k of c[k] cos(2 pi k n / N), with N one less where the window is symmetric."""
    size = _real(_scalar(layer, 0))
    period = size if flag(layer, "periodic", 1) else call("-", size, 1.0)
    angle = call("/", call("*", _real(terms.index(0)), 2 * math.pi), period)
    value: Expression = terms.number(coefficients[0], "float32")
    for number, coefficient in enumerate(coefficients[1:], 1):
        value = call("+", value, call("*", call("cos", call("*", angle, float(number))), coefficient))
    return elementwise.only(layer, value)


def _fourier(layer: Layer) -> tuple[Computation, ...]:
    """The sum over n of x[n] exp(-+2 pi i k n / N), zeros behind the signal's end, over N if inverse.

    The last dimension holds real and imaginary parts; k * n is kept below N, so that angles stay exact.
    """
    shape, output = terms.operand(layer, 0).shape, terms.result(layer).shape
    axis = _fourier_axis(layer, len(shape))
    inverse, onesided = flag(layer, "inverse"), flag(layer, "onesided")
    length = _length(layer, shape[axis], output[axis], onesided=onesided, inverse=inverse)
    at = terms.indices(output)
    dtype = terms.computed(terms.operand(layer, 0).dtype)
    spectrum = onesided and inverse  # the second half of the spectrum is the first's conjugate, reversed
    count = length if spectrum else min(length, shape[axis])
    n = Index("n")
    mirrored = call("<", terms.number(length // 2), n) if spectrum else terms.number(False, "bool")
    place = terms.select(mirrored, terms.subtract(length, n), n)

    def part(which: int) -> Expression:
        if which == 1 and shape[-1] == 1:
            return terms.number(0.0, dtype)
        places = [place if d == axis else which if d == len(shape) - 1 else one for d, one in enumerate(at)]
        element = terms.load(layer, 0, places)
        return terms.select(mirrored, call("neg", element), element) if which else element

    turn = terms.cast(terms.modulo(terms.multiply(at[axis], n), length), dtype)
    angle = call("*", turn, (2 if inverse else -2) * math.pi / length)
    cosine, sine = call("cos", angle), call("sin", angle)
    real, imaginary = part(0), part(1)
    values = [
        call("-", call("*", real, cosine), call("*", imaginary, sine)),
        call("+", call("*", real, sine), call("*", imaginary, cosine)),
    ][: output[-1]]
    total = terms.reduction("sum", [("n", count)], terms.chosen(values, terms.index(len(shape) - 1)))
    return elementwise.only(layer, call("/", total, float(length)) if inverse else total)


def _fourier_axis(layer: Layer, rank: int) -> int:
    """An attribute before opset 20 (1 by default), an input since (the last but one by default)."""
    if layer.opset < 20:
        return terms.axis_of(layer, rank, 1)
    given = terms.settled(layer, 2, "axis")
    return (given[0] if given else -2) % rank


def _length(layer: Layer, given: int, made: int, *, onesided: bool, inverse: bool) -> int:
    if not onesided or inverse:
        return made
    length = terms.settled(layer, 1, "dft_length")
    return length[0] if length else given


def _mel_weights(layer: Layer) -> tuple[Computation, ...]:
    """Triangles that stand evenly on the mel scale, 2595 log10(1 + f / 700), over the spectrum's bins (rows)."""
    bins, rows = terms.result(layer).shape[1], terms.result(layer).shape[0]
    length, rate, low, high = (_real(_scalar(layer, position)) for position in range(1, 5))
    mel = terms.cast(terms.index(1), "float32") if bins > 1 else terms.number(0.0, "float32")
    row = terms.cast(terms.index(0), "float32") if rows > 1 else terms.number(0.0, "float32")
    first, last = _to_mel(low), _to_mel(high)
    step = call("/", call("-", last, first), float(bins + 2))

    def edge(number: float) -> Expression:
        """The bin of the triangles' corner: corners lie `step` mels apart."""
        at = call("+", call("*", call("+", mel, number), step), first)
        hertz = call("*", call("-", call("exp", call("*", at, math.log(10) / 2595)), 1.0), 700.0)
        return call("floor", call("/", call("*", call("+", length, 1.0), hertz), rate))

    lower, center, upper = edge(0.0), edge(1.0), edge(2.0)
    zero, one = terms.number(0.0, "float32"), terms.number(1.0, "float32")
    rising = terms.select(call("==", center, lower), one, call("/", call("-", row, lower), call("-", center, lower)))
    falling = call("/", call("-", upper, row), call("-", upper, center))
    below = terms.both(call("<=", lower, row), call("<=", row, center))
    above = terms.both(call("<", center, row), call("<", row, upper))
    at_peak = terms.both(call("==", center, lower), call("!=", row, center))
    value = terms.select(below, terms.select(at_peak, zero, rising), terms.select(above, falling, zero))
    return elementwise.only(layer, value)


def _to_mel(hertz: Expression) -> Expression:
    return call("*", call("log1p", call("/", hertz, 700.0)), 2595 / math.log(10))


LOWERINGS: Mapping[str, Lowering] = {
    "BlackmanWindow": partial(_window, (0.42, -0.5, 0.08)),
    "DFT": _fourier,
    "HammingWindow": partial(_window, (25 / 46, -21 / 46)),
    "HannWindow": partial(_window, (0.5, -0.5)),
    "MelWeightMatrix": _mel_weights,
}
