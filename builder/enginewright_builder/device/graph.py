"""Expressions as numbered nodes: equal ones are one node, and index arithmetic is a sum with known bounds.

Emitting CUDA needs three things that trees of expressions do not give: what is computed twice, on which index variables
a value depends, and how an address moves with an index. Axes get canonical names, so that reductions over equal bodies
are equal nodes whatever their lowerings called the axes. Pure.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

Bounds = tuple[int, int]  # the least and the greatest value

_LARGE = 2**31  # index arithmetic beyond it is left as it is written
_SIGNS = {"+": 1, "-": -1}


class Op(StrEnum):
    """What a node is. SUM is constant + coefficient * argument + ..., in integers."""

    INDEX = "index"
    CONSTANT = "constant"
    SUM = "sum"
    LOAD = "load"
    CALL = "call"
    CAST = "cast"
    SELECT = "select"
    REDUCE = "reduce"


@dataclass(frozen=True, slots=True)
class Node:
    """`detail`: the index's name; the constant's value as text; a sum's constant and coefficients; the load's operand;
    the function's name; the reduction's function and axes (name, extent). A load's one argument is its offset in
    elements."""

    op: Op
    dtype: str
    detail: tuple[object, ...] = ()
    arguments: tuple[int, ...] = ()


class Graph:
    """Nodes by number, arguments first. `free` are the index variables that a node depends on."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.free: list[frozenset[str]] = []
        self.bounds: list[Bounds | None] = []
        self.extents: dict[str, int] = {}
        self._numbers: dict[Node, int] = {}

    def index(self, name: str, extent: int) -> int:
        """An index variable, 0 <= name < extent; plain 0 where it can be nothing else."""
        if extent == 1:
            return self.constant(0, "int32")
        self.extents[name] = extent
        return self._add(Node(Op.INDEX, "int32", (name,)), frozenset({name}), (0, extent - 1))

    def constant(self, value: float | int | bool, dtype: str) -> int:
        """A number of that type."""
        if "float" in dtype:
            return self._add(Node(Op.CONSTANT, dtype, (repr(float(value)),)), frozenset(), None)
        whole = int(value)
        return self._add(Node(Op.CONSTANT, dtype, (str(whole),)), frozenset(), (whole, whole))

    def load(self, operand: int, offset: int, dtype: str) -> int:
        """An element of an operand, `offset` elements behind its first."""
        return self._add(Node(Op.LOAD, dtype, (operand,), (offset,)), self.free[offset], None)

    def cast(self, argument: int, dtype: str) -> int:
        """The argument as another type. Bounded integers stay bounded."""
        node = self.nodes[argument]
        if node.dtype == dtype:
            return argument
        bounds = self.bounds[argument]
        if node.op is Op.CONSTANT and bounds is not None and "float" in dtype:
            return self.constant(bounds[0], dtype)
        if bounds is not None and {node.dtype, dtype} <= {"int32", "int64"}:
            return argument  # addresses and positions: the emitter chooses their width
        return self._add(Node(Op.CAST, dtype, (), (argument,)), self.free[argument], None)

    def select(self, condition: int, yes: int, no: int) -> int:
        """`yes` or `no`; one of them where the condition is known."""
        known = self.bounds[condition]
        if known in ((0, 0), (1, 1)):
            return yes if known == (1, 1) else no
        if yes == no:
            return yes
        free = self.free[condition] | self.free[yes] | self.free[no]
        both = (self.bounds[yes], self.bounds[no])
        bounds = None if both[0] is None or both[1] is None else _hull(both[0], both[1])
        return self._add(Node(Op.SELECT, self.nodes[yes].dtype, (), (condition, yes, no)), free, bounds)

    def reduce(self, function: str, axes: Sequence[tuple[str, int]], body: int, dtype: str) -> int:
        """A reduction. Axes of one element are left out, but for the position that arg-min and arg-max give."""
        positional = function.startswith("arg")
        left = tuple((name, extent) for name, extent in axes if extent != 1 or positional)
        if not left:
            return self.cast(body, dtype)
        free = self.free[body] - {name for name, _ in left}
        return self._add(Node(Op.REDUCE, dtype, (function, left), (body,)), free, None)

    def call(self, function: str, arguments: Sequence[int], dtype: str) -> int:
        """A function of its arguments, simplified where these are bounded integers."""
        bounds = [self.bounds[each] for each in arguments]
        known = [each for each in bounds if each is not None]
        if len(known) == len(bounds):
            found = self._whole(function, arguments, known, dtype)
            if found is not None:
                return found
        if function in ("and", "or"):
            found = self._logic(function, arguments)
            if found is not None:
                return found
        free = frozenset().union(*(self.free[each] for each in arguments))
        return self._add(
            Node(Op.CALL, dtype, (function,), tuple(arguments)), free, _result_bounds(function, known, dtype)
        )

    def sum(self, constant: int, terms: Mapping[int, int]) -> int:
        """constant + coefficient * node + ..., sums among the nodes taken apart."""
        flat: dict[int, int] = {}
        for number, coefficient in terms.items():
            inner_constant, inner = self.terms(number)
            constant += coefficient * inner_constant
            for each, factor in inner.items():
                flat[each] = flat.get(each, 0) + coefficient * factor
        flat = {number: coefficient for number, coefficient in sorted(flat.items()) if coefficient}
        if not flat:
            return self.constant(constant, "int32")
        if constant == 0 and len(flat) == 1 and next(iter(flat.values())) == 1:
            return next(iter(flat))
        free = frozenset().union(*(self.free[each] for each in flat))
        node = Node(Op.SUM, "int32", (constant, tuple(flat.values())), tuple(flat))
        return self._add(node, free, self._sum_bounds(constant, flat))

    def terms(self, number: int) -> tuple[int, dict[int, int]]:
        """A node as a sum: its constant, and the coefficients by node."""
        node = self.nodes[number]
        if node.op is Op.SUM:
            constant, coefficients = node.detail
            assert isinstance(constant, int)
            assert isinstance(coefficients, tuple)
            return constant, dict(zip(node.arguments, coefficients, strict=True))
        if node.op is Op.CONSTANT and "float" not in node.dtype:
            return int(str(node.detail[0])), {}
        return 0, {number: 1}

    def axes(self, number: int) -> tuple[tuple[str, int], ...]:
        """Names and extents of a reduction's axes."""
        axes = self.nodes[number].detail[1]
        assert isinstance(axes, tuple)
        return axes

    def reachable(self, roots: Sequence[int]) -> list[int]:
        """All nodes that the roots are made of, and they themselves, arguments first."""
        seen: set[int] = set()
        waiting = list(roots)
        while waiting:
            number = waiting.pop()
            if number not in seen:
                seen.add(number)
                waiting.extend(self.nodes[number].arguments)
        return sorted(seen)

    def _add(self, node: Node, free: frozenset[str], bounds: Bounds | None) -> int:
        number = self._numbers.get(node)
        if number is None:
            number = self._numbers[node] = len(self.nodes)
            self.nodes.append(node)
            self.free.append(free)
            self.bounds.append(bounds)
        return number

    def _sum_bounds(self, constant: int, terms: Mapping[int, int]) -> Bounds | None:
        low = high = constant
        for number, coefficient in terms.items():
            bounds = self.bounds[number]
            if bounds is None:
                return None
            ends = (coefficient * bounds[0], coefficient * bounds[1])
            low, high = low + min(ends), high + max(ends)
        return low, high

    def _whole(self, function: str, arguments: Sequence[int], bounds: Sequence[Bounds], dtype: str) -> int | None:
        """A function of bounded integers, or None where nothing simpler is known."""
        if max(abs(end) for each in bounds for end in each) >= _LARGE:
            return None
        if dtype == "bool":
            return self._comparison(function, arguments, bounds)
        if dtype not in ("int32", "int64"):
            return None
        first = arguments[0]
        if function in _SIGNS and len(arguments) == 2:
            return self._small(self.sum(0, _two(first, 1, arguments[1], _SIGNS[function])))
        if function == "*":
            for one, other in ((0, 1), (1, 0)):
                if bounds[other][0] == bounds[other][1]:
                    return self._small(self.sum(0, {arguments[one]: bounds[other][0]}))
            return None
        if function in ("//", "floordiv", "%", "mod") and bounds[1][0] == bounds[1][1] and bounds[1][0] > 0:
            return self._division(function in ("//", "floordiv"), first, bounds[1][0], bounds[0], function)
        return _settled_end(function, arguments, bounds) if function in ("min", "max") else None

    def _small(self, number: int) -> int | None:
        bounds = self.bounds[number]
        return number if bounds is not None and max(map(abs, bounds)) < _LARGE else None

    def _comparison(self, function: str, arguments: Sequence[int], bounds: Sequence[Bounds]) -> int | None:
        if function == "not":
            return None if bounds[0][0] != bounds[0][1] else self.constant(not bounds[0][0], "bool")
        if function not in ("<", "<=", "==", "!="):
            return None
        difference = self.bounds[self.sum(0, _two(arguments[0], 1, arguments[1], -1))]
        assert difference is not None
        low, high = difference
        verdicts: dict[str, tuple[bool, bool]] = {
            "<": (high < 0, low >= 0),
            "<=": (high <= 0, low > 0),
            "==": (low == high == 0, low > 0 or high < 0),
            "!=": (low > 0 or high < 0, low == high == 0),
        }
        always, never = verdicts[function]
        return self.constant(always, "bool") if always or never else None

    def _logic(self, function: str, arguments: Sequence[int]) -> int | None:
        absorbing = 0 if function == "and" else 1
        for one, other in ((0, 1), (1, 0)):
            known = self.bounds[arguments[one]]
            if known is not None and known[0] == known[1]:
                return arguments[one] if known[0] == absorbing else arguments[other]
        return None

    def _division(self, quotient: bool, number: int, divisor: int, bounds: Bounds, function: str) -> int | None:
        """number // divisor or number % divisor: what the divisor divides goes out, if the rest stays below it."""
        floors = function in ("floordiv", "mod") or bounds[0] >= 0
        if not floors:
            return None
        constant, terms = self.terms(number)
        whole = {each: factor // divisor for each, factor in terms.items() if factor % divisor == 0}
        rest = self.sum(constant % divisor, {each: terms[each] for each in terms if each not in whole})
        left = self.bounds[rest]
        assert left is not None
        if left[0] >= 0 and left[1] < divisor:
            return self.sum(constant // divisor, whole) if quotient else rest
        common = math.gcd(divisor, constant, *terms.values())
        if common > 1:
            inner = self.sum(constant // common, {each: factor // common for each, factor in terms.items()})
            found = self.call(
                "floordiv" if quotient else "mod", (inner, self.constant(divisor // common, "int32")), "int32"
            )
            return found if quotient else self.sum(0, {found: common})
        if not quotient and whole:
            return self.call("mod", (rest, self.constant(divisor, "int32")), "int32")
        if quotient and (whole or constant // divisor):
            inner = self.call("floordiv", (rest, self.constant(divisor, "int32")), "int32")
            return self.sum(constant // divisor, {**whole, inner: whole.get(inner, 0) + 1})
        if bounds[0] >= 0:
            name, ends = ("//", (bounds[0] // divisor, bounds[1] // divisor)) if quotient else ("%", (0, divisor - 1))
            node = Node(Op.CALL, "int32", (name,), (number, self.constant(divisor, "int32")))
            return self._add(node, self.free[number], ends)
        return None


def _settled_end(function: str, arguments: Sequence[int], bounds: Sequence[Bounds]) -> int | None:
    """min or max where one argument is never above the other."""
    (low, high), (other_low, other_high) = bounds
    if high <= other_low:
        return arguments[0 if function == "min" else 1]
    if other_high <= low:
        return arguments[1 if function == "min" else 0]
    return None


def _two(a: int, x: int, b: int, y: int) -> dict[int, int]:
    return {a: x, b: y} if a != b else {a: x + y}


def _hull(a: Bounds, b: Bounds) -> Bounds:
    return min(a[0], b[0]), max(a[1], b[1])


def _result_bounds(function: str, known: Sequence[Bounds], dtype: str) -> Bounds | None:
    """Bounds of what is left as a call; the divisions' stand where they are made."""
    if len(known) != 2 or dtype not in ("int32", "int64"):
        return None
    a, b = known
    if function in ("floordiv", "mod") and b[0] == b[1] and b[0] > 0:
        return (a[0] // b[0], a[1] // b[0]) if function == "floordiv" else (0, b[0] - 1)
    if function == "min":
        return min(a[0], b[0]), min(a[1], b[1])
    if function == "max":
        return max(a[0], b[0]), max(a[1], b[1])
    if function == "*" and max(abs(end) for each in known for end in each) < 2**15:
        ends = [x * y for x in a for y in b]
        return min(ends), max(ends)
    return None
