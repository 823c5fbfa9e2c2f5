"""Sliding windows: which elements of the input a tap of the window meets for an output's indices, or, for transposed
windows, which element of the input reaches an output through a tap.

Paddings of auto_pad follow from the output's shape: ONNX operators Conv, ConvTranspose, MaxPool (https://onnx.ai/onnx).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from enginewright_builder.device.expression import Expression
from enginewright_builder.device.operators import terms
from enginewright_builder.device.operators.layer import Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One entry a spatial dimension. `extents` are the input's, `outputs` the output's; `ends` are the paddings asked
    for behind, which the last window may not reach, or pass by in ceil mode."""

    extents: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def rank(self) -> int:
        """Spatial dimensions."""
        return len(self.extents)

    @property
    def axes(self) -> list[tuple[str, int]]:
        """The reduction over the taps."""
        return [(f"tap{k}", extent) for k, extent in enumerate(self.kernel)]

    @property
    def taps(self) -> list[Expression]:
        """The index variables of those axes."""
        return [terms.axis(*each) for each in self.axes]


def of(
    layer: Layer, extents: Sequence[int], outputs: Sequence[int], kernel: Sequence[int], *, pools: bool = False
) -> Window:
    """The window of a convolution or pooling. Where strides jump over elements, auto_pad makes the first and the last
    window of a pooling begin further inside, as ONNX's formula says; a convolution's begin at the edge."""
    rank = len(extents)
    strides = terms.integers(layer, "strides") or (1,) * rank
    dilations = terms.integers(layer, "dilations") or (1,) * rank
    pads = terms.integers(layer, "pads") or (0,) * (2 * rank)
    automatic = str(layer.attributes.get("auto_pad") or "NOTSET")
    if automatic != "NOTSET":
        pads = (0,) * (2 * rank)
    if automatic.startswith("SAME"):
        spans = [(taps - 1) * dilation + 1 for taps, dilation in zip(kernel, dilations, strict=True)]
        totals = [
            (-(-size // stride) - 1) * stride + span - size
            for size, stride, span in zip(extents, strides, spans, strict=True)
        ]
        totals = totals if pools else [max(0, total) for total in totals]
        pads = _shared(totals, upper=automatic == "SAME_UPPER")
    return Window(
        extents=tuple(extents),
        outputs=tuple(outputs),
        kernel=tuple(kernel),
        strides=strides,
        dilations=dilations,
        begins=pads[:rank],
        ends=pads[rank:],
    )


def of_transposed(layer: Layer, extents: Sequence[int], outputs: Sequence[int], kernel: Sequence[int]) -> Window:
    """The window of a ConvTranspose, `extents` being its input's."""
    rank = len(extents)
    strides = terms.integers(layer, "strides") or (1,) * rank
    dilations = terms.integers(layer, "dilations") or (1,) * rank
    more = terms.integers(layer, "output_padding") or (0,) * rank
    pads = terms.integers(layer, "pads") or (0,) * (2 * rank)
    automatic = str(layer.attributes.get("auto_pad") or "NOTSET")
    if automatic == "VALID":
        pads = (0,) * (2 * rank)
    if automatic.startswith("SAME") or terms.integers(layer, "output_shape"):
        totals = [
            max(0, stride * (size - 1) + extra + (taps - 1) * dilation + 1 - output)
            for stride, size, extra, taps, dilation, output in zip(
                strides, extents, more, kernel, dilations, outputs, strict=True
            )
        ]
        pads = _shared(totals, upper=automatic == "SAME_UPPER")
    return Window(
        extents=tuple(extents),
        outputs=tuple(outputs),
        kernel=tuple(kernel),
        strides=strides,
        dilations=dilations,
        begins=pads[:rank],
        ends=pads[rank:],
    )


def _shared(totals: Sequence[int], *, upper: bool) -> tuple[int, ...]:
    begins = [int((total if upper else total + 1) / 2) for total in totals]  # towards zero
    return (*begins, *(total - begin for total, begin in zip(totals, begins, strict=True)))


def met(window: Window, at: Sequence[Expression]) -> tuple[list[Expression], Expression]:
    """The places in the input that a tap meets at the output's spatial indices, and whether all are inside."""
    places: list[Expression] = []
    inside: list[Expression] = []
    for k, (here, tap) in enumerate(zip(at, window.taps, strict=True)):
        place = terms.add(start(window, here, k), terms.multiply(tap, window.dilations[k]))
        if window.begins[k] > 0:
            inside.append(terms.call("<=", 0, place))
        if last(window, k) >= window.extents[k]:
            inside.append(terms.call("<", place, window.extents[k]))
        places.append(place)
    return places, terms.both(*inside)


def start(window: Window, here: Expression, k: int) -> Expression:
    """Where the window of an output begins in dimension k of the input; negative inside of the padding."""
    return terms.subtract(terms.multiply(here, window.strides[k]), window.begins[k])


def last(window: Window, k: int) -> int:
    """The last place in dimension k that any tap meets."""
    reach = (window.kernel[k] - 1) * window.dilations[k]
    return (window.outputs[k] - 1) * window.strides[k] - window.begins[k] + reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What reaches an output of a transposed window: the reduction's axes, the tap and the place in the input of each
    of its steps, and whether there is such a tap and place."""

    axes: list[tuple[str, int]]
    taps: list[Expression]
    places: list[Expression]
    exists: Expression


def reached(window: Window, at: Sequence[Expression]) -> Reached:
    """output * 1 + begin = place * stride + tap * dilation, solved for the place.

    Without dilation only every stride-th tap can reach an output, and only those are stepped through.
    """
    axes: list[tuple[str, int]] = []
    taps: list[Expression] = []
    places: list[Expression] = []
    exists: list[Expression] = []
    for k, here in enumerate(at):
        stride, taps_here = window.strides[k], window.kernel[k]
        target = terms.add(here, window.begins[k])
        if window.dilations[k] == 1:
            steps = -(-taps_here // stride)
            step = terms.axis(f"tap{k}", steps)
            tap = terms.add(terms.call("%", target, stride), terms.multiply(step, stride))
            place = terms.subtract(terms.call("//", target, stride), step)
            if taps_here % stride:
                exists.append(terms.call("<", tap, taps_here))
        else:
            steps = taps_here
            tap = terms.axis(f"tap{k}", steps)
            away = terms.subtract(target, terms.multiply(tap, window.dilations[k]))
            place = terms.floordiv(away, stride)
            exists.append(terms.call("==", terms.modulo(away, stride), 0))
        exists.append(terms.within(place, window.extents[k]))
        axes.append((f"tap{k}", steps))
        taps.append(tap)
        places.append(place)
    return Reached(axes=axes, taps=taps, places=places, exists=terms.both(*exists))
