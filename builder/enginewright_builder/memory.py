"""The memory plan: lifetimes to offsets in one block, the arena, so that nothing is allocated while serving.

The arena holds what layers hand to each other. Constants, the network's inputs and its outputs are not in it: those
belong to the plan and to the caller. A tensor's shape must be known; others are left to the executor.

Two ways, and the smaller arena wins. Greedy by size (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural
Net Inference", 2020, https://arxiv.org/abs/2001.03288): largest tensor first, each into the tightest gap between those
that are alive at the same time. It looks at every pair that overlaps, so it is left out where those are too many. And
in order of time: best fit into what is free at that layer, O(n log n) whatever the graph.
"""

import bisect
import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import onnx_ir as ir

from enginewright_builder.network.network import Network, reads, static_shape
from enginewright_runtime.plan.manifest import Arena, Placement

ALIGNMENT = 256  # bytes: what CUDA's own allocator gives, and a multiple of every vector width
_PAIRS = 4_000_000  # overlapping pairs that greedy by size may look at: some seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor to place: `bytes`, and the layers from the first to the last (both inclusive) at which it is alive."""

    name: str
    bytes: int
    first: int
    last: int


def plan(network: Network) -> Arena:
    """The arena of a network whose shapes are known (network.specialize); tensors of unknown shape are not in it."""
    return place(lifetimes(network))


def lifetimes(network: Network) -> tuple[Tensor, ...]:
    """What the arena is to hold, in the order in which it is made. A layer's number is its place in the network."""
    last: dict[ir.Value, int] = {}
    made: list[tuple[ir.Value, int]] = []
    for position, node in enumerate(network.layers()):
        for value in reads(node):
            last[value] = position
        made += [(value, position) for value in node.outputs if value.name]
    outputs = set(network.outputs)
    return tuple(
        Tensor(name=value.name or "", bytes=size, first=position, last=last.get(value, position))
        for value, position in made
        if value not in outputs and (size := _bytes(value)) is not None
    )


def place(tensors: Sequence[Tensor]) -> Arena:
    """Give every tensor an offset such that no two that are alive at the same layer overlap."""
    sized = [tensor for tensor in tensors if tensor.bytes]
    offsets = _in_order_of_time(sized)
    if _overlapping_pairs(sized) <= _PAIRS:
        offsets = min(offsets, _by_size(sized), key=lambda candidate: _end(sized, candidate))
    by_tensor = dict(zip((id(tensor) for tensor in sized), offsets, strict=True))
    return Arena(
        bytes=_end(sized, offsets),
        sum_of_tensors=sum(_aligned(tensor.bytes) for tensor in sized),
        lower_bound=_lower_bound(sized),
        tensors={
            tensor.name: Placement(
                offset=by_tensor.get(id(tensor), 0), bytes=tensor.bytes, first=tensor.first, last=tensor.last
            )
            for tensor in tensors
        },
    )


def _by_size(tensors: Sequence[Tensor]) -> list[int]:
    """Largest first, each into the smallest gap that takes it."""
    offsets = [0] * len(tensors)
    placed = _Placed(max((tensor.last for tensor in tensors), default=0) + 1)
    order = sorted(range(len(tensors)), key=lambda i: (-tensors[i].bytes, tensors[i].first, i))
    for index in order:
        tensor = tensors[index]
        need = _aligned(tensor.bytes)
        offsets[index] = _tightest(need, sorted(placed.overlapping(tensor.first, tensor.last)))
        placed.add(tensor.first, tensor.last, (offsets[index], offsets[index] + need))
    return offsets


def _tightest(need: int, taken: Iterable[tuple[int, int]]) -> int:
    best, best_gap, free_from = -1, -1, 0
    for start, end in taken:
        gap = start - free_from
        if gap >= need and (best < 0 or gap < best_gap):
            best, best_gap = free_from, gap
        free_from = max(free_from, end)
    return best if best >= 0 else free_from


