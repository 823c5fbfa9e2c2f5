"""Where every value of a finished network lies: its strides, and of which buffer it is a part.

Activations beside convolutions and pooling lie channels-last, all others in C order. Reshapes, transposes, slices and
splits become views of their input, and a concatenation disappears: what it joins is written into slices of its buffer
from the start. The layers that vanish so are `free`. Inputs and outputs of the network are always contiguous, in C
order, and an output is never a part of something else. Pure: nothing here knows a device.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from enginewright_builder import emit
from enginewright_builder.device import orders, tensors, views
from enginewright_builder.device.tensors import ITEM_BYTES, TensorType
from enginewright_builder.network.network import Network, is_constant, static_shape
from enginewright_runtime.errors import UnsupportedError

# Kernels read and write 16 bytes at once where the strides allow it, and see the strides alone: every part of a buffer
# begins at such a boundary, or is no part but a copy.
_ALIGNMENT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a value lies: `offset_elements` after the first element of the value `root`, which owns its memory."""

    type: TensorType
    root: str
    offset_elements: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A place for every value that is not constant, by name; `free` names the outputs of the layers that vanish."""

    places: Mapping[str, Place]
    free: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Slice:
    """A value as a part of another: `start` along `axis`."""

    whole: ir.Value
    axis: int
    start: int


def assign(network: Network) -> Layout:
    """Places for all values of a network whose shapes are fixed.

    Raises UnsupportedError, naming the value, where a shape is not known before it is computed.
    """
    return _Layouter(network).run()


def executed_layers(network: Network, layout: Layout) -> int:
    """How many layers launch something: all but those that vanish."""
    return sum(executed_kinds(network, layout).values())


def executed_kinds(network: Network, layout: Layout) -> dict[str, int]:
    """How many of each operator launch something."""
    executed = (n for n in network.layers() if any(v.name and v.name not in layout.free for v in n.outputs))
    return dict(Counter(node.op_type for node in executed))


class _Layouter:
    """One run: orders first, then which values are slices of a concatenation, then places from the inputs down."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.orders = orders.channels_last_values(network)
        self.slices: dict[ir.Value, _Slice] = {}
        self.room: dict[ir.Value, tuple[int, int]] = {}  # of an axis, for a concatenation behind the value's last part
        self.places: dict[ir.Value, Place] = {}
        self.free: set[str] = set()

    def run(self) -> Layout:
        for node in self.network.layers():
            if node.op_type == "Concat" and not node.domain:
                self._claim(node)
        for value in self.network.inputs:
            self.places[value] = Place(type=_plain(value), root=value.name or "")
        for node in self.network.layers():
            self._place_outputs(node)
        places = {value.name or "": place for value, place in self.places.items()}
        return Layout(places=places, free=frozenset(self.free))

    def _place_outputs(self, node: ir.Node) -> None:
        made = [value for value in node.outputs if value.name]
        if node.op_type == "Concat" and any(of.whole is node.outputs[0] for of in self.slices.values()):
            self.free.add(made[0].name or "")
        elif (found := self._as_views(node, made)) is not None:
            self.places.update(zip(made, found, strict=True))
            self.free.update(value.name or "" for value in made)
            return
        for value in made:
            self._place(value)

    def _place(self, value: ir.Value) -> Place:
        """The place of a value that a kernel writes, or that a concatenation's inputs make up."""
        if value in self.places:
            return self.places[value]
        part = self.slices.get(value)
        if part is None:
            place = Place(type=self._own(value), root=value.name or "")
        else:
            whole = self._place(part.whole)
            place = Place(
                type=TensorType(dtype=whole.type.dtype, shape=_shape(value), strides=whole.type.strides),
                root=whole.root,
                offset_elements=whole.offset_elements + part.start * whole.type.strides[part.axis],
            )
        self.places[value] = place
        return place

    def _own(self, value: ir.Value) -> TensorType:
        """How a value lies that has a buffer of its own: as what follows it wants it, else as its neighbours do."""
        kind = _plain(value)
        if value.is_graph_output() or orders.wants_plain(value):
            return kind
        if value in self.room:
            return _reordered(kind, self._widened(value, *self.room[value]))
        if value in self.orders:
            return _reordered(kind, tensors.channels_last(kind.shape))
        uses = [use.node for use in value.uses()]
        if len(uses) == 1 and uses[0].op_type == "Transpose" and not uses[0].domain:
            after = uses[0].outputs[0]
            if after.name and not after.is_graph_output():
                return _reordered(kind, views.order_before(uses[0], self._own(after), kind.shape))
        return kind

    def _as_views(self, node: ir.Node, made: list[ir.Value]) -> list[Place] | None:
        """The places of a layer's outputs as views of its input; None where one of them has to be a copy."""
        source = node.inputs[0] if node.inputs else None
        if node.domain or node.op_type not in views.MOVES or source is None or source not in self.places:
            return None
        if any(value.is_graph_output() or value in self.slices for value in made):
            return None
        place = self.places[source]
        found = views.of_layer(self.network, node, place.type)
        if found is None or len(found) != len(made):
            return None
        for value, (kind, offset) in zip(made, found, strict=True):
            if not _aligned(kind, place.offset_elements + offset) or not orders.readers_take(value, kind):
                return None
        return [Place(type=k, root=place.root, offset_elements=place.offset_elements + o) for k, o in found]

    def _claim(self, node: ir.Node) -> None:
        """Make the inputs of a concatenation slices of its output, if each can be."""
        whole = node.outputs[0]
        kind = _plain(whole)
        axis = (node.attributes.get_int("axis", 0) or 0) % max(len(kind.shape), 1)
        if not kind.shape or len(set(node.inputs)) != len(node.inputs):
            return
        strides = tensors.channels_last(kind.shape) if whole in self.orders else kind.strides
        wide = self._wide_before(node, axis)
        before = 0 if wide is None else _shape(wide)[axis] - _shape(_first(node))[axis]
        claimed: dict[ir.Value, _Slice] = {}
        start = 0
        for value in node.inputs:
            if value is None or (before + start) * strides[axis] * ITEM_BYTES[kind.dtype] % _ALIGNMENT:
                return
            if start or wide is None:
                if not self._can_be_slice(value, whole):
                    return
                claimed[value] = _Slice(whole, axis, start)
            start += _shape(value)[axis]
        if wide is not None and not self._parts_fit(wide, axis, before + start):
            return
        self.slices.update(claimed)
        if wide is not None:
            self.slices[whole] = _Slice(wide, axis, before)
            self.room[wide] = (axis, before + start)

    def _wide_before(self, node: ir.Node, axis: int) -> ir.Value | None:
        """What is split so that its last part begins this concatenation: one buffer can hold both."""
        first, whole = _first(node), node.outputs[0]
        split = first.producer()
        if split is None or split.op_type != "Split" or split.domain or split.outputs[-1] is not first:
            return None
        wide = split.inputs[0]
        if wide is None or wide.producer() is None or wide in self.slices or wide in self.room:
            return None
        same = (split.attributes.get_int("axis", 0) or 0) % len(_shape(wide)) == axis
        if not same or len(wide.uses()) != 1 or wide.is_graph_output() or whole.is_graph_output():
            return None
        if orders.wants_plain(wide) or orders.wants_plain(whole) or (wide in self.orders) != (whole in self.orders):
            return None
        return wide

    def _parts_fit(self, wide: ir.Value, axis: int, extent: int) -> bool:
        """Whether all parts of `wide`, which is split, can be views of it where it lies in a buffer of this extent."""
        split = next(iter(wide.uses())).node
        seen = _reordered(_plain(wide), self._widened(wide, axis, extent))
        found = views.of_layer(self.network, split, seen) or []
        return len(found) == len(split.outputs) and all(
            part.name and not part.is_graph_output() and orders.readers_take(part, kind) and _aligned(kind, offset)
            for part, (kind, offset) in zip(split.outputs, found, strict=True)
        )

    def _widened(self, value: ir.Value, axis: int, extent: int) -> tuple[int, ...]:
        shape = _shape(value)
        whole = (*shape[:axis], extent, *shape[axis + 1 :])
        return tensors.channels_last(whole) if value in self.orders else tensors.row_major(whole)

    def _can_be_slice(self, value: ir.Value, whole: ir.Value) -> bool:
        producer = value.producer()
        if producer is None or is_constant(value) or value.is_graph_output() or value in self.slices:
            return False
        if producer.op_type in views.MOVES and not producer.domain:
            return False  # it is a view itself, most likely, and a copy at the worst
        if orders.wants_plain(value) or (value in self.orders) != (
            whole in self.orders and not whole.is_graph_output()
        ):
            return False
        return producer.op_type != "Concat" or any(of.whole is value for of in self.slices.values())


def _first(node: ir.Node) -> ir.Value:
    first = node.inputs[0]
    assert first is not None, f"{node.name} joins something"
    return first


def _plain(value: ir.Value) -> TensorType:
    return tensors.plain(emit.binding(value).dtype, _shape(value))


def _shape(value: ir.Value) -> tuple[int, ...]:
    shape = static_shape(value)
    if shape is None:
        raise UnsupportedError(
            f"The value {value.name!r} has no place on the device: its shape is known only when it has been computed; "
            "build with --allow-host to run its layer on the CPU."
        )
    return shape


def _aligned(kind: TensorType, offset: int) -> bool:
    return offset * ITEM_BYTES[kind.dtype] % _ALIGNMENT == 0


def _reordered(kind: TensorType, strides: tuple[int, ...]) -> TensorType:
    return TensorType(dtype=kind.dtype, shape=kind.shape, strides=strides)
