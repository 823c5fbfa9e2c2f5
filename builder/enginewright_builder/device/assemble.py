"""From chosen implementations to a device program: lifetimes to offsets, pointers to addresses, constants to blobs.

The steps run in the layers' order; of the kernels that can, every second one walks over its tiles backwards. A root (a
value that others may be views of) lives from the layer that first writes into it to the last that reads it; a workspace
lives at its own layer alone. All of it lies in one arena.
"""

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from enginewright_builder import memory
from enginewright_builder.device import later, pointing, retention
from enginewright_builder.device.implementation import Array, Implementation
from enginewright_builder.device.layout import Place
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.pointing import Move
from enginewright_builder.device.tensors import ITEM_BYTES
from enginewright_builder.emit import Blobs
from enginewright_builder.tactics import hopper_order
from enginewright_runtime.engine import available, values
from enginewright_runtime.engine.cuda.program import DeviceProgram, Pointer, Space, Step, Tensor
from enginewright_runtime.plan.manifest import Arena, Binding


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """The program, its memory plan, and the names of the blobs that it needs."""

    program: DeviceProgram
    arena: Arena
    blobs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Border:
    """What crosses the segment's border."""

    inputs: Sequence[Binding]
    outputs: Sequence[Binding]


class Packing:
    """The constants of layers as blobs, each packed once: however often its program is assembled, and for all
    implementations that want it packed by the same function with the same arguments."""

    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs
        self._packed: dict[tuple[int, Hashable], tuple[DeviceLayer, str]] = {}

    def ahead(self, layers: Sequence[DeviceLayer], implementations: Sequence[Implementation]) -> None:
        """Pack all that these make, on several processors: it is copying and hashing, where Python is free."""
        wanted: dict[tuple[int, Hashable], tuple[DeviceLayer, str, Callable[..., Array]]] = {}
        for layer, implementation in zip(layers, implementations, strict=True):
            for name, make in implementation.constants.items():
                if (key := (id(layer), _maker(make))) not in self._packed:
                    wanted.setdefault(key, (layer, name, make))
        if not wanted:
            return
        with ThreadPoolExecutor(available.processors()) as pool:
            made = pool.map(lambda each: _content(each[2](each[0].constants)), wanted.values())
            for (key, (layer, name, _)), (data, digest) in zip(wanted.items(), made, strict=True):
                self._packed[key] = (layer, self.blobs.add(f"weights/{layer.name}.{name}", data, digest))

    def stored(self, layer: DeviceLayer, index: int) -> str:
        """The blob of a constant input as it lies in memory."""
        return self._blob(layer, index, layer.inputs[index] or "", lambda: layer.stored[index])

    def made(self, layer: DeviceLayer, implementation: Implementation, name: str) -> str:
        """The blob of what an implementation makes of the layer's constants."""
        make = implementation.constants[name]
        return self._blob(layer, _maker(make), f"{layer.name}.{name}", lambda: make(layer.constants))

    def _blob(self, layer: DeviceLayer, by: Hashable, title: str, make: Callable[[], Array]) -> str:
        key = (id(layer), by)
        if key not in self._packed:  # the layer is kept too, so that its id goes on meaning it
            self._packed[key] = (layer, self.blobs.add(f"weights/{title}", values.to_bytes(make())))
        return self._packed[key][1]


def _content(array: Array) -> tuple[bytes, str]:
    """Its bytes, and their sha256."""
    data = values.to_bytes(array)
    return data, sha256(data).hexdigest()


def _maker(make: Callable[..., Array]) -> Hashable:
    """Equal where the same function would be called with equal arguments."""
    if isinstance(make, functools.partial):
        said = (make.func, make.args, tuple(sorted(make.keywords.items())))
        with suppress(TypeError):  # an argument that has no hash, such as an array
            hash(said)
            return said
    return make


