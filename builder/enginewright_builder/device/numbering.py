"""From expressions to a graph's nodes, and from nodes to others with indices replaced. Pure.

An axis is renamed by its height (how many reductions over it lie below) and extent: so sibling reductions (a mean and a
maximum of one row) bind the same names, and what they load are the same nodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from enginewright_builder.device.expression import (
    Call,
    Cast,
    Constant,
    Expression,
    Index,
    Load,
    Reduction,
    Select,
)
from enginewright_builder.device.graph import Graph, Op
from enginewright_builder.device.tensors import TensorType


@dataclass(frozen=True, slots=True)
class _Known:
    """Of an expression: the names it depends on, and the height of each that reductions below are over."""

    free: frozenset[str]
    heights: tuple[tuple[frozenset[str], int], ...]  # free names of each reduction inside, and its height


@dataclass(slots=True)
class Numbering:
    """Numbers the expressions of one kernel into `graph`; operands' types give loads their strides."""

    graph: Graph
    operands: Sequence[TensorType | None]
    extents: Mapping[str, int]  # of the output's indices
    _known: dict[int, _Known] = field(default_factory=dict)
    _numbers: dict[tuple[int, tuple[str, ...]], int] = field(default_factory=dict)
    _alive: list[Expression] = field(default_factory=list)  # ids are only good while their objects live

    def number(self, expression: Expression) -> int:
        """The node that the expression is."""
        names = {name: self.graph.index(name, extent) for name, extent in self.extents.items()}
        return self._number(expression, names)

    def _number(self, expression: Expression, names: Mapping[str, int]) -> int:
        known = self._inspect(expression)
        key = (id(expression), tuple(f"{name}={names[name]}" for name in sorted(known.free)))
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = self._make(expression, names)
            self._alive.append(expression)
        return found

    def _make(self, expression: Expression, names: Mapping[str, int]) -> int:
        graph = self.graph
        match expression:
            case Index(name):
                return names[name]
            case Constant(value, dtype):
                return graph.constant(value, dtype)
            case Load(operand, indices, dtype):
                kind = self.operands[operand]
                assert kind is not None
                terms: dict[int, int] = {}
                for index, stride, extent in zip(indices, kind.strides, kind.shape, strict=True):
                    if extent != 1:
                        number = self._number(index, names)
                        terms[number] = terms.get(number, 0) + stride
                return graph.load(operand, graph.sum(0, terms), dtype)
            case Call(function, arguments, dtype):
                return graph.call(function, [self._number(each, names) for each in arguments], dtype)
            case Cast(argument, dtype):
                return graph.cast(self._number(argument, names), dtype)
            case Select(condition, yes, no):
                return graph.select(*(self._number(each, names) for each in (condition, yes, no)))
            case Reduction():
                return self._reduction(expression, names)

    def _reduction(self, reduction: Reduction, names: Mapping[str, int]) -> int:
        height = _height(reduction, self._inspect(reduction.body))
        axes = [(f"k{height}_{position}_{axis.extent}", axis.extent) for position, axis in enumerate(reduction.axes)]
        inner = dict(names)
        for axis, (name, extent) in zip(reduction.axes, axes, strict=True):
            inner[axis.name] = self.graph.index(name, extent)
        return self.graph.reduce(reduction.function, axes, self._number(reduction.body, inner), reduction.dtype)

    def _inspect(self, expression: Expression) -> _Known:
        found = self._known.get(id(expression))
        if found is not None:
            return found
        match expression:
            case Index(name):
                found = _Known(frozenset({name}), ())
            case Constant():
                found = _Known(frozenset(), ())
            case Load(_, arguments, _) | Call(_, arguments, _):
                found = self._joined(arguments)
            case Cast(argument, _):
                found = self._inspect(argument)
            case Select(condition, yes, no):
                found = self._joined((condition, yes, no))
            case Reduction(_, axes, body, _):
                inside = self._inspect(body)
                free = inside.free - {axis.name for axis in axes}
                found = _Known(free, (*inside.heights, (free, _height(expression, inside))))
        self._known[id(expression)] = found
        self._alive.append(expression)
        return found

    def _joined(self, expressions: Sequence[Expression]) -> _Known:
        parts = [self._inspect(each) for each in expressions]
        heights = dict.fromkeys(height for part in parts for height in part.heights)
        return _Known(frozenset().union(*(part.free for part in parts)), tuple(heights))


def _height(reduction: Reduction, body: _Known) -> int:
    names = {axis.name for axis in reduction.axes}
    return max((height + 1 for free, height in body.heights if free & names), default=0)


def replace(graph: Graph, roots: Sequence[int], values: Mapping[str, int]) -> list[int]:
    """The roots with index variables replaced by nodes; those that a reduction binds stay."""
    return _Replacing(graph, values).all(roots)


def rename_axes(graph: Graph, number: int, names: Mapping[str, str]) -> int:
    """A reduction over axes of other names (of the same extents), in `names`' order."""
    function = str(graph.nodes[number].detail[0])
    extents = dict(graph.axes(number))
    values = {old: graph.index(new, extents[old]) for old, new in names.items()}
    (body,) = replace(graph, graph.nodes[number].arguments, values)
    return graph.reduce(function, [(new, extents[old]) for old, new in names.items()], body, graph.nodes[number].dtype)


class _Replacing:
    """One replacement: each node is made once."""

    def __init__(self, graph: Graph, values: Mapping[str, int]) -> None:
        self.graph, self.values, self.made = graph, values, dict[int, int]()

    def all(self, numbers: Sequence[int]) -> list[int]:
        return [self.one(number) for number in numbers]

    def one(self, number: int) -> int:
        if not any(name in self.values for name in self.graph.free[number]):
            return number
        if number not in self.made:
            self.made[number] = self._again(number)
        return self.made[number]

    def _again(self, number: int) -> int:
        graph, node = self.graph, self.graph.nodes[number]
        match node.op:
            case Op.INDEX:
                return self.values[str(node.detail[0])]
            case Op.SUM:
                constant, terms = graph.terms(number)
                made: dict[int, int] = {}
                for each, coefficient in terms.items():
                    other = self.one(each)
                    made[other] = made.get(other, 0) + coefficient
                return graph.sum(constant, made)
            case Op.REDUCE:
                axes = graph.axes(number)
                outer = {name: value for name, value in self.values.items() if name not in dict(axes)}
                (body,) = replace(graph, node.arguments, outer)
                return graph.reduce(str(node.detail[0]), axes, body, node.dtype)
        arguments = self.all(node.arguments)
        match node.op:
            case Op.LOAD:
                operand = node.detail[0]
                assert isinstance(operand, int)
                return graph.load(operand, arguments[0], node.dtype)
            case Op.CALL:
                return graph.call(str(node.detail[0]), arguments, node.dtype)
            case Op.CAST:
                return graph.cast(arguments[0], node.dtype)
            case Op.SELECT:
                return graph.select(*arguments)
            case _:
                return number
