"""Layers that slide a window: convolution, deconvolution, pooling, local response normalization, resizing.

Tensors are (batch, channels, spatial…), of one, two or three spatial dimensions. A stride, padding or window is one
number for all of these or one for each; a padding may also be all beginnings and then all ends, or "same".
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from enginewright_builder.network import text
from enginewright_builder.network.definition import sizes
from enginewright_builder.network.definition.sizes import Sizes
from enginewright_builder.network.definition.writer import Tensor, Weights, Writer
from enginewright_runtime.errors import UsageError

Padding = Sizes | str

_POOLS: Mapping[str, str] = MappingProxyType({"max": "MaxPool", "average": "AveragePool"})
_RESIZES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"nearest": {"nearest_mode": "floor"}, "linear": {}, "cubic": {}}
)
_COORDINATES: Mapping[str, str] = MappingProxyType(
    {"half_pixel": "half_pixel", "align_corners": "align_corners", "asymmetric": "asymmetric"}
)


class WindowLayers(Writer):
    """See the module."""

    def add_convolution(
        self,
        x: Tensor,
        maps: int,
        kernel_shape: Sizes,
        kernel: Weights,
        bias: Weights | None = None,
        *,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        name: str = "",
    ) -> Tensor:
        """`maps` feature maps; `kernel` is (maps, channels / groups, *kernel_shape), `bias` (maps,)."""
        layer = self.named(name, "convolution")
        channels, window = self._window(x, maps, kernel_shape, groups, layer)
        inputs = [x, self.weights(kernel, (maps, channels // groups, *window), x, layer=layer, role="kernel")]
        if bias is not None:
            inputs.append(self.weights(bias, (maps,), x, layer=layer, role="bias"))
        attributes = {"kernel_shape": window, "group": groups, **_dilations(dilation, window, layer)}
        attributes |= _sliding(stride, padding, window, layer)
        _require_room(x, attributes, layer)
        return self.one(layer, "Conv", inputs, attributes)

    def add_deconvolution(
        self,
        x: Tensor,
        maps: int,
        kernel_shape: Sizes,
        kernel: Weights,
        bias: Weights | None = None,
        *,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        name: str = "",
    ) -> Tensor:
        """The transposed convolution; `kernel` is (channels, maps / groups, *kernel_shape), `bias` (maps,)."""
        layer = self.named(name, "deconvolution")
        channels, window = self._window(x, maps, kernel_shape, groups, layer)
        inputs = [x, self.weights(kernel, (channels, maps // groups, *window), x, layer=layer, role="kernel")]
        if bias is not None:
            inputs.append(self.weights(bias, (maps,), x, layer=layer, role="bias"))
        attributes = {"kernel_shape": window, "group": groups, **_dilations(dilation, window, layer)}
        return self.one(layer, "ConvTranspose", inputs, attributes | _sliding(stride, padding, window, layer))

    def add_pooling(
        self,
        x: Tensor,
        kind: str,
        window: Sizes | None = None,
        *,
        stride: Sizes | None = None,
        padding: Padding = 0,
        count_padding: bool = False,
        round_up: bool = False,
        name: str = "",
    ) -> Tensor:
        """The "max" or "average" of each window, that moves by itself unless a stride is given; no window: of all.

        `count_padding`: padding counts in averages. `round_up`: a window that begins in the tensor and ends outside
        of it counts, as in Caffe.
        """
        layer = self.named(name, "pooling")
        operator = sizes.chosen(_POOLS, kind, "A pooling")
        rank = len(sizes.of(x, layer, least=3, most=5)) - 2
        if window is None:
            return self.one(layer, f"Global{operator}", [x])
        kernel = sizes.each(window, rank, layer, "window")
        attributes = {"kernel_shape": kernel, **_sliding(stride or kernel, padding, kernel, layer)}
        _require_room(x, attributes, layer)
        if any(pad >= size for pad, size in zip(attributes.get("pads", ()), 2 * kernel, strict=False)):
            raise UsageError(f"The layer {layer!r} pads its window of {kernel} by {padding}: a window would be empty.")
        if operator == "AveragePool":
            attributes["count_include_pad"] = int(count_padding)
        return self.one(layer, operator, [x], attributes | {"ceil_mode": int(round_up)})

    def add_lrn(
        self, x: Tensor, window: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, *, name: str = ""
    ) -> Tensor:
        """x / (k + alpha / window * sum of squares of `window` channels around)^beta. Krizhevsky et al. 2012."""
        layer = self.named(name, "lrn")
        sizes.of(x, layer, least=3)
        if window < 1 or window % 2 == 0:
            raise UsageError(f"The layer {layer!r} takes an odd window of channels, got {window}.")
        return self.one(layer, "LRN", [x], {"size": window, "alpha": alpha, "beta": beta, "bias": k})

    def add_resize(
        self,
        x: Tensor,
        *,
        shape: Sequence[int] | None = None,
        scales: Sequence[float] | None = None,
        mode: str = "nearest",
        coordinates: str = "half_pixel",
        name: str = "",
    ) -> Tensor:
        """To a shape, or by scales, of all dimensions; "nearest", "linear" or "cubic", as ONNX's Resize has it."""
        layer = self.named(name, "resize")
        rank = len(sizes.of(x, layer))
        given = scales if shape is None else shape
        if (shape is None) == (scales is None) or given is None or len(given) != rank or min(given, default=1) <= 0:
            raise UsageError(f"The layer {layer!r} takes a shape or scales, {rank} positive numbers, got {given}.")
        attributes = {
            "mode": mode,
            "coordinate_transformation_mode": sizes.chosen(_COORDINATES, coordinates, "Coordinates of a resize"),
            **sizes.chosen(_RESIZES, mode, "The mode of a resize"),
        }
        if shape is not None:
            target = self.numbers(np.array(shape, np.int64), layer, "shape")
            return self.one(layer, "Resize", [x, None, None, target], attributes)
        return self.one(
            layer, "Resize", [x, None, self.numbers(np.array(scales, np.float32), layer, "scales")], attributes
        )

    def _window(self, x: Tensor, maps: int, shape: Sizes, groups: int, layer: str) -> tuple[int, list[int]]:
        """The channels of the input and the window of its kernel."""
        self.own(x, layer)
        rank = len(sizes.of(x, layer, least=3, most=5)) - 2
        channels = sizes.fixed(x, 1, layer)
        if maps < 1 or groups < 1 or channels % groups or maps % groups:
            raise UsageError(
                f"The layer {layer!r} cannot make {maps} maps of {channels} channels in {groups} groups: groups must "
                "divide both."
            )
        return channels, sizes.each(shape, rank, layer, "kernel shape")


