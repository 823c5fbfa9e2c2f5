"""Outputs of a tactic held against what is right, element by element, on all processors.

This is most of what trying a tactic at a large batch costs, so nothing is copied that need not be: values stay as they
lie in memory, and what is right is kept for one period of the pictures of a batch.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from enginewright_runtime.engine import available
from enginewright_runtime.engine.values import Array

_PIECE = 1 << 18  # elements that are compared at a time: their intermediates stay in a processor's cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Inputs by name, and for each output what is right and how far off each element may be (infinity: anything is).

    `expected` and `allowed` may be of the first pictures of a batch alone: then all later ones repeat them. Both have
    their dimensions in the order of `axes`, where an output is named there.
    """

    feed: Mapping[str, Array]
    expected: Mapping[str, Array]
    allowed: Mapping[str, Array]
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def laid_out(self, strides: Mapping[str, Sequence[int]]) -> "Check":
        """The same check of outputs that lie in memory by these strides: it reads them in that order."""
        axes = {name: _memory_order(strides[name]) for name in self.expected}
        return replace(
            self,
            axes=axes,
            expected={name: np.ascontiguousarray(each.transpose(axes[name])) for name, each in self.expected.items()},
            allowed={name: np.ascontiguousarray(each.transpose(axes[name])) for name, each in self.allowed.items()},
        )

    def judge(self, got: Mapping[str, Array]) -> tuple[str, float]:
        """Why outputs (of their logical shapes) are wrong, naming the first that is ("" if they are right), and the
        largest error as a share of what is allowed."""
        judged = [self._of_output(name, got[name]) for name in self.expected]
        return next((why for why, _ in judged if why), ""), max((error for _, error in judged), default=0.0)

    def _of_output(self, name: str, value: Array) -> tuple[str, float]:
        want, allowed = self.expected[name], self.allowed[name]
        axes = self.axes.get(name, tuple(range(want.ndim)))
        if value.ndim != want.ndim or not _repeats(value.transpose(axes).shape, want.shape):
            wanted = [want.shape[axes.index(axis)] for axis in range(want.ndim)]
            return f"output {name!r} has the shape {list(value.shape)}, wanted {wanted}", math.inf
        if not value.size:
            return "", 0.0
        laid = value.transpose(axes)
        flat, right, bound = laid.reshape(-1), want.reshape(-1), allowed.reshape(-1)
        pieces = list(_pieces(flat.size, right.size))
        with ThreadPoolExecutor(available.processors()) as pool:  # NumPy works without Python's lock
            found = list(pool.map(lambda piece: _worst(flat[piece[0]], right[piece[1]], bound[piece[1]]), pieces))
        share, place = max((share, piece[0].start + at) for (share, at, _), piece in zip(found, pieces, strict=True))
        off = sum(count for _, _, count in found)
        if not off:
            return "", share
        there = np.unravel_index(place, laid.shape)
        at = [int(there[axes.index(axis)]) for axis in range(want.ndim)]
        said = f"{flat[place]!s} at {at}, wanted {right[place % right.size]!s} ({off} of {flat.size} are off)"
        return f"output {name!r} is {said}", share


def _memory_order(strides: Sequence[int]) -> tuple[int, ...]:
    """The dimensions from the widest step to the narrowest, pictures always first."""
    return tuple(sorted(range(len(strides)), key=lambda axis: (axis > 0, -strides[axis], axis)))


def _repeats(shape: Sequence[int], period: Sequence[int]) -> bool:
    return tuple(shape[1:]) == tuple(period[1:]) and tuple(shape[:1]) >= tuple(period[:1])


def _pieces(size: int, period: int) -> Iterator[tuple[slice, slice]]:
    """Pieces of what was given, each with where in the period it is held against."""
    for base in range(0, size, period):
        length = min(period, size - base)
        for start in range(0, length, _PIECE):
            stop = min(start + _PIECE, length)
            yield slice(base + start, base + stop), slice(start, stop)


def _worst(got: Array, want: Array, allowed: Array) -> tuple[float, int, int]:
    """The largest error as a share of what is allowed, where it is, and how many are past it."""
    if want.dtype.kind in "biu":
        share: Array = (got != want) * 2.0
    else:
        kind = np.float64 if want.dtype == np.float64 else np.float32
        share = got.astype(kind)
        with np.errstate(invalid="ignore", over="ignore"):
            np.subtract(share, want, out=share)
            np.abs(share, out=share)
            np.divide(share, np.maximum(allowed, np.finfo(kind).tiny), out=share)
        if not np.isfinite(share.max()):  # infinities and NaN: right where they are wanted
            left, right = got.astype(kind), want.astype(kind)
            same = (left == right) | (np.isnan(left) & np.isnan(right))
            share = np.where(same | np.isposinf(allowed), 0, np.where(np.isnan(share), np.inf, share))
    at = int(np.argmax(share))
    return float(share[at]), at, int(np.count_nonzero(share > 1.0))
