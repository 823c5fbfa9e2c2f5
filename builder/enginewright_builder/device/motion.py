"""How a value moves with one index across a group of V neighbours that begins at a multiple of V. Pure.

An address with slope 1 and a base that V divides can be loaded in one instruction; a condition that is the same in the
whole group needs one branch. Everything else is done element by element.
"""

import math
from dataclasses import dataclass, field

from enginewright_builder.device.graph import Graph, Op


@dataclass(slots=True)
class Motion:
    """Of the nodes of `graph` along the index `name`, in groups of `width`."""

    graph: Graph
    name: str
    width: int
    _slopes: dict[int, tuple[int | None, int]] = field(default_factory=dict)
    _varies: dict[int, bool] = field(default_factory=dict)

    def slope(self, number: int) -> tuple[int | None, int]:
        """The step from one neighbour to the next (None: none that is constant), and what divides the first value."""
        found = self._slopes.get(number)
        if found is None:
            found = self._slopes[number] = self._slope(number)
        return found

    def varies(self, number: int) -> bool:
        """Whether a node may differ between neighbours of a group."""
        if self.name not in self.graph.free[number]:
            return False
        found = self._varies.get(number)
        if found is None:
            found = self._varies[number] = self._differs(number)
        return found

    def _slope(self, number: int) -> tuple[int | None, int]:
        graph, node = self.graph, self.graph.nodes[number]
        if self.name not in graph.free[number] and node.op not in (Op.SUM, Op.CONSTANT, Op.CALL):
            return 0, 1
        match node.op:
            case Op.INDEX:
                return (1, self.width) if node.detail == (self.name,) else (0, 1)
            case Op.CONSTANT | Op.SUM:
                constant, terms = graph.terms(number)
                if node.op is Op.CONSTANT and "float" in node.dtype:
                    return 0, 1
                step: int | None = 0
                divisor = abs(constant)
                for each, coefficient in terms.items():
                    own, base = self.slope(each)
                    step = None if own is None or step is None else step + coefficient * own
                    divisor = math.gcd(divisor, coefficient * base)
                return step, divisor
            case Op.CALL if node.detail[0] in ("//", "%"):
                return self._division(number)
        return (None, 1) if self.varies(number) else (0, 1)

    def _division(self, number: int) -> tuple[int | None, int]:
        node = self.graph.nodes[number]
        known = self.graph.bounds[node.arguments[1]]
        step, base = self.slope(node.arguments[0])
        if known is None or known[0] != known[1]:
            return (None if self.name in self.graph.free[number] else 0), 1
        divisor = known[0]
        quotient = node.detail[0] == "//"
        if step == 0:
            return 0, (base // divisor if base % divisor == 0 else 1) if quotient else math.gcd(base, divisor)
        if step == 1 and base % self.width == 0 and divisor % self.width == 0:
            return (0, 1) if quotient else (1, math.gcd(base, divisor))
        return None, 1

    def _differs(self, number: int) -> bool:
        graph, node = self.graph, self.graph.nodes[number]
        if node.op in (Op.INDEX, Op.SUM) or (node.op is Op.CALL and node.detail[0] in ("//", "%")):
            if all(graph.bounds[each] is not None for each in node.arguments):
                return self.slope(number)[0] != 0
            return any(self.varies(each) for each in node.arguments)
        if node.op is Op.CALL and node.detail[0] in ("<", "<=") and self._same(number):
            return False
        return any(self.varies(each) for each in node.arguments)

    def _same(self, number: int) -> bool:
        """Whether a comparison of addresses comes out alike for the whole group."""
        node = self.graph.nodes[number]
        left, right = node.arguments
        if self.graph.bounds[left] is None or self.graph.bounds[right] is None or left == right:
            return False
        strict = node.detail[0] == "<"
        for below, constant in ((True, 0 if strict else -1), (False, 1 if strict else 0)):
            # a < b is a - b < 0, or a - b + 1 <= 0; a <= b is a - b - 1 < 0, or a - b <= 0
            step, base = self.slope(self.graph.sum(constant, {left: 1, right: -1}))
            if step == 0 or (base % self.width == 0 and step == (1 if below else -1)):
                return True
        return False
