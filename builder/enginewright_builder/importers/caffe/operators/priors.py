"""PriorBox: SSD's boxes to start from. They follow from shapes alone, so they are a constant."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from enginewright_builder.importers.caffe.layer import Layer
from enginewright_builder.importers.caffe.writing import Blob

Doubles = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
_MOST = 1 << 20  # boxes, 100 bytes each on the way: the largest published detectors have 10^5


def prior_box(layer: Layer) -> Sequence[Blob]:
    """[1, 2, 4 boxes]: corners as shares of the image, then their variances; cell by cell, row by row.

    A cell has for each min_size a square of it, one of the geometric mean with its max_size, and one box an aspect
    ratio. Source: the layer of W. Liu et al., SSD: Single Shot MultiBox Detector (2016).
    """
    given = layer.message.prior_box_param
    if any(len(bottom.shape) != 4 for bottom in layer.bottoms):
        layer.wrong("it takes two blobs of [N, C, H, W], the feature map and the image")
    rows, columns = layer.x.shape[2:]
    sizes = _sizes(layer, given)
    if rows * columns * len(sizes) > _MOST:
        layer.refuse(f"it makes {rows * columns * len(sizes)} boxes, and at most {_MOST} are")
    height, width = _pair(given, "img_size", "img_h", "img_w") or layer.bottoms[1].shape[2:]
    step = _pair(given, "step", "step_h", "step_w") or (height / rows, width / columns)
    y, x = ((np.arange(count) + given.offset) * each for count, each in zip((rows, columns), step, strict=True))
    half = sizes / 2
    centre_y, centre_x = np.meshgrid(y, x, indexing="ij")
    low_x, high_x = (centre_x[..., None] + sign * half[:, 0] for sign in (-1, 1))
    low_y, high_y = (centre_y[..., None] + sign * half[:, 1] for sign in (-1, 1))
    corners = np.stack([low_x / width, low_y / height, high_x / width, high_y / height], axis=-1)
    if given.clip:
        corners = corners.clip(0, 1)
    both = np.stack([corners.reshape(-1), _variances(layer, given, corners.size)]).astype(np.float32)[None]
    return [Blob(layer.write.constant(both, "boxes"), both.shape)]


def _sizes(layer: Layer, given: Any) -> Doubles:
    """Width and height in pixels of the boxes of one cell."""
    ratios = [1.0]
    for ratio in given.aspect_ratio:
        if not 0 < ratio < math.inf:
            layer.wrong(f"it has an aspect ratio of {ratio}")
        for each in (ratio, 1 / ratio) if given.flip else (ratio,):
            if all(abs(each - known) >= 1e-6 for known in ratios):
                ratios.append(each)
    small, large = list(given.min_size), list(given.max_size)
    if not small or len(large) not in (0, len(small)) or min(small) <= 0:
        layer.wrong(f"it has the smallest sizes {small} and the largest {large}")
    if any(b <= a for a, b in zip(small, large, strict=False)):
        layer.wrong(f"its largest sizes {large} are not above its smallest {small}")
    boxes: list[tuple[float, float]] = []
    for index, size in enumerate(small):
        boxes.append((size, size))
        if large:
            boxes.append((math.sqrt(size * large[index]),) * 2)
        boxes += [(size * math.sqrt(ratio), size / math.sqrt(ratio)) for ratio in ratios[1:]]
    return np.array(boxes)


def _variances(layer: Layer, given: Any, count: int) -> Doubles:
    variances = list(given.variance) or [0.1]
    if len(variances) not in (1, 4) or min(variances) <= 0:
        layer.wrong(f"it has the variances {variances}, wanted one or four above 0")
    return np.resize(np.array(variances), count)


def _pair(given: Any, one: str, first: str, second: str) -> tuple[float, float] | None:
    """A number for both axes, or one for each; None where none is given."""
    both = getattr(given, one)
    pair = (both or getattr(given, first), both or getattr(given, second))
    return pair if all(number > 0 for number in pair) else None
