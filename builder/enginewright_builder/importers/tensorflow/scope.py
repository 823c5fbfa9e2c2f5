"""Where a graph's operations are written as ONNX layers: values in both layouts, constants, and what is known of them.

TensorFlow keeps channels last, ONNX first. A value that a convolution made is kept channels first, and its twin in
TensorFlow's layout is made only if something asks for it: so a network of convolutions, norms, activations and pools
has no transposes inside, whatever its exporter did.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from enginewright_builder.importers.tensorflow import inference
from enginewright_builder.importers.tensorflow.budget import Budget
from enginewright_builder.importers.tensorflow.graph import Subgraph
from enginewright_builder.network import shapes
from enginewright_builder.network.network import Network
from enginewright_builder.plugins.collection import NONE, Plugins
from enginewright_runtime.errors import ModelError, UnsupportedError

OPSET = 21
SMALL = 1024  # elements of a constant that arithmetic on shapes is done with here and now

_DEEPEST = 24  # functions in functions, loops in loops

Array = np.ndarray[Any, np.dtype[Any]]


@cache
def _least_inputs(op: str) -> int:
    return int(onnx.defs.get_schema(op, OPSET).min_input)


@dataclass(slots=True, eq=False)
class Tensor:
    """One output of an operation: `value` in TensorFlow's layout, `first` channels first, either made when asked for.

    `array` is the constant that it is, `rank` the number of dimensions where known. A dead one is on the side of a
    switch that is never taken.
    """

    value: ir.Value | None = None
    first: ir.Value | None = None
    array: Array | None = None
    rank: int | None = None
    dead: bool = False
    rows: "Rows | None" = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """A TensorArray or TensorList: `stacked` along a first dimension, or not written yet. In a loop, `row` is what this
    iteration puts `at` a place."""

    size: Tensor | None = None
    stacked: Tensor | None = None
    row: Tensor | None = None
    at: Tensor | None = None


DEAD = Tensor(dead=True)


def channels_first(rank: int) -> tuple[int, ...]:
    """The order that brings channels from the end to the second place: (0, 3, 1, 2) for images."""
    return (0, rank - 1, *range(1, rank - 1))


def channels_last(rank: int) -> tuple[int, ...]:
    """The order back: (0, 2, 3, 1) for images."""
    return (0, *range(2, rank), 1)


@dataclass(slots=True, kw_only=True)
class Scope:
    """A graph that is being written. `where` names the model in errors, `node` the operation that is being written."""

    where: str
    graph: ir.Graph
    plugins: Plugins = field(default_factory=lambda: NONE)
    notes: list[str] = field(default_factory=list)
    node: str = ""
    run: "Run | None" = None
    training: frozenset[str] = frozenset()
    library: Mapping[str, Any] = field(default_factory=dict)
    outer: "Scope | None" = None
    depth: int = 0
    budget: Budget
    _taken: set[str] = field(default_factory=set)

    def body(self, name: str) -> "Scope":
        """A graph inside of this one: of a loop or a branch. Constants go to the outermost graph."""
        return Scope(
            where=self.where,
            graph=ir.Graph([], [], nodes=[], name=self.fresh(name)),
            plugins=self.plugins,
            notes=self.notes,
            node=self.node,
            run=self.run,
            training=self.training,
            library=self.library,
            outer=self,
            depth=self.depth,
            budget=self.budget,
            _taken=self._taken,
        )

    @property
    def outermost(self) -> "Scope":
        """That of the network's own graph."""
        return self if self.outer is None else self.outer.outermost

    def convert(self, sub: Subgraph, inputs: "Sequence[Tensor]") -> "list[Tensor]":
        """Write a subgraph into this very graph. Raises UnsupportedError where they nest without end."""
        assert self.run is not None, "an importer gives it"
        if self.depth >= _DEEPEST:
            raise UnsupportedError(f"{self.where} nests functions more than {_DEEPEST} deep at {self.node!r}.")
        self.budget.call(self.node)
        node, self.depth = self.node, self.depth + 1
        try:
            return self.run(self, sub, inputs)
        finally:
            self.node, self.depth = node, self.depth - 1

    def lend(self, tensor: Tensor) -> Tensor:
        """A tensor as a graph inside of this one sees it: whatever is made of it there stays there."""
        if tensor.dead:
            return tensor
        if tensor.rows is not None:
            size, stacked = tensor.rows.size, tensor.rows.stacked
            lent = Rows(size=size and self.lend(size), stacked=stacked and self.lend(stacked))
            return Tensor(rows=lent)
        if tensor.array is not None:
            return Tensor(array=tensor.array, rank=tensor.rank)
        return Tensor(value=self.plain(tensor), first=tensor.first, rank=tensor.rank)

    def fresh(self, like: str) -> str:
        """A name that no value of this graph has."""
        name, number = like, 1
        while name in self._taken:
            number += 1
            name = f"{like}_{number}"
        self._taken.add(name)
        return name

    def layer(self, op: str, *inputs: ir.Value | None, outputs: int = 1, **attributes: Any) -> tuple[ir.Value, ...]:
        """Append an ONNX layer; it is named after the operation that it is part of."""
        if len(inputs) < _least_inputs(op):
            raise ModelError(
                f"{self.where} is damaged: the operation {self.node!r} has {len(inputs)} inputs and takes "
                f"{_least_inputs(op)}; export it again."
            )
        self.budget.make(outputs, self.node)
        name = self.fresh(f"{self.node}/{op}" if self.node else op)
        made = [ir.Value(name=name if index == 0 else self.fresh(f"{name}:{index}")) for index in range(outputs)]
        node = ir.node(op, list(inputs), attributes, outputs=made, name=name)
        self.graph.append(node)
        if self.outer is not None:  # inference sees only whole networks
            inference.describe(node, OPSET)
        return tuple(made)

    def put(self, op: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """`layer` of one output."""
        return self.layer(op, *inputs, **attributes)[0]

    def constant(self, array: Array, like: str = "") -> ir.Value:
        """A constant of the graph."""
        self.budget.hold(array.nbytes, self.node)
        self.budget.make(1, self.node)
        if array.dtype == object and not all(isinstance(each, bytes) for each in array.reshape(-1)):
            raise UnsupportedError(f"{self.where}: the operation {self.node!r} computes with texts.")
        name = self.fresh(like or f"{self.node}/constant")
        data = list(array.reshape(-1)) if array.dtype == object else array
        tensor = ir.StringTensor(data, shape=ir.Shape(array.shape), name=name) if array.dtype == object else None
        held = tensor if tensor is not None else ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(held.dtype), const_value=held)
        self.outermost.graph.register_initializer(value)
        return value

    def ints(self, *numbers: int) -> ir.Value:
        """A constant vector of int64, as ONNX wants axes and shapes."""
        return self.constant(np.array(numbers, dtype=np.int64))

    def known(self, array: Array) -> Tensor:
        """A tensor that is a constant; it becomes one of the graph when something reads it."""
        self.budget.hold(array.nbytes, self.node)
        return Tensor(array=array, rank=array.ndim)

    def plain(self, tensor: Tensor) -> ir.Value:
        """The value in TensorFlow's layout."""
        if tensor.value is None:
            if tensor.array is not None:
                tensor.value = self.constant(tensor.array)
            else:
                if tensor.first is None:
                    raise UnsupportedError(
                        f"{self.where}: the operation {self.node!r} reads an array of tensors as if it were one: stack "
                        "it before."
                    )
                tensor.value = self.put("Transpose", tensor.first, perm=channels_last(self.rank(tensor)))
        return tensor.value

    def turned(self, tensor: Tensor, rank: int) -> ir.Value:
        """The value channels first, of a tensor that has `rank` dimensions."""
        if tensor.first is None:
            tensor.rank = rank
            if tensor.array is not None:
                tensor.first = self.constant(tensor.array.transpose(channels_first(rank)))
            else:
                tensor.first = self.put("Transpose", self.plain(tensor), perm=channels_first(rank))
        return tensor.first

    def long(self, tensor: Tensor) -> ir.Value:
        """The value as int64: TensorFlow's shapes and indices are int32, ONNX's are not."""
        if tensor.array is not None:
            return self.constant(tensor.array.astype(np.int64))
        return self.put("Cast", self.plain(tensor), to=ir.DataType.INT64)

    def vector(self, tensor: Tensor) -> ir.Value:
        """`long` of a scalar, as a vector of one."""
        if tensor.array is not None:
            return self.constant(tensor.array.astype(np.int64).reshape(1))
        return self.put("Reshape", self.long(tensor), self.ints(1))

    def rank(self, tensor: Tensor) -> int:
        """The number of dimensions. Raises UnsupportedError where nothing tells it."""
        if tensor.rank is None:
            value = self.plain(tensor)
            self._infer(value)
            if value.shape is None:
                raise UnsupportedError(
                    f"{self.where}: the operation {self.node!r} needs the rank of its input, which nothing tells: "
                    "export the model with the shapes of its placeholders."
                )
            tensor.rank = len(value.shape)
        return tensor.rank

    def shape(self, tensor: Tensor) -> tuple[int | None, ...] | None:
        """The dimensions that are known, in TensorFlow's layout; None where not even the rank is."""
        if tensor.array is not None:
            return tuple(tensor.array.shape)
        value = self.plain(tensor)
        self._infer(value)
        return None if value.shape is None else tuple(d if isinstance(d, int) else None for d in value.shape)

    def describe(self) -> None:
        """Types and shapes of what was written so far."""
        if self.outer is None:
            shapes.infer(Network(ir.Model(self.graph, ir_version=10), plugins=self.plugins))

    def _infer(self, value: ir.Value) -> None:
        if value.shape is None:
            self.describe()


Run = Callable[[Scope, Subgraph, Sequence[Tensor]], list[Tensor]]
