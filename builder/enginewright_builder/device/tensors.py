"""A tensor on the device as tactics see it: its logical shape in ONNX's order, and where its elements lie."""

import itertools
import math
from dataclasses import dataclass

ITEM_BYTES = {
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2,
    "int32": 4, "uint32": 4, "int64": 8, "uint64": 8, "bool": 1, "float8_e4m3fn": 1, "float8_e4m3fnuz": 1,
    "float8_e5m2": 1, "float8_e5m2fnuz": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorType:
    """dtype (NumPy's or ml_dtypes' name), logical shape, and strides in elements, one a dimension.

    An NHWC activation has the shape (n, c, h, w) and the strides (h*w*c, 1, w*c, c). A slice of a wider buffer has that
    buffer's strides; where it begins is the pointer's business, but for `alignment`: its address is a multiple of so
    many bytes (a power of two), which decides how wide loads may be.
    """

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    alignment: int = 16

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def span_bytes(self) -> int:
        """Bytes from the first element to behind the last."""
        if not self.size:
            return 0
        last = sum((extent - 1) * stride for extent, stride in zip(self.shape, self.strides, strict=True))
        return (last + 1) * ITEM_BYTES[self.dtype]

    @property
    def is_contiguous(self) -> bool:
        """Whether it lies in C order without gaps."""
        return self.strides == row_major(self.shape)

    @property
    def is_channels_last(self) -> bool:
        """Whether dimension 1 varies fastest and the others follow in their order, however wide the pixels' stride."""
        if len(self.shape) < 3 or self.strides[1] != 1:
            return False
        outer = (self.strides[0], *self.strides[2:])
        return all(a >= b for a, b in itertools.pairwise(outer)) and self.strides[-1] >= self.shape[1]


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of C order."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= max(extent, 1)
    return tuple(reversed(strides))


def channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides with dimension 1 innermost (NHWC, NDHWC, NWC). The rank must be 3 or more."""
    order = (0, *range(2, len(shape)), 1)
    strides, step = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return tuple(strides)


def plain(dtype: str, shape: tuple[int, ...]) -> TensorType:
    """A tensor in C order."""
    return TensorType(dtype=dtype, shape=shape, strides=row_major(shape))
