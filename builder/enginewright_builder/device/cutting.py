"""A computation cut up: which index variables its parts vary over, and the output in blocks of not too many lanes."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from enginewright_builder.device.expression import (
    Axis,
    Call,
    Cast,
    Computation,
    Expression,
    Index,
    Load,
    Reduction,
    Select,
)


def blocks(computation: Computation, together: Sequence[frozenset[str]], lanes: int) -> Iterator[tuple[slice, ...]]:
    """The output in blocks such that nothing that is computed at once has more lanes, where that can be."""
    sizes = {f"i{position}": extent for position, extent in enumerate(computation.shape)}
    while True:
        widest = max(together, key=lambda names: math.prod(sizes[name] for name in names))
        if math.prod(sizes[name] for name in widest) <= lanes:
            break
        largest = max(widest, key=lambda name: sizes[name])
        sizes[largest] = -(-sizes[largest] // 2)
    starts = [range(0, extent, max(sizes[f"i{n}"], 1)) for n, extent in enumerate(computation.shape)]
    for at in np.ndindex(*(len(each) for each in starts)):
        yield tuple(
            slice(starts[n][place], min(starts[n][place] + sizes[f"i{n}"], extent))
            for n, (place, extent) in enumerate(zip(at, computation.shape, strict=True))
        )


def extents(computation: Computation) -> list[frozenset[str]]:
    """The sets of output indices that some part of the computation varies over: the whole, and each reduction."""
    known: dict[int, frozenset[str]] = {}
    outputs = frozenset(f"i{position}" for position in range(len(computation.shape)))
    found = {outputs}
    seen: set[int] = set()
    pending = [computation.value]
    while pending:
        term = pending.pop()
        if id(term) in seen:
            continue
        seen.add(id(term))
        if isinstance(term, Reduction):
            found.add(free(term, known) & outputs)
        pending += _parts(term)
    return list(found)


def free(term: Expression, known: dict[int, frozenset[str]]) -> frozenset[str]:
    """The names of the index variables that a term depends on."""
    if id(term) not in known:
        names = frozenset({term.name}) if isinstance(term, Index) else frozenset[str]()
        names = names.union(*(free(each, known) for each in _parts(term)))
        known[id(term)] = names - _own(term)
    return known[id(term)]


def _own(term: Expression) -> frozenset[str]:
    axes: tuple[Axis, ...] = term.axes if isinstance(term, Reduction) else ()
    return frozenset(axis.name for axis in axes)


def _parts(term: Expression) -> tuple[Expression, ...]:
    match term:
        case Load():
            return term.indices
        case Call():
            return term.arguments
        case Cast():
            return (term.argument,)
        case Select():
            return (term.condition, term.yes, term.no)
        case Reduction():
            return (term.body,)
        case _:
            return ()
