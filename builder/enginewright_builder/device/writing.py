"""Writing layers in the place of one: a few operators with their shapes, all of them put where that layer stands.

Expansions use it to say a layer in simpler ones. What they make carries the layer's name, for reports.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from enginewright_builder.network import rewire
from enginewright_builder.network.network import Array, Network

Shape = tuple[int, ...]


class Writer:
    """Collects layers that compute with values of `dtype`; `finish` puts them in the place of `node`."""

    def __init__(self, network: Network, node: ir.Node, dtype: ir.DataType) -> None:
        self.network = network
        self.node = node
        self.dtype = dtype
        self._made: list[ir.Node] = []
        self._constants: dict[tuple[object, ...], ir.Value] = {}

    def layer(
        self,
        operator: str,
        inputs: Sequence[ir.Value],
        shape: Shape | None,
        attributes: Sequence[ir.Attr] = (),
        dtype: ir.DataType | None = None,
    ) -> ir.Value:
        """A layer with one output of that shape (None where only inference will tell)."""
        name = self.node.name or self.node.op_type
        output = ir.Value(
            name=self.network.fresh(f"{name}/{operator}{len(self._made)}"),
            shape=None if shape is None else ir.Shape(shape),
            type=ir.TensorType(dtype or self.dtype),
        )
        made = ir.Node("", operator, inputs, list(attributes), name=output.name, outputs=[output])
        self._made.append(made)
        return output

    def constant(self, array: Array) -> ir.Value:
        """A constant; equal ones are one."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"{self.node.name or self.node.op_type}/constant{len(self._constants)}"
            self._constants[key] = self.network.add_constant(name, array)
        return self._constants[key]

    def number(self, value: float) -> ir.Value:
        """A scalar of the layer's type."""
        return self.constant(np.array(value, self.dtype.numpy()))

    def reshape(self, value: ir.Value, shape: Shape) -> ir.Value:
        """The same elements in another shape."""
        if value.shape is not None and tuple(value.shape) == shape:
            return value
        wanted = self.constant(np.array(shape, np.int64))
        return self.layer("Reshape", [value, wanted], shape, dtype=value.dtype)

    def transpose(self, value: ir.Value, order: Sequence[int]) -> ir.Value:
        """The dimensions in another order."""
        old = shape_of(value)
        attributes = [ir.AttrInt64s("perm", list(order))]
        return self.layer("Transpose", [value], tuple(old[axis] for axis in order), attributes, value.dtype)

    def slice(self, value: ir.Value, axis: int, begin: int, end: int) -> ir.Value:
        """The elements from `begin` up to `end` of a dimension."""
        old = shape_of(value)
        if (begin, end) == (0, old[axis]):
            return value
        shape = (*old[:axis], end - begin, *old[axis + 1 :])
        if self.network.opset < 10:
            bounds = (("starts", begin), ("ends", end), ("axes", axis))
            attributes = [ir.AttrInt64s(name, [number]) for name, number in bounds]
            return self.layer("Slice", [value], shape, attributes, value.dtype)
        bounds_given = [self.constant(np.array([number], np.int64)) for number in (begin, end, axis)]
        return self.layer("Slice", [value, *bounds_given], shape, dtype=value.dtype)

    def concat(self, values: Sequence[ir.Value], axis: int) -> ir.Value:
        """One behind the other."""
        if len(values) == 1:
            return values[0]
        first = shape_of(values[0])
        total = sum(shape_of(value)[axis] for value in values)
        shape = (*first[:axis], total, *first[axis + 1 :])
        return self.layer("Concat", values, shape, [ir.AttrInt64("axis", axis)], values[0].dtype)

    def stack(self, values: Sequence[ir.Value], axis: int) -> ir.Value:
        """Along a new axis. Shapes need not be known."""
        spread = [self._unsqueezed(value, axis) for value in values]
        if len(spread) == 1:
            return spread[0]
        return self.layer("Concat", spread, None, [ir.AttrInt64("axis", axis)], values[0].dtype)

    def _unsqueezed(self, value: ir.Value, axis: int) -> ir.Value:
        if self.network.opset < 13:
            return self.layer("Unsqueeze", [value], None, [ir.AttrInt64s("axes", [axis])], value.dtype)
        at = self.constant(np.array([axis], np.int64))
        return self.layer("Unsqueeze", [value, at], None, dtype=value.dtype)

    def product(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """A matrix product of two matrices."""
        return self.layer("MatMul", [a, b], (shape_of(a)[0], shape_of(b)[1]))

    def both(self, operator: str, a: ir.Value, b: ir.Value) -> ir.Value:
        """A pointwise operator of two values that broadcast."""
        return self.layer(operator, [a, b], np.broadcast_shapes(shape_of(a), shape_of(b)))

    def each(self, operator: str, value: ir.Value, **attributes: float) -> ir.Value:
        """A pointwise operator of one value."""
        given = [ir.AttrFloat32(name, number) for name, number in attributes.items()]
        return self.layer(operator, [value], shape_of(value), given)

    def inline(self, body: ir.Graph, inputs: Sequence[ir.Value], label: str) -> list[ir.Value]:
        """A copy of a layer's body with these inputs comes next; its outputs. `label` tells copies apart."""
        copy = body.clone(allow_outer_scope_values=True)
        outputs = list(copy.outputs)
        copy.outputs.clear()
        for own, value in zip(list(copy.inputs), inputs, strict=True):
            outputs = [value if output is own else output for output in outputs]
            own.replace_all_uses_with(value)
        for value in list(copy.initializers.values()):
            copy.initializers.pop(value.name or "")
            value.name = self.network.fresh(value.name or "constant")
            self.network.graph.register_initializer(value)
        for inner in list(copy):
            copy.remove(inner)
            for value in inner.outputs:
                if value.name:
                    value.name = self.network.fresh(f"{self.node.name}/{label}/{value.name}")
            inner.name = f"{self.node.name}/{label}/{inner.name or inner.outputs[0].name}"
            self._made.append(inner)
        return outputs

    def finish(self, outputs: Sequence[ir.Value | None]) -> None:
        """Put everything in the place of the layer, whose outputs these values become."""
        carried = [None if new is None else self._own(new) for new in outputs]
        self.network.graph.insert_before(self.node, self._made)
        for old, new in zip(self.node.outputs, carried, strict=False):
            if old.name and new is not None:
                rewire.take_over(self.network, old, new)
        rewire.remove(self.network, self.node)

    def _own(self, value: ir.Value) -> ir.Value:
        """The value, or an Identity of it where it is none of these layers' (an input that is handed on)."""
        if value.producer() in self._made:
            return value
        shape = None if value.shape is None else shape_of(value)
        return self.layer("Identity", [value], shape, dtype=value.dtype)


def shape_of(value: ir.Value) -> Shape:
    """The shape of a value that is known to be static."""
    assert value.shape is not None, f"the shape of {value.name} is known"
    return tuple(int(extent) for extent in value.shape.numpy())
