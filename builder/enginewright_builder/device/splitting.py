"""Long reductions of few rows as two stages: parts of each row over the whole GPU, then the parts.

A row is at most one block's work otherwise, and a GPU has more than a hundred processors: the mean of a whole tensor
would use one of them. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from enginewright_builder.device.expression import (
    Axis,
    Call,
    Computation,
    Constant,
    Expression,
    Index,
    Load,
    Reduction,
    parts,
    rebuilt,
)
from enginewright_builder.device.operators import terms
from enginewright_builder.device.stages import Held, Holder, Stage, Staged

BLOCKS = 1024  # that fill a large GPU
_SHORTEST = 1024  # terms of a part
_FOLDS = ("sum", "product", "min", "max", "and", "or")


def split(staged: Staged) -> Staged:
    """The same layer with every such reduction in two stages; the same object where there is none."""
    made: list[Stage] = []
    for stage in staged.stages:
        work = _Splitting(stage=stage)
        value = work.of(stage.computation.value)
        made += work.before
        made.append(
            replace(stage, computation=replace(stage.computation, value=value), inputs=tuple(work.inputs))
            if work.before
            else stage
        )
    return staged if len(made) == len(staged.stages) else replace(staged, stages=tuple(made))


@dataclass(slots=True)
class _Splitting:
    """One stage: `before` are the stages that make parts, `inputs` the stage's own and those parts."""

    stage: Stage
    before: list[Stage] = field(default_factory=list)
    inputs: list[Held | None] = field(default_factory=list)
    made: dict[int, tuple[Expression, Expression]] = field(default_factory=dict)
    free: dict[int, tuple[Expression, frozenset[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.inputs = list(self.stage.inputs)

    def of(self, term: Expression) -> Expression:
        """The term with its long reductions replaced, inner ones first."""
        if id(term) not in self.made:
            new = rebuilt(term, self.of)
            self.made[id(term)] = (term, self._two(new) if isinstance(new, Reduction) else new)
        return self.made[id(term)][1]

    def _two(self, term: Reduction) -> Expression:
        shape = self.stage.computation.shape
        names = sorted(self._free(term), key=lambda name: int(name[1:]) if name[1:].isdigit() else -1)
        if any(not _is_output(name, shape) for name in names) or term.function not in _FOLDS:
            return term
        rows = [shape[int(name[1:])] for name in names]
        count = _count(rows, term.axes)
        if count < 2:
            return term
        longest = max(term.axes, key=lambda axis: axis.extent)
        held = self._parts(term, names, rows, longest, count)
        number = len(self.inputs)
        self.inputs.append(held)
        index = f"{longest.name}_part"
        load = Load(number, (*(Index(name) for name in names), Index(index)), held.dtype)
        return Reduction(term.function, (Axis(index, count),), load, term.dtype)

    def _parts(self, term: Reduction, names: Sequence[str], rows: Sequence[int], axis: Axis, count: int) -> Held:
        """The stage that makes the parts, as the last dimension of a temporary."""
        length = axis.extent // count
        inside = Call("*", (Index(f"i{len(rows)}"), Constant(length, "int32")), "int32")
        values: dict[str, Expression] = {name: Index(f"i{position}") for position, name in enumerate(names)}
        values[axis.name] = Call("+", (inside, Index(axis.name)), "int32")
        axes = tuple(Axis(each.name, length) if each == axis else each for each in term.axes)
        dtype = terms.computed(term.dtype)
        value = Reduction(term.function, axes, _replaced(term.body, values), dtype)
        held = Held(
            holder=Holder.TEMPORARY,
            name=f"{self.stage.output.name}/parts{len(self.before)}",
            dtype=dtype,
            shape=(*rows, count),
        )
        computation = Computation(shape=held.shape, dtype=dtype, value=value)
        self.before.append(Stage(computation=computation, inputs=tuple(self.inputs), output=held))
        return held

    def _free(self, term: Expression) -> frozenset[str]:
        if id(term) not in self.free:
            names = frozenset({term.name}) if isinstance(term, Index) else frozenset[str]()
            names = names.union(*(self._free(each) for each in parts(term)))
            if isinstance(term, Reduction):
                names -= {axis.name for axis in term.axes}
            self.free[id(term)] = (term, names)
        return self.free[id(term)][1]


def _is_output(name: str, shape: Sequence[int]) -> bool:
    return name[0] == "i" and name[1:].isdigit() and int(name[1:]) < len(shape)


def _count(rows: Sequence[int], axes: Sequence[Axis]) -> int:
    """Parts of a row: a divisor of the longest axis; 1 where the rows alone are work enough."""
    length, number = 1, 1
    for axis in axes:
        length *= axis.extent
    for extent in rows:
        number *= extent
    wanted = min(BLOCKS // max(number, 1), length // _SHORTEST)
    if number * length < 1 << 20:
        return 1
    longest = max((axis.extent for axis in axes), default=1)
    return max((each for each in range(1, wanted + 1) if longest % each == 0), default=1)


def _replaced(term: Expression, values: Mapping[str, Expression]) -> Expression:
    """The term with index variables replaced; shared terms stay shared. Inner axes have names of their own."""
    known: dict[int, tuple[Expression, Expression]] = {}

    def visit(each: Expression) -> Expression:
        if id(each) not in known:
            made = values.get(each.name, each) if isinstance(each, Index) else rebuilt(each, visit)
            known[id(each)] = (each, made)
        return known[id(each)][1]

    return visit(term)
