"""The geometry of sliding windows: strides, pads and dilations of a convolution, with auto_pad resolved. Pure.

ONNX operator Conv, https://onnx.ai/onnx/operators/onnx__Conv.html.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """`pads` has all beginnings, then all ends."""

    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]


def of_convolution(node: ir.Node, x: Sequence[int], weights: Sequence[int]) -> Window:
    """The window of a Conv or FusedConv whose input has the shape `x` and weights `weights`."""
    rank = len(x) - 2
    strides = tuple(node.attributes.get_ints("strides", (1,) * rank))
    dilations = tuple(node.attributes.get_ints("dilations", (1,) * rank))
    pads = tuple(node.attributes.get_ints("pads", (0,) * (2 * rank)))
    automatic = node.attributes.get_string("auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same(x[2:], weights[2:], strides, dilations, upper=automatic == "SAME_UPPER")
    elif automatic == "VALID":
        pads = (0,) * (2 * rank)
    return Window(strides=strides, pads=pads, dilations=dilations)


def _same(
    x: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], *, upper: bool
) -> tuple[int, ...]:
    """Such pads that the output has ceil(input / stride) elements."""
    begins, ends = [], []
    for size, taps, stride, dilation in zip(x, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size)
        small, large = total // 2, total - total // 2
        begins.append(small if upper else large)
        ends.append(large if upper else small)
    return (*begins, *ends)
