"""Computations in NumPy: what an expression means, element by element, for tests and for checking generated kernels.

Arithmetic is the emitter's: the half types are loaded as float32 and rounded once when stored; integers wrap. Sums of
floating-point numbers are kept in float64, so that what a kernel is compared with is better than the kernel. It is
never fast, but its memory is bounded: large outputs and reductions are computed in blocks.

Every lane of a block is computed at once, so both branches of a Select are. Each branch knows in which lanes it is
taken: there a Load out of bounds is an error of the lowering and is raised; elsewhere it reads something harmless.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from enginewright_builder.device import cutting
from enginewright_builder.device.expression import (
    Call,
    Cast,
    Computation,
    Constant,
    Expression,
    Index,
    Load,
    Reduction,
    Select,
)
from enginewright_builder.device.operators import terms
from enginewright_builder.device.scalar_functions import FUNCTIONS
from enginewright_runtime.engine.values import Array, dtype_of

LANES = 1 << 21  # of the widest intermediate array

_FOLDS: Mapping[str, Callable[..., Array]] = {
    "sum": np.add.reduce,
    "product": np.multiply.reduce,
    "min": np.minimum.reduce,
    "max": np.maximum.reduce,
    "and": np.logical_and.reduce,
    "or": np.logical_or.reduce,
}
_JOINS: Mapping[str, Callable[..., Array]] = {
    "sum": np.add,
    "product": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.logical_and,
    "or": np.logical_or,
}


class OutOfBounds(Exception):
    """A Load read outside of its operand in a lane where it is taken: the lowering lacks a guard."""


def evaluate(computation: Computation, operands: Sequence[Array | None]) -> Array:
    """The output of a computation over its operands (logical shapes, as in Problem.operands), of its dtype and shape.

    Raises OutOfBounds.
    """
    made = np.empty(computation.shape, dtype_of(computation.dtype))
    extents = cutting.extents(computation)
    for block in cutting.blocks(computation, extents, LANES):
        scope = {f"i{position}": (span.start, span.stop - span.start) for position, span in enumerate(block)}
        evaluation = _Evaluation(operands=operands)
        bound = _bind(len(block), scope)
        with np.errstate(all="ignore"):
            made[block] = _rounded(evaluation.value(computation.value, bound, None), computation.dtype)
    return made


@dataclass(frozen=True, slots=True)
class _Bound:
    """An index variable's values, shaped to broadcast, and which block they are of."""

    values: Array
    block: int


