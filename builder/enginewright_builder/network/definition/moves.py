"""Layers that move, pick or gather elements: concatenation, shuffle, top-k, gather, reduction."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from enginewright_builder.network import text
from enginewright_builder.network.definition import sizes
from enginewright_builder.network.definition.writer import Tensor, Writer, whole
from enginewright_builder.network.network import static_shape
from enginewright_runtime.errors import UsageError

_REDUCTIONS: Mapping[str, str] = MappingProxyType(
    {"sum": "ReduceSum", "prod": "ReduceProd", "max": "ReduceMax", "min": "ReduceMin", "average": "ReduceMean"}
)


class MovingLayers(Writer):
    """See the module."""

    def add_concatenation(self, parts: Sequence[Tensor], axis: int = 1, *, name: str = "") -> Tensor:
        """The tensors one after another along `axis`."""
        layer = self.named(name, "concatenation")
        if not parts:
            raise UsageError(f"The layer {layer!r} has nothing to concatenate: give a tensor or more.")
        sizes.axis(parts[0], axis, layer)
        return self.one(layer, "Concat", list(parts), {"axis": axis})

    @whole
    def add_shuffle(
        self,
        x: Tensor,
        *,
        first_transpose: Sequence[int] | None = None,
        reshape: Sequence[int] | None = None,
        second_transpose: Sequence[int] | None = None,
        name: str = "",
    ) -> Tensor:
        """Turn the dimensions, give them new sizes, turn them again; of sizes 0 keeps one and -1 is what remains."""
        layer = self.named(name, "shuffle")
        steps = [
            ("Transpose", first_transpose, "first"), ("Reshape", reshape, "reshape"),
            ("Transpose", second_transpose, "second"),
        ]  # fmt: skip
        wanted = [(operator, list(given), role) for operator, given, role in steps if given is not None]
        if not wanted:
            raise UsageError(f"The layer {layer!r} has nothing to do: give a transpose or a reshape.")
        for place, (operator, given, role) in enumerate(wanted):
            name = layer if place == len(wanted) - 1 else self.part(layer, role)
            x = self._turned_as(x, given, name) if operator == "Transpose" else self._reshaped(x, given, name)
        return x

    def add_topk(
        self, x: Tensor, k: int, axis: int = -1, *, kind: str = "max", name: str = ""
    ) -> tuple[Tensor, Tensor]:
        """The k largest ("max") or smallest ("min") along `axis`, in order, and where they stood (int64)."""
        layer = self.named(name, "topk")
        largest = sizes.chosen({"max": 1, "min": 0}, kind, "A top-k")
        size = sizes.of(x, layer)[sizes.axis(x, axis, layer)]
        if k < 1 or (isinstance(size, int) and k > size):
            raise UsageError(f"The layer {layer!r} cannot take {k} of {size}: {x.name!r} is {text.type_text(x)}.")
        count = self.numbers(np.array([k], np.int64), layer, "k")
        values, places = self.append(layer, "TopK", [x, count], {"axis": axis, "largest": largest}, outputs=2)
        return values, places

    def add_gather(self, x: Tensor, indices: Tensor, axis: int = 0, *, name: str = "") -> Tensor:
        """The slices of `x` along `axis` that `indices` (int32 or int64) name; negative ones count from the end."""
        layer = self.named(name, "gather")
        size = sizes.of(x, layer)[sizes.axis(x, axis, layer)]
        known = self.constant(indices) if isinstance(indices, Tensor) else None
        if known is not None and known.dtype.kind == "i" and isinstance(size, int) and known.size:
            least, most = int(known.min()), int(known.max())
            if least < -size or most >= size:
                raise UsageError(
                    f"The layer {layer!r} gathers from {least} to {most}, and dimension {axis} of {x.name!r} "
                    f"{text.type_text(x)} has {size}."
                )
        return self.one(layer, "Gather", [x, indices], {"axis": axis})

    def add_reduce(
        self, x: Tensor, kind: str, axes: Sequence[int], *, keep_dimensions: bool = False, name: str = ""
    ) -> Tensor:
        """sum, prod, max, min or average over `axes`."""
        operator = sizes.chosen(_REDUCTIONS, kind, "A reduction")
        layer = self.named(name, f"reduce_{kind}")
        places = [sizes.axis(x, axis, layer) for axis in axes]
        if not places:
            raise UsageError(f"The layer {layer!r} has no axes to reduce: name one or more.")
        keep = {"keepdims": int(keep_dimensions)}
        if operator == "ReduceSum":  # of opset 13, whose axes are an input
            return self.one(layer, operator, [x, self.numbers(np.array(places, np.int64), layer, "axes")], keep)
        return self.one(layer, operator, [x], keep | {"axes": places})

    def _turned_as(self, x: Tensor, order: list[int], layer: str) -> Tensor:
        if sorted(order) != list(range(len(sizes.of(x, layer)))):
            raise UsageError(f"The layer {layer!r} cannot turn {x.name!r} {text.type_text(x)} by {order}.")
        return self.one(layer, "Transpose", [x], {"perm": order})

    def _reshaped(self, x: Tensor, shape: list[int], layer: str) -> Tensor:
        before = static_shape(x)
        if before is not None and -1 not in shape:
            kept = [before[at] if not size and at < len(before) else size for at, size in enumerate(shape)]
            if math.prod(before) != math.prod(kept):
                raise UsageError(
                    f"The layer {layer!r} cannot reshape {x.name!r} {text.type_text(x)} to {shape}: "
                    f"{math.prod(before)} elements would be {math.prod(kept)}."
                )
        return self.one(layer, "Reshape", [x, self.numbers(np.array(shape, np.int64), layer, "shape")])
