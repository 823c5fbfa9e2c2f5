"""A layer's launches as a network has them whose weights do not stay in the L2 cache from one inference to the next.

A chain of one layer reads the same weights again and again, and finds them in the cache, which in such a network it
never does. So each launch of the chain has weights of its own, the cache is overwritten before the chain begins, and
kernels that can ask for the weights of a later launch do so, as they do there (later.py). Operands are warm from the
second launch on: in the network the layer before has just written them. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from enginewright_builder.device import later, pointing
from enginewright_builder.device.lower import DeviceLayer
from enginewright_runtime.engine.cuda.program import DeviceProgram, Pointer, Space, Step
from enginewright_runtime.engine.cuda.validation import pointers

TIMES = 2  # the L2's size that a network's weights must have: of less a part stays (retention.py)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`launches` passes over a program, one after the other, and the blobs of them all."""

    program: DeviceProgram
    blobs: Mapping[str, bytes]
    launches: int


def leaves(layers: Sequence[DeviceLayer], l2_bytes: int) -> bool:
    """Whether the weights of these layers leave a cache of this size before they are read again."""
    weights = {id(array): array.nbytes for layer in layers for array in layer.stored.values()}
    return sum(weights.values()) >= TIMES * l2_bytes


def row(program: DeviceProgram, blobs: Mapping[str, bytes], launches: int, *, asks: bool, l2_bytes: int) -> Row:
    """So many passes, each with weights of its own; `asks`: the steps may ask for later ones. A program without weights
    stays as it is, and so does one with more than the cache holds, which finds nothing there anyway."""
    weights = {each.name: len(blobs[each.name]) for step in program.steps for each in _constants(step)}
    if not 0 < sum(weights.values()) <= l2_bytes:
        return Row(program=program, blobs=blobs, launches=1)
    copies = {_named(name, number): blobs[name] for number in range(1, launches) for name in weights}
    every = {**blobs, **copies}
    steps = [pointing.moved(step, _own(number)) for number in range(launches) for step in program.steps]
    able = range(len(steps)) if asks else range(0)
    asking = later.with_later(steps, able, lambda name: len(every[name]))
    return Row(program=replace(program, steps=asking), blobs=every, launches=launches)


def _constants(step: Step) -> list[Pointer]:
    return [each for each in pointers(step) if each.space is Space.BLOB]


def _own(number: int) -> pointing.Move:
    """Of a pointer the one of this pass."""

    def move(pointer: Pointer) -> Pointer:
        return replace(pointer, name=_named(pointer.name, number)) if pointer.space is Space.BLOB else pointer

    return move


def _named(name: str, number: int) -> str:
    return f"{name} of pass {number}" if number else name