@dataclass(slots=True)
class _Evaluation:
    """One block of outputs. Values are kept by expression, mask and the blocks of the variables that they depend on."""

    operands: Sequence[Array | None]
    kept: dict[tuple[object, ...], tuple[object, Array]] = field(default_factory=dict)
    free: dict[int, frozenset[str]] = field(default_factory=dict)
    blocks: int = 0

    def value(self, term: Expression, bound: Mapping[str, _Bound], mask: Array | None) -> Array:
        """The term in all lanes; right wherever `mask` holds (None: everywhere)."""
        match term:
            case Index(name=name):
                return bound[name].values
            case Constant(value=value, dtype=dtype):
                return np.asarray(value, dtype_of(terms.computed(dtype)))
        used = sorted(cutting.free(term, self.free))
        key = (id(term), id(mask), *((name, bound[name].block) for name in used))
        if key not in self.kept:
            self.kept[key] = ((term, mask), self._computed(term, bound, mask))
        return self.kept[key][1]

    def _computed(self, term: Expression, bound: Mapping[str, _Bound], mask: Array | None) -> Array:
        match term:
            case Load():
                return self._load(term, [self.value(each, bound, mask) for each in term.indices], mask)
            case Call():
                arguments = [self.value(each, bound, mask) for each in term.arguments]
                return FUNCTIONS[term.function](*arguments).astype(dtype_of(terms.computed(term.dtype)), copy=False)
            case Cast():
                return converted(self.value(term.argument, bound, mask), term.dtype)
            case Select():
                condition = self.value(term.condition, bound, mask)
                yes = self.value(term.yes, bound, _also(mask, condition))
                no = self.value(term.no, bound, _also(mask, np.logical_not(condition)))
                return np.where(condition, yes, no).astype(yes.dtype, copy=False)
            case Reduction():
                return self._reduction(term, bound, mask)
            case _:
                raise TypeError(f"{type(term).__name__} is no expression")

    def _load(self, term: Load, at: Sequence[Array], mask: Array | None) -> Array:
        operand = self.operands[term.operand]
        if operand is None:
            raise OutOfBounds(f"operand {term.operand} is absent")
        safe = []
        for axis, (place, extent) in enumerate(zip(at, operand.shape, strict=True)):
            outside = (place < 0) | (place >= extent)
            if outside.any():
                taken = outside if mask is None else outside & mask
                if taken.any():
                    raise OutOfBounds(f"operand {term.operand} of shape {operand.shape} is read outside of axis {axis}")
                place = np.where(outside, 0, place)
            safe.append(place)
        if not operand.size:  # nothing can be read, and nothing is
            return np.zeros(np.broadcast_shapes(*(each.shape for each in safe)), dtype_of(term.dtype))
        return np.asarray(operand[tuple(safe)]).astype(dtype_of(term.dtype), copy=False)

    def _reduction(self, term: Reduction, bound: Mapping[str, _Bound], mask: Array | None) -> Array:
        """The axes become further leading dimensions, in blocks of the first one."""
        outer = max((each.values.ndim for each in bound.values()), default=0)
        outer = max(outer, mask.ndim if mask is not None else 0)
        names = cutting.free(term, self.free)
        lanes = math.prod(bound[name].values.size for name in names) * math.prod(a.extent for a in term.axes[1:])
        step = max(1, LANES // max(lanes, 1))
        parts = [
            self._part(term, bound, mask, outer, start, min(step, term.axes[0].extent - start))
            for start in range(0, term.axes[0].extent, step)
        ]
        if any(axis.extent == 0 for axis in term.axes) or not parts:
            return np.full((), _neutral(term), dtype_of(terms.computed(term.dtype)))
        return _joined(term, parts).astype(dtype_of(terms.computed(term.dtype)), copy=False)

    def _part(
        self, term: Reduction, bound: Mapping[str, _Bound], mask: Array | None, outer: int, start: int, count: int
    ) -> tuple[Array, Array | None]:
        own: dict[str, _Bound] = {}
        for number, axis in enumerate(term.axes):
            self.blocks += 1
            values = np.arange(start, start + count) if number == 0 else np.arange(axis.extent)
            shape = (len(values),) + (1,) * (outer + len(term.axes) - 1 - number)
            own[axis.name] = _Bound(values.astype(np.int32).reshape(shape), self.blocks)
        extents = (count, *(axis.extent for axis in term.axes[1:]))
        body = self.value(term.body, {**bound, **own}, mask)
        lanes = np.broadcast_to(body, np.broadcast_shapes(body.shape, extents + (1,) * outer))
        return _folded(term, lanes, extents, start)


def _folded(term: Reduction, lanes: Array, extents: tuple[int, ...], start: int) -> tuple[Array, Array | None]:
    """One block's result; for argmin and argmax the best value and its place in the whole."""
    if term.function not in ("argmin", "argmax"):
        kind = _accumulated(term.function, terms.computed(term.dtype))
        axes = tuple(range(len(extents)))
        return np.asarray(_FOLDS[term.function](lanes.astype(kind, copy=False), axis=axes)), None
    flat = lanes.reshape(math.prod(extents), *lanes.shape[len(extents) :])
    place = np.asarray(np.argmin(flat, axis=0) if term.function == "argmin" else np.argmax(flat, axis=0))
    best = np.asarray(np.take_along_axis(flat, place[np.newaxis], axis=0)[0])
    last = place % extents[-1] + (start if len(extents) == 1 else 0)
    return best, np.asarray(last)


def _joined(term: Reduction, parts: Sequence[tuple[Array, Array | None]]) -> Array:
    best, place = parts[0]
    for other, other_place in parts[1:]:
        if place is None or other_place is None:
            best = np.asarray(_JOINS[term.function](best, other))
            continue
        wins = other < best if term.function == "argmin" else other > best
        best, place = np.where(wins, other, best), np.where(wins, other_place, place)
    return best if place is None else place


def _neutral(term: Reduction) -> float | int | bool:
    dtype = terms.computed(term.dtype)
    match term.function:
        case "sum" | "or" | "argmin" | "argmax":
            return 0
        case "product" | "and":
            return 1
        case "max":
            return terms.lowest(dtype).value
    if terms.is_float(dtype):
        return math.inf
    return True if dtype == "bool" else int(np.iinfo(dtype).max)


def _accumulated(function: str, dtype: str) -> np.dtype[np.generic]:
    if function in ("and", "or"):
        return np.dtype(np.bool_)
    if function in ("sum", "product") and dtype == "float32":
        return np.dtype(np.float64)
    return dtype_of(dtype)


def converted(values: Array, dtype: str) -> Array:
    """Values by Cast's rules; the half types are rounded to and held as float32."""
    if dtype == "bool":
        return np.asarray(values != 0)
    target = dtype_of(dtype)
    if terms.is_float(dtype):
        return _rounded(values, dtype).astype(dtype_of(terms.computed(dtype)), copy=False)
    if values.dtype.kind != "f":
        return values.astype(target, copy=False)
    bounds = np.iinfo(dtype)
    whole = np.trunc(np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=math.inf, neginf=-math.inf))
    inside = (whole > float(bounds.min)) & (whole < float(bounds.max))
    made = np.where(inside, whole, 0).astype(target)
    return np.where(inside, made, np.where(whole <= float(bounds.min), bounds.min, bounds.max)).astype(target)


def _rounded(values: Array, dtype: str) -> Array:
    return values.astype(dtype_of(dtype), copy=False)


def _also(mask: Array | None, condition: Array) -> Array:
    return condition if mask is None else np.logical_and(mask, condition)


def _bind(rank: int, scope: Mapping[str, tuple[int, int]]) -> dict[str, _Bound]:
    """The output's indices: dimension k of the block varies along axis k."""
    return {
        name: _Bound(np.arange(start, start + count, dtype=np.int32).reshape(-1, *(1,) * (rank - 1 - position)), 0)
        for position, (name, (start, count)) in enumerate(scope.items())
    }