def _require_room(x: Tensor, attributes: Mapping[str, Any], layer: str) -> None:
    """Raises UsageError for a window that is larger than the padded input: inference lets some through."""
    window = attributes["kernel_shape"]
    dilations, pads = attributes.get("dilations", [1] * len(window)), attributes.get("pads")
    for place, size in enumerate(sizes.of(x, layer)[2:]):
        room = size + pads[place] + pads[len(window) + place] if pads and isinstance(size, int) else None
        wanted = (window[place] - 1) * dilations[place] + 1
        if room is not None and wanted > room:
            raise UsageError(
                f"The layer {layer!r} has a window of {wanted} over dimension {place + 2} of {x.name!r} "
                f"{text.type_text(x)}, which has {room} with its padding."
            )


def _dilations(dilation: Sizes, window: Sequence[int], layer: str) -> dict[str, list[int]]:
    return {"dilations": sizes.each(dilation, len(window), layer, "dilation")}


def _sliding(stride: Sizes, padding: Padding, window: Sequence[int], layer: str) -> dict[str, Any]:
    """The attributes strides and pads; pads are all beginnings, then all ends."""
    rank = len(window)
    strides = {"strides": sizes.each(stride, rank, layer, "stride")}
    if isinstance(padding, str):
        return strides | {"auto_pad": sizes.chosen({"same": "SAME_UPPER"}, padding, "A padding in words")}
    if not isinstance(padding, int) and len(padding) == 2 * rank and rank > 1:
        return strides | {"pads": sizes.each(padding, 2 * rank, layer, "padding", least=0)}
    return strides | {"pads": sizes.each(padding, rank, layer, "padding", least=0) * 2}
