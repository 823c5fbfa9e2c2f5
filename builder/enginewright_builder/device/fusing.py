"""Several stages of a layer as fewer: a producer's expression in the place of the loads of what it makes.

A stage goes into the one stage that reads it, so nothing is computed for two readers. Sums inside of sums stay apart
where the inner one would have to be done again for every term of the outer: a reduction that goes into another may not
depend on what the other runs over. Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from enginewright_builder.device.expression import (
    Axis,
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
from enginewright_builder.device.stages import Held, Holder, Stage, Staged

_LARGEST = 2000  # terms of one kernel: compiling takes longer than a launch saves


def fused(staged: Staged) -> Staged:
    """The same layer in as few stages as the rule allows."""
    stages = list(staged.stages)
    apart: set[str] = set()
    while (found := _next(stages, apart)) is not None:
        producer, reader = found
        made = _joined(producer, reader)
        if made is None:
            apart.add(producer.output.name)
            continue
        stages = [made if each is reader else each for each in stages if each is not producer]
    return Staged(stages=tuple(stages), constants=staged.constants)


def _next(stages: Sequence[Stage], apart: set[str]) -> tuple[Stage, Stage] | None:
    """A stage whose result one other stage alone reads, and that one."""
    readers: dict[str, list[Stage]] = {}
    for stage in stages:
        for name in {held.name for held in stage.inputs if held is not None}:
            readers.setdefault(name, []).append(stage)
    for stage in stages:
        if stage.output.holder is not Holder.TEMPORARY or stage.output.name in apart:
            continue
        reading = readers.get(stage.output.name, [])
        if len(reading) == 1:
            return stage, reading[0]
    return None


def _joined(producer: Stage, reader: Stage) -> Stage | None:
    """Both in one; None where the rule forbids it."""
    inputs: list[Held | None] = [None if held == producer.output else held for held in reader.inputs]
    numbers = {}
    for number, held in enumerate(producer.inputs):
        numbers[number] = inputs.index(held) if held is not None and held in inputs else len(inputs)
        if numbers[number] == len(inputs):
            inputs.append(held)
    value = _Substitution(
        operands=frozenset(n for n, held in enumerate(reader.inputs) if held == producer.output),
        numbers=numbers,
        producer=producer.computation,
        taken=frozenset(_names(reader.computation.value)),
    ).of(reader.computation.value)
    if _size(value) > _LARGEST or _sums_again(value, frozenset(), {}):
        return None
    return Stage(computation=replace(reader.computation, value=value), inputs=tuple(inputs), output=reader.output)


@dataclass(slots=True)
class _Substitution:
    """Replaces loads of `operands` by the producer's expression, whose own operands become `numbers`."""

    operands: frozenset[int]
    numbers: Mapping[int, int]
    producer: Computation
    taken: frozenset[str]  # names of the reader's own indices and axes
    known: dict[int, tuple[Expression, Expression]] = field(default_factory=dict)
    placed: dict[tuple[Expression, ...], Expression] = field(default_factory=dict)

    def of(self, term: Expression) -> Expression:
        """The reader's term with the loads replaced. Shared terms stay shared."""
        found = self.known.get(id(term))
        if found is None:
            found = (term, self._made(term))
            self.known[id(term)] = found
        return found[1]

    def _made(self, term: Expression) -> Expression:
        if not isinstance(term, Load):
            return _rebuilt(term, self.of)
        indices = tuple(self.of(index) for index in term.indices)
        if term.operand not in self.operands:
            return replace(term, indices=indices)
        if indices not in self.placed:
            self.placed[indices] = _stored(self._producer_at(indices), self.producer.dtype, term.dtype)
        return self.placed[indices]

    def _producer_at(self, indices: tuple[Expression, ...]) -> Expression:
        """The producer's value where its output's indices are these."""
        bound: dict[str, Expression] = {f"i{position}": index for position, index in enumerate(indices)}
        known: dict[tuple[int, tuple[tuple[str, str], ...]], tuple[Expression, Expression]] = {}

        def visit(term: Expression, axes: tuple[tuple[str, str], ...]) -> Expression:
            key = (id(term), axes)
            if key not in known:
                known[key] = (term, made(term, axes))
            return known[key][1]

        def made(term: Expression, axes: tuple[tuple[str, str], ...]) -> Expression:
            match term:
                case Index(name=name):
                    renamed = dict(axes)
                    return Index(renamed[name]) if name in renamed else bound.get(name, term)
                case Load():
                    inner = tuple(visit(index, axes) for index in term.indices)
                    return replace(term, operand=self.numbers[term.operand], indices=inner)
                case Reduction():
                    fresh = tuple((axis.name, _fresh(axis.name, self.taken)) for axis in term.axes)
                    inside = (*axes, *fresh)
                    own = tuple(Axis(name, axis.extent) for axis, (_, name) in zip(term.axes, fresh, strict=True))
                    return replace(term, axes=own, body=visit(term.body, inside))
                case _:
                    return _rebuilt(term, lambda part: visit(part, axes))

        return visit(self.producer.value, ())


