"""ResizeBicubic, to the last bit of its weights (tensorflow/core/kernels/image/resize_bicubic_op.cc).

TensorFlow rounds a place between two pixels to 1/1024, which ONNX's Resize does not: so the four pixels along an axis
are gathered, and weighted by constants. That takes sizes that are known.
"""

from typing import Any

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.tensorflow.call import Call, Table
from enginewright_builder.importers.tensorflow.scope import Tensor

_STEPS = 1024
_LARGEST = 1 << 16  # rows or columns of an image
Floats = np.ndarray[Any, np.dtype[np.float32]]
Places = np.ndarray[Any, np.dtype[np.int64]]


def _resize(call: Call) -> list[Tensor]:
    """(images NHWC, [height, width]) -> float32."""
    scope, x, wanted = call.scope, call.inputs[0], call.numbers(1, "size")
    shape = scope.shape(x)
    sizes = [size for size in (shape or ())[1:3] if size is not None]
    if len(sizes) != 2 or len(wanted) != 2:
        raise call.refuse("resizes images of a size that is not known: export the model with it")
    if not all(0 < size <= _LARGEST for size in (*sizes, *wanted)):
        raise call.refuse(f"resizes images of {sizes} to {list(wanted)}, wanted 1 to {_LARGEST} each")
    value = scope.put("Cast", scope.turned(x, 4), to=ir.DataType.FLOAT)
    for axis, (size, count) in enumerate(zip(sizes, wanted, strict=True), start=2):
        places, weights = _samples(call, size, count)
        terms = []
        for place, weight in zip(places, weights, strict=True):
            along = scope.constant(weight.reshape(1, 1, *((count, 1) if axis == 2 else (1, count))))
            terms.append(scope.put("Mul", scope.put("Gather", value, scope.constant(place), axis=axis), along))
        value = scope.put("Sum", *terms)
    return [Tensor(first=value, rank=4)]


def _samples(call: Call, size: int, count: int) -> tuple[Places, Floats]:
    """Of each of `count` samples along an axis of `size`: the four pixels [4, count], and how much each counts."""
    aligned, half = call.flag("align_corners") and count > 1, call.flag("half_pixel_centers")
    scale = np.float32(size - 1) / np.float32(count - 1) if aligned else np.float32(size) / np.float32(count)
    steps = np.arange(count, dtype=np.float32)
    place = (steps + np.float32(0.5)) * scale - np.float32(0.5) if half else steps * scale
    low = np.floor(place)
    share = np.rint((place - low) * np.float32(_STEPS)) / _STEPS
    near = -0.5 if half else -0.75  # Keys's kernel, and the older one
    weights = np.stack([_far(share, near), _near(share, near), _near(1 - share, near), _far(1 - share, near)])
    wanted = low.astype(np.int64) + np.arange(-1, 3)[:, np.newaxis]
    places = wanted.clip(0, size - 1)
    if half:  # what lies outside does not count
        weights = np.where(places == wanted, weights, 0)
        weights = weights / weights.sum(axis=0)
    return places, weights.astype(np.float32)


def _near(x: Any, a: float) -> Any:
    """The kernel of a pixel that is at most one away."""
    return ((a + 2) * x - (a + 3)) * x * x + 1


def _far(x: Any, a: float) -> Any:
    """The kernel of a pixel that is one more away."""
    x = x + 1
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a


TABLE: Table = {"ResizeBicubic": _resize}
