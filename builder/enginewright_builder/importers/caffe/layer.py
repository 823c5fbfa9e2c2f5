"""A layer of Caffe on its way into the network: what it reads, its parameters, and its trained blobs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from enginewright_builder.importers.caffe import weights
from enginewright_builder.importers.caffe.writing import Blob, Writer
from enginewright_runtime.errors import ModelError, UnsupportedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer. `tops` is how many blobs it makes; `stored` are its blobs in the caffemodel, perhaps none."""

    name: str
    type: str
    bottoms: tuple[Blob, ...]
    tops: int
    message: Any
    stored: tuple[weights.Blob, ...]
    write: Writer

    @property
    def x(self) -> Blob:
        """The first bottom."""
        return self.bottoms[0]

    def wrong(self, reason: str) -> NoReturn:
        """Raise ModelError: what the layer says cannot be."""
        raise ModelError(f"Layer {self.name!r} ({self.type}) does not hold together: {reason}; mend the prototxt.")

    def refuse(self, reason: str) -> NoReturn:
        """Raise UnsupportedError: what the layer says can be, and is not built."""
        raise UnsupportedError(f"Layer {self.name!r} ({self.type}) cannot be built: {reason}.")

    def axis(self, axis: int, *, end: bool = False, bottom: int = 0) -> int:
        """An axis of a bottom, counted from the front; with `end` the one behind the last may be named too."""
        rank = len(self.bottoms[bottom].shape)
        found = axis + rank if axis < 0 else axis
        if not 0 <= found < rank + end:
            self.wrong(f"it names the axis {axis} of a blob of {rank}")
        return found

    def weight(self, index: int, shape: Sequence[int], *, filler: Any = None) -> weights.Floats:
        """The trained blob of that number in `shape`, float32.

        A layer without any blob in the caffemodel keeps what its filler gives, as in Caffe, where the prototxt names
        one that is no chance.
        """
        wanted = tuple(shape)
        if not self.stored and filler is not None and filler.ListFields():
            return _filled(self, wanted, filler)
        if index >= len(self.stored):
            self._no_blob(index, wanted)
        blob = self.stored[index]
        # The old four dimensions stand for fewer with ones in front.
        if _without_ones(blob.shape) != _without_ones(wanted):
            raise ModelError(
                f"Layer {self.name!r} ({self.type}) takes the blob {index} in the shape {list(wanted)}, and the model "
                f"has {list(blob.shape)}: give the prototxt that the model was trained with."
            )
        return blob.array().reshape(wanted)

    def _no_blob(self, index: int, wanted: tuple[int, ...]) -> NoReturn:
        raise ModelError(
            f"Layer {self.name!r} ({self.type}) takes the blob {index} in the shape {list(wanted)}, and the model "
            f"holds {len(self.stored)} blobs for it: give the caffemodel that belongs to the prototxt."
        )


def _filled(layer: Layer, shape: tuple[int, ...], filler: Any) -> weights.Floats:
    if math.prod(shape) >= 1 << 28:
        layer.refuse(f"its filler would make a blob of the shape {list(shape)}")
    if filler.type == "constant":
        return np.full(shape, filler.value, dtype=np.float32)
    if filler.type == "bilinear" and len(shape) == 4 and shape[2] == shape[3]:
        factor = math.ceil(shape[3] / 2)
        center = (2 * factor - 1 - factor % 2) / (2 * factor)
        slope = 1 - np.abs(np.arange(shape[3]) / factor - center)
        return np.broadcast_to(np.outer(slope, slope), shape).astype(np.float32)
    raise ModelError(
        f"Layer {layer.name!r} ({layer.type}) has no blobs in the model, and its filler {filler.type!r} is chance: "
        "give the caffemodel that belongs to the prototxt."
    )


def _without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