def _fresh(name: str, taken: frozenset[str]) -> str:
    """A name for an axis that no index of the reader has."""
    while name in taken:
        name += "_"
    return name


def _stored(value: Expression, stored: str, loaded: str) -> Expression:
    """What is read of a value after it has been stored as `stored`. A half type's rounding is left out: the value is
    nearer to what is meant without it."""
    if terms.computed(stored) == stored and terms.dtype_of(value) != stored:
        value = Cast(value, stored)
    return value if terms.dtype_of(value) == loaded else Cast(value, loaded)


def _rebuilt(term: Expression, of: Callable[[Expression], Expression]) -> Expression:
    """The term over `of` of its parts."""
    match term:
        case Call(arguments=arguments):
            return replace(term, arguments=tuple(of(each) for each in arguments))
        case Cast(argument=argument):
            return replace(term, argument=of(argument))
        case Select(condition=condition, yes=yes, no=no):
            return Select(of(condition), of(yes), of(no))
        case Load(indices=indices):
            return replace(term, indices=tuple(of(each) for each in indices))
        case Reduction(body=body):
            return replace(term, body=of(body))
        case _:
            return term


def _parts(term: Expression) -> tuple[Expression, ...]:
    match term:
        case Call(arguments=arguments):
            return arguments
        case Cast(argument=argument):
            return (argument,)
        case Select(condition=condition, yes=yes, no=no):
            return (condition, yes, no)
        case Load(indices=indices):
            return indices
        case Reduction(body=body):
            return (body,)
        case Index() | Constant():
            return ()


def _size(term: Expression) -> int:
    """How many different terms a term has."""
    seen, pending = {id(term)}, [term]
    while pending:
        for part in _parts(pending.pop()):
            if id(part) not in seen:
                seen.add(id(part))
                pending.append(part)
    return len(seen)


def _names(term: Expression) -> set[str]:
    """Every index variable in a term, bound or not."""
    found, seen, pending = set(), set(), [term]
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        pending.extend(_parts(each))
        if isinstance(each, Index):
            found.add(each.name)
        if isinstance(each, Reduction):
            found |= {axis.name for axis in each.axes}
    return found


def _sums_again(term: Expression, outer: frozenset[str], seen: dict[tuple[int, frozenset[str]], bool]) -> bool:
    """Whether a reduction inside of another depends on what that one runs over."""
    key = (id(term), outer)
    if key in seen:
        return seen[key]
    if isinstance(term, Reduction):
        again = bool(outer & _names(term)) or _sums_again(term.body, outer | {axis.name for axis in term.axes}, seen)
    else:
        again = any(_sums_again(part, outer, seen) for part in _parts(term))
    seen[key] = again
    return again