def assemble(
    layers: Sequence[DeviceLayer],
    implementations: Sequence[Implementation],
    places: Mapping[str, Place],
    border: Border,
    packing: Packing,
    libraries: Mapping[str, str],
    l2_bytes: int | None,
) -> Assembled:
    """One program of these layers, each run by its implementation. New blobs are added to those of `packing`.
    `l2_bytes` is the cache's size, None for a layer that is tried by itself: its weights are kept as all else."""
    arena = memory.place(_tensors(layers, implementations, places, border))
    packing.ahead(layers, implementations)
    needed: list[str] = []
    steps: list[Step] = []
    able: set[int] = set()  # numbers of the steps that may ask for later weights, and mark their own
    spaces = {binding.name: Space.INPUT for binding in border.inputs}
    spaces |= {binding.name: Space.OUTPUT for binding in border.outputs}
    for number, (layer, made) in enumerate(zip(layers, implementations, strict=True)):
        move = _mover(number, layer, made, places, spaces, arena, packing, needed)
        bound = [_bound(step, layer, made, move, packing.blobs, needed) for step in made.steps]
        able |= set(range(len(steps), len(steps) + len(bound))) if made.fetches_later else set()
        steps += bound

    def size(name: str) -> int:
        return packing.blobs.blob(name).nbytes

    marked = retention.with_marks(later.with_later(steps, able, size), able, size, l2_bytes)
    program = DeviceProgram(
        inputs=tuple(_tensor(binding) for binding in border.inputs),
        outputs=tuple(_tensor(binding) for binding in border.outputs),
        arena_bytes=arena.bytes,
        steps=hopper_order.alternate(marked),
        libraries=dict(libraries),
    )
    return Assembled(program=program, arena=arena, blobs=tuple(dict.fromkeys(needed)))


def _tensors(
    layers: Sequence[DeviceLayer],
    implementations: Sequence[Implementation],
    places: Mapping[str, Place],
    border: Border,
) -> list[memory.Tensor]:
    at_border = {binding.name for binding in (*border.inputs, *border.outputs)}
    sizes = _root_sizes(places)
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for number, layer in enumerate(layers):
        for name in (*layer.inputs, *layer.outputs):
            if name is not None and name in places and (root := places[name].root) not in at_border:
                first.setdefault(root, number)
                last[root] = number
    made = [
        memory.Tensor(name=root, bytes=sizes[root], first=number, last=last[root]) for root, number in first.items()
    ]
    scratch = [
        memory.Tensor(name=_workspace(number), bytes=each.workspace_bytes, first=number, last=number)
        for number, each in enumerate(implementations)
        if each.workspace_bytes
    ]
    return made + scratch


def _root_sizes(places: Mapping[str, Place]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for place in places.values():
        end = place.offset_elements * ITEM_BYTES[place.type.dtype] + place.type.span_bytes
        sizes[place.root] = max(sizes.get(place.root, 0), end)
    return sizes


def _workspace(number: int) -> str:
    return f"workspace of layer {number}"


def _mover(
    number: int,
    layer: DeviceLayer,
    made: Implementation,
    places: Mapping[str, Place],
    spaces: Mapping[str, Space],
    arena: Arena,
    packing: Packing,
    needed: list[str],
) -> Move:
    """The function that replaces a pointer of the implementation by one of the program."""
    names = (*layer.inputs, *layer.outputs)

    def blob(name: str, offset: int) -> Pointer:
        needed.append(name)
        return Pointer(space=Space.BLOB, name=name, offset=offset)

    def operand(index: int, offset: int) -> Pointer:
        name = names[index]
        assert name is not None, f"a step of {layer.name} points to the absent operand {index}"
        if index in layer.stored:
            return blob(packing.stored(layer, index), offset)
        place = places[name]
        at = place.offset_elements * ITEM_BYTES[place.type.dtype] + offset
        if place.root in spaces:
            return Pointer(space=spaces[place.root], name=place.root, offset=at)
        return Pointer(space=Space.ARENA, offset=arena.tensors[place.root].offset + at)

    def move(pointer: Pointer) -> Pointer:
        match pointer.space:
            case Space.OPERAND:
                return operand(int(pointer.name), pointer.offset)
            case Space.CONSTANT:
                return blob(packing.made(layer, made, pointer.name), pointer.offset)
            case Space.WORKSPACE:
                start = arena.tensors[_workspace(number)].offset
                return Pointer(space=Space.ARENA, offset=start + pointer.offset)
            case _:
                return pointer

    return move


def _bound(step: Step, layer: DeviceLayer, made: Implementation, move: Move, blobs: Blobs, needed: list[str]) -> Step:
    def kept(name: str, data: bytes) -> str:
        added = blobs.add(name, data)
        needed.append(added)
        return added

    named = replace(step, layer=layer.name)
    if (kernel := step.kernel) is not None:
        named = replace(
            named, kernel=replace(kernel, cubin=kept(f"cubins/{kernel.function}", made.cubins[kernel.cubin]))
        )
    elif (graph := step.cudnn) is not None:
        named = replace(named, cudnn=replace(graph, graph=kept(f"graphs/{layer.name}", made.graphs[graph.graph])))
    return pointing.moved(named, move)


def _tensor(binding: Binding) -> Tensor:
    shape = binding.shape or ()
    size = int(np.prod(shape, dtype=np.int64)) * ITEM_BYTES[binding.dtype]
    return Tensor(name=binding.name, dtype=binding.dtype, shape=shape, bytes=size)
