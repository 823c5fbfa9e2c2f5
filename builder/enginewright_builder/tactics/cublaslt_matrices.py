"""Tensors as matrices, and matrices as cuBLASLt sees them: column-major, one stride from each to the next. Pure."""

import itertools
import math
from dataclasses import dataclass

from enginewright_builder.device.tensors import TensorType
from enginewright_runtime.engine.cuda.program import MatrixLayout, Pointer, Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrices:
    """`batch` matrices of rows x columns with their strides in elements; one stride of a matrix is 1."""

    dtype: str
    rows: int
    columns: int
    row_stride: int
    column_stride: int
    batch: int = 1
    batch_stride: int = 0
    pointer: Pointer

    @property
    def is_row_major(self) -> bool:
        """Whether a row is contiguous."""
        return self.column_stride == 1 and self.row_stride >= self.columns

    @property
    def is_column_major(self) -> bool:
        """Whether a column is contiguous."""
        return self.row_stride == 1 and self.column_stride >= self.rows


def pixels(kind: TensorType, number: int, *, whole: bool = False) -> Matrices | None:
    """An image with its channels innermost as a matrix: a row a pixel, or a row an image if `whole`."""
    order = (0, *range(2, len(kind.shape)), 1)
    shape, strides = [kind.shape[axis] for axis in order], [kind.strides[axis] for axis in order]
    if strides[-1] != 1 and shape[-1] > 1:
        return None
    channels = _collapsed(shape[1:], strides[1:]) if whole else (shape[-1], 1)
    rows = (shape[0], strides[0]) if whole else _collapsed(shape[:-1], strides[:-1])
    if channels is None or rows is None or (whole and channels[1] != 1):
        return None
    return Matrices(
        dtype=kind.dtype,
        rows=rows[0],
        columns=channels[0],
        row_stride=rows[1] if rows[0] > 1 else channels[0],
        column_stride=1,
        pointer=Pointer(space=Space.OPERAND, name=str(number)),
    )


def merged(kind: TensorType) -> TensorType | None:
    """The batch's dimensions and the rows as one dimension of rows."""
    rows = _collapsed(list(kind.shape[:-1]), list(kind.strides[:-1]))
    if rows is None:
        return None
    return TensorType(dtype=kind.dtype, shape=(rows[0], kind.shape[-1]), strides=(rows[1], kind.strides[-1]))


def _collapsed(shape: list[int], strides: list[int]) -> tuple[int, int] | None:
    """Dimensions as one of their product, with its stride, where the outer ones step over all of the inner ones."""
    kept = [(extent, stride) for extent, stride in zip(shape, strides, strict=True) if extent > 1]
    if not kept:
        return 1, 1
    if any(outer[1] != inner[0] * inner[1] for outer, inner in itertools.pairwise(kept)):
        return None
    return math.prod(extent for extent, _ in kept), kept[-1][1]


def stack(kind: TensorType, pointer: Pointer, batch: tuple[int, ...]) -> Matrices | None:
    """A stack of matrices with one stride from each to the next, 0 where all are the same one."""
    own = kind.shape[:-2]
    outer = _collapsed(list(own), list(kind.strides[:-2]))
    if any(stride == 0 for stride, extent in zip(kind.strides[:-2], own, strict=True) if extent > 1):
        outer = (math.prod(own), 0) if not any(kind.strides[:-2]) else None
    if outer is None or (math.prod(own) != math.prod(batch) and math.prod(own) > 1):
        return None
    rows, columns = kind.shape[-2:]
    row_stride, column_stride = kind.strides[-2:]
    if columns == 1:  # a stride over a single element says nothing
        column_stride = 1
    if rows == 1:
        row_stride = columns if column_stride == 1 else 1
    return Matrices(
        dtype=kind.dtype,
        rows=rows,
        columns=columns,
        row_stride=row_stride,
        column_stride=column_stride,
        batch=math.prod(batch),
        batch_stride=outer[1] if math.prod(own) > 1 else 0,
        pointer=pointer,
    )


def rows_as_columns(matrices: Matrices) -> MatrixLayout:
    """Row-major memory as the library sees it: the transposed matrix in columns."""
    return MatrixLayout(
        dtype=matrices.dtype,
        rows=matrices.columns,
        columns=matrices.rows,
        leading=matrices.row_stride,
        batch=matrices.batch,
        batch_stride=matrices.batch_stride,
    )


def column_major(matrices: Matrices) -> tuple[MatrixLayout, bool] | None:
    """An operand of the transposed product, and whether the library has to transpose what it sees."""
    if matrices.is_row_major:
        return rows_as_columns(matrices), False
    if not matrices.is_column_major:
        return None
    layout = MatrixLayout(
        dtype=matrices.dtype,
        rows=matrices.rows,
        columns=matrices.columns,
        leading=matrices.column_stride,
        batch=matrices.batch,
        batch_stride=matrices.batch_stride,
    )
    return layout, True
