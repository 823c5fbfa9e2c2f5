"""One implementation of one layer, run by itself through the very session that serves: checked first, then timed.

The operands lie in memory as they will in the network, strides and all: each is an input or output of a small program,
flat, as long as its span, and is packed and unpacked here.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from enginewright_builder.device import assemble, cold
from enginewright_builder.device.implementation import Implementation
from enginewright_builder.device.judging import Check
from enginewright_builder.device.layout import Place
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.tensors import ITEM_BYTES, TensorType
from enginewright_builder.emit import Blobs
from enginewright_runtime.engine import available
from enginewright_runtime.engine.cuda.program import DeviceProgram
from enginewright_runtime.engine.values import Array, dtype_of
from enginewright_runtime.plan.manifest import Binding

_SMALL = 1 << 22  # bytes that one processor lays out at once
CHAIN = 10  # launches of the layer in a graph: the graph's own start is shared by so many


class Running(Protocol):
    """A device program, loaded."""

    def run(self, feed: Mapping[str, Array]) -> Mapping[str, Array]:
        """Outputs of one run, every other byte of the arena and of the outputs poisoned before it."""

    def microseconds(self, repeats: int, *, cold: bool = False) -> float:
        """Of one pass over the steps on the inputs of before: the median of replays of `repeats` passes in a graph.
        `cold`: the L2 cache is overwritten before each replay."""


class Bench(Protocol):
    """Loads device programs from memory: the runtime's session on a GPU, something else in tests."""

    def opened(self, program: DeviceProgram, blobs: Mapping[str, bytes]) -> AbstractContextManager[Running]:
        """The program, ready to run. Raises PlanError or DeviceError where it cannot be loaded."""


class Sharing(Bench, Protocol):
    """A bench that can also keep on the device what programs have in common, where one is run after the other."""

    def sharing(self) -> AbstractContextManager[Bench]:
        """Such a bench. Blobs of equal names are equal."""


class Rehearsing(Protocol):
    """Runs device programs where a crash does no harm: a child process."""

    @property
    def wary(self) -> bool:
        """Whether something was so bad that nothing should be run here before it was run there."""

    def rehearse(self, program: DeviceProgram, blobs: Mapping[str, bytes], feed: Mapping[str, Array]) -> None:
        """Run it once. Raises EnginewrightError where it fails, hangs or ends its process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A layer to try implementations of: its own places, its packed inputs, and the check."""

    layer: DeviceLayer
    places: Mapping[str, Place]
    feed: Mapping[str, Array]
    check: Check
    packing: assemble.Packing = field(default_factory=lambda: assemble.Packing(Blobs()))

    @property
    def bytes(self) -> int:
        """Of the host's memory."""
        known = (self.feed, self.check.feed, self.check.expected, self.check.allowed)
        packed = sum(len(data) for data in self.packing.blobs.content().values())
        return packed + sum(each.nbytes for values in known for each in values.values())


def subject(layer: DeviceLayer, places: Mapping[str, Place], check: Check) -> Subject:
    """The layer with every operand in a buffer of its own, of the same layout as in the network."""
    names = {name for name in (*layer.inputs, *layer.outputs) if name is not None and name in places}
    own = {name: replace(places[name], root=name, offset_elements=0) for name in names}
    feed = {
        name: pack(value.astype(dtype_of(own[name].type.dtype), copy=False), own[name].type)
        for name, value in check.feed.items()
    }
    laid = check.laid_out({name: own[name].type.strides for name in layer.outputs})
    return Subject(layer=layer, places=own, feed=feed, check=laid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What became of an implementation: why it is wrong ("" if it is right), its error as a share of what is allowed,
    and the microseconds of one run in a chain of itself inside one graph (0 if it is wrong)."""

    wrong: str
    error: float
    microseconds: float


def judge(
    tried: Subject,
    implementation: Implementation,
    bench: Bench,
    rehearsals: Rehearsing | None = None,
    *,
    leaves: int = 0,
) -> Judged:
    """Check an implementation and, if it is right, time it, first in `rehearsals`. `leaves` is the size in bytes of an
    L2 cache that the layer's weights have left when they are read again; 0 where they have not. Raises
    EnginewrightError where it fails."""
    alone = _rehearsed(tried, implementation, rehearsals)
    row = cold.row(*alone, CHAIN, asks=implementation.fetches_later, l2_bytes=leaves)
    with bench.opened(row.program, row.blobs) as running:
        wrong, error = _checked(tried, running)
        if wrong:
            return Judged(wrong=wrong, error=error, microseconds=0.0)
        taken = running.microseconds(CHAIN // row.launches, cold=row.launches > 1) / row.launches
        return Judged(wrong="", error=error, microseconds=taken)


def check(
    tried: Subject, implementation: Implementation, bench: Bench, rehearsals: Rehearsing | None = None
) -> tuple[str, float]:
    """Only check an implementation: why it is wrong, and its error. Raises EnginewrightError where it fails."""
    with bench.opened(*_rehearsed(tried, implementation, rehearsals)) as running:
        return _checked(tried, running)


def _rehearsed(
    tried: Subject, implementation: Implementation, rehearsals: Rehearsing | None
) -> tuple[DeviceProgram, dict[str, bytes]]:
    """The program of the layer alone and its blobs."""
    made = _assembled(tried, implementation)
    blobs = {name: bytes(data) for name, data in tried.packing.blobs.only(made.blobs).items()}
    if rehearsals is not None:
        rehearsals.rehearse(made.program, blobs, tried.feed)
    return made.program, blobs


def _checked(tried: Subject, running: Running) -> tuple[str, float]:
    made = running.run(tried.feed)
    return tried.check.judge({name: unpacked(made[name], tried.places[name].type) for name in tried.layer.outputs})


def pack(value: Array, kind: TensorType) -> Array:
    """A logical tensor as the flat stretch of memory that holds it; gaps are zero."""
    flat = np.zeros(_span(kind), value.dtype)
    target = unpacked(flat, kind)
    if value.nbytes < _SMALL or not value.ndim:
        target[...] = value
        return flat
    with ThreadPoolExecutor(available.processors()) as pool:  # channels last is another order of a gigabyte
        list(pool.map(lambda number: np.copyto(target[number], value[number]), range(len(value))))
    return flat


def unpacked(flat: Array, kind: TensorType) -> Array:
    """The logical tensor in a flat stretch of memory, where it lies."""
    strides = tuple(stride * flat.itemsize for stride in kind.strides)
    return np.lib.stride_tricks.as_strided(flat, kind.shape, strides)


def _span(kind: TensorType) -> int:
    return kind.span_bytes // ITEM_BYTES[kind.dtype]


def _assembled(tried: Subject, implementation: Implementation) -> assemble.Assembled:
    layer = tried.layer
    taken = [name for name in dict.fromkeys(layer.inputs) if name is not None and name in tried.places]
    border = assemble.Border(inputs=_flat(taken, tried.places), outputs=_flat(layer.outputs, tried.places))
    return assemble.assemble([layer], [implementation], tried.places, border, tried.packing, {}, None)


def _flat(names: Sequence[str], places: Mapping[str, Place]) -> tuple[Binding, ...]:
    return tuple(Binding(name=name, dtype=places[name].type.dtype, shape=(_span(places[name].type),)) for name in names)
