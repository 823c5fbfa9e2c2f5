"""Operands of the Hopper matrix kernels: where rows or windows lie, and the copy engine's (TMA) tensor maps for them.

It knows the limits of cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col (CUDA driver API) and must say no to whatever
they would refuse: a plan's tensor maps are encoded only where it runs. Pure.
"""

from dataclasses import dataclass

from enginewright_builder.device.tensors import TensorType
from enginewright_runtime.engine.cuda.program import Im2col, Pointer, Space, TensorMap

UNIT = 8  # elements of 16 bytes: every stride but the innermost is a multiple, or the copy engine refuses


def operand(number: int) -> Pointer:
    """The pointer to an operand of the problem."""
    return Pointer(space=Space.OPERAND, name=str(number))


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """`rows` rows of `columns` contiguous elements, `stride` elements apart; two batch dimensions (inner, outer)."""

    pointer: Pointer
    dtype: str
    rows: int
    columns: int
    stride: int
    extents: tuple[int, int] = (1, 1)
    apart: tuple[int, int] = (0, 0)

    @property
    def item(self) -> int:
        """Bytes an element."""
        return 4 if self.dtype == "float32" else 2

    @property
    def addressable(self) -> bool:
        """Whether the copy engine takes these strides."""
        steps = [self.stride] if self.rows > 1 else []
        steps += [apart for extent, apart in zip(self.extents, self.apart, strict=True) if extent > 1]
        return all(step > 0 and step * self.item % 16 == 0 for step in steps)

    def tensor_map(self, box: tuple[int, int], swizzle: int, *, batched: bool) -> TensorMap:
        """`box` is (columns, rows)."""
        dims: tuple[int, ...] = (self.columns, self.rows)
        strides: tuple[int, ...] = (self._bytes(self.stride, self.rows),)
        shape: tuple[int, ...] = box
        if batched:
            dims += self.extents
            strides += tuple(self._bytes(a, e) for a, e in zip(self.apart, self.extents, strict=True))
            shape += (1, 1)
        return TensorMap(
            pointer=self.pointer, dtype=self.dtype, dims=dims, strides=strides, box=shape,
            element_strides=(1,) * len(dims), swizzle=swizzle, l2_promotion=256,
        )  # fmt: skip

    def _bytes(self, step: int, extent: int) -> int:
        """A dimension of one element has a stride that is never used, but must be a valid one."""
        return step * self.item if extent > 1 else -(-self.columns * self.item // 16) * 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """A picture in NHWC, read window by window. All pairs are (vertical, horizontal)."""

    pointer: Pointer
    picture: TensorType  # (n, c, h, w)
    kernel: tuple[int, int]
    stride: tuple[int, int]
    begin: tuple[int, int]
    end: tuple[int, int]
    dilation: tuple[int, int]

    @property
    def taps(self) -> int:
        """Pixels a window."""
        return self.kernel[0] * self.kernel[1]

    @property
    def reach(self) -> tuple[int, int]:
        """From the first tap to the last, in pixels."""
        return ((self.kernel[0] - 1) * self.dilation[0], (self.kernel[1] - 1) * self.dilation[1])

    @property
    def addressable(self) -> bool:
        """Whether im2col mode takes it: corners of 8 bits, strides up to 8 (CUDA, cuTensorMapEncodeIm2col)."""
        n, _, h, w = self.picture.shape
        steps = [s for extent, s in zip((n, h, w), self._steps(), strict=True) if extent > 1]
        corners = [corner for b, e, r in zip(self.begin, self.end, self.reach, strict=True) for corner in (-b, e - r)]
        return (
            self.picture.strides[1] == 1
            and all(step > 0 and step % UNIT == 0 for step in steps)
            and all(-128 <= corner <= 127 for corner in corners)
            and max(self.reach) <= 255
            and max(self.stride) <= 8
        )

    def tensor_map(self, channels: int, pixels: int) -> TensorMap:
        """A column is `pixels` windows, each `channels` channels of one tap."""
        n, c, h, w = self.picture.shape
        return TensorMap(
            pointer=self.pointer, dtype=self.picture.dtype, dims=(c, w, h, n), strides=_apart(self.picture),
            element_strides=(1, self.stride[1], self.stride[0], 1), swizzle=2 * channels, l2_promotion=256,
            im2col=Im2col(
                lower=(-self.begin[1], -self.begin[0]),
                upper=(self.end[1] - self.reach[1], self.end[0] - self.reach[0]),
                channels=channels, pixels=pixels,
            ),
        )  # fmt: skip

    def _steps(self) -> tuple[int, int, int]:
        return self.picture.strides[0], self.picture.strides[2], self.picture.strides[3]


def picture_map(pointer: Pointer, picture: TensorType, box: tuple[int, int, int, int], swizzle: int) -> TensorMap:
    """Of a picture in NHWC, read or written in boxes of (channels, columns, rows, images)."""
    n, c, h, w = picture.shape
    return TensorMap(
        pointer=pointer, dtype=picture.dtype, dims=(c, w, h, n), strides=_apart(picture), box=box,
        element_strides=(1, 1, 1, 1), swizzle=swizzle, l2_promotion=256,
    )  # fmt: skip


def _apart(picture: TensorType) -> tuple[int, int, int]:
    """Bytes between pixels, rows and pictures. Of one element the stride is never used, but must be a valid one."""
    (n, c, h, w), (far, _, high, wide) = picture.shape, picture.strides
    wide = wide if w > 1 else -(-c // UNIT) * UNIT
    high = high if h > 1 else wide * w
    return 2 * wide, 2 * high, 2 * (far if n > 1 else high * h)