class _Placed:
    """Intervals of layers with what they hold, asked for those that overlap another: a segment tree over layers for
    those that contain its first layer, and a list for each layer for those that begin after it."""

    def __init__(self, layers: int) -> None:
        self._size = 1 << max(layers - 1, 1).bit_length()
        self._cover: list[list[tuple[int, int]]] = [[] for _ in range(2 * self._size)]
        self._begin: list[list[tuple[int, int]]] = [[] for _ in range(layers)]

    def add(self, first: int, last: int, item: tuple[int, int]) -> None:
        self._begin[first].append(item)
        low, high = first + self._size, last + self._size + 1
        while low < high:
            if low & 1:
                self._cover[low].append(item)
                low += 1
            if high & 1:
                high -= 1
                self._cover[high].append(item)
            low >>= 1
            high >>= 1

    def overlapping(self, first: int, last: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        node = first + self._size
        while node:
            found += self._cover[node]
            node >>= 1
        for position in range(first + 1, last + 1):
            found += self._begin[position]
        return found


def _in_order_of_time(tensors: Sequence[Tensor]) -> list[int]:
    """As an allocator would: at each layer give back what died before it, then best fit, at the end where none fits."""
    offsets = [0] * len(tensors)
    free = _Free()
    alive: list[tuple[int, int, int]] = []
    for index in sorted(range(len(tensors)), key=lambda i: (tensors[i].first, -tensors[i].bytes, i)):
        tensor = tensors[index]
        while alive and alive[0][0] < tensor.first:
            _, start, size = heapq.heappop(alive)
            free.give(start, size)
        need = _aligned(tensor.bytes)
        offsets[index] = free.take(need)
        heapq.heappush(alive, (tensor.last, offsets[index], need))
    return offsets


class _Free:
    """Free stretches below `end`, sorted by size for best fit and joined with their neighbours when given back."""

    def __init__(self) -> None:
        self._by_size: list[tuple[int, int]] = []
        self._size_at: dict[int, int] = {}
        self._start_of_end: dict[int, int] = {}
        self.end = 0

    def take(self, need: int) -> int:
        position = bisect.bisect_left(self._by_size, (need, 0))
        if position < len(self._by_size):
            size, start = self._by_size[position]
            self._remove(start, size)
            if size > need:
                self._insert(start + need, size - need)
            return start
        start = self._start_of_end.get(self.end, self.end)  # grow the last stretch if it is free
        if start < self.end:
            self._remove(start, self.end - start)
        self.end = start + need
        return start

    def give(self, start: int, size: int) -> None:
        after = self._size_at.get(start + size)
        if after is not None:
            self._remove(start + size, after)
            size += after
        before = self._start_of_end.get(start)
        if before is not None:
            self._remove(before, start - before)
            start, size = before, size + start - before
        self._insert(start, size)

    def _insert(self, start: int, size: int) -> None:
        bisect.insort(self._by_size, (size, start))
        self._size_at[start] = size
        self._start_of_end[start + size] = start

    def _remove(self, start: int, size: int) -> None:
        del self._by_size[bisect.bisect_left(self._by_size, (size, start))]
        del self._size_at[start]
        del self._start_of_end[start + size]


def _lower_bound(tensors: Sequence[Tensor]) -> int:
    """The most bytes that are alive at one layer, aligned as they will lie: no plan can do with less."""
    changes = [0] * (max((tensor.last for tensor in tensors), default=0) + 2)
    for tensor in tensors:
        changes[tensor.first] += _aligned(tensor.bytes)
        changes[tensor.last + 1] -= _aligned(tensor.bytes)
    return max(accumulate(changes), default=0)


def _overlapping_pairs(tensors: Sequence[Tensor]) -> int:
    begins = [0] * (max((tensor.last for tensor in tensors), default=0) + 1)
    for tensor in tensors:
        begins[tensor.first] += 1
    until = list(accumulate(begins))
    return sum(until[tensor.last] - until[tensor.first] for tensor in tensors) + sum(n * (n - 1) // 2 for n in begins)


def _end(tensors: Sequence[Tensor], offsets: Sequence[int]) -> int:
    ends = (offset + _aligned(tensor.bytes) for tensor, offset in zip(tensors, offsets, strict=True))
    return max(ends, default=0)


def _bytes(value: ir.Value) -> int | None:
    shape = static_shape(value)
    if shape is None or not isinstance(value.type, ir.TensorType) or value.type.dtype is ir.DataType.STRING:
        return None
    return (math.prod(shape) * value.type.dtype.bitwidth + 7) // 8  # the small floats and integers are packed


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
