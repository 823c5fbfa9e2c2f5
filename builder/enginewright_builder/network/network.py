"""The network: one mutable class around an onnx-ir model, with what every pass asks of a graph.

ONNX's operators are the vocabulary, onnx-ir holds, types and serializes the graph. A constant is an initializer of the
main graph; the importers leave no Constant node there and no initializer among the inputs. Passes change the main graph
alone: bodies of If, Loop and Scan stay as they are, and what they capture counts as a use (onnx-ir keeps it so).

A name of an input or output of the network is an interface: nothing here may ever change one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import onnx_ir as ir

from enginewright_builder.network import copying
from enginewright_runtime.plugins.definition import Plugin

ONNX_DOMAIN = ""
FUSED_DOMAIN = "enginewright"

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]

# What NumPy holds natively: the other types (bfloat16, float8, int4, strings) are carried, never computed with.
_COMPUTABLE = frozenset(
    {
        ir.DataType.FLOAT,
        ir.DataType.FLOAT16,
        ir.DataType.DOUBLE,
        ir.DataType.INT8,
        ir.DataType.INT16,
        ir.DataType.INT32,
        ir.DataType.INT64,
        ir.DataType.UINT8,
        ir.DataType.UINT16,
        ir.DataType.UINT32,
        ir.DataType.UINT64,
        ir.DataType.BOOL,
    }
)


class Network:
    """A model as a graph of layers. `notes` are sentences from the importer for the build's report, `plugins` by name
    what layers of domains of their own are."""

    def __init__(
        self, model: ir.Model, *, notes: Iterable[str] = (), plugins: Mapping[str, Plugin] | None = None
    ) -> None:
        self.model = model
        self.plugins: dict[str, Plugin] = dict(plugins or {})
        self.notes: tuple[str, ...] = tuple(notes)
        self._names: set[str] | None = None

    @property
    def graph(self) -> ir.Graph:
        """The main graph."""
        return self.model.graph

    @property
    def name(self) -> str:
        """The model's own name for its graph; may be empty."""
        return self.graph.name or ""

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators; 0 where the model uses none."""
        return self.graph.opset_imports.get(ONNX_DOMAIN, 0)

    @property
    def inputs(self) -> tuple[ir.Value, ...]:
        """What has to be given, in the model's order."""
        return tuple(self.graph.inputs)

    @property
    def outputs(self) -> tuple[ir.Value, ...]:
        """What is computed, in the model's order."""
        return tuple(self.graph.outputs)

    def layers(self) -> Iterator[ir.Node]:
        """The layers of the main graph in an order in which they can run."""
        return iter(self.graph)

    def copy(self) -> "Network":
        """A network of its own nodes and values that shares the constants' bytes with this one."""
        return Network(copying.copy(self.model), notes=self.notes, plugins=self.plugins)

    def constant(self, value: ir.Value | None) -> Array | None:
        """The constant that a value always has; None if it is computed, or of a type that NumPy cannot compute with."""
        if value is None or not is_constant(value):
            return None
        tensor = value.const_value
        if tensor is None or tensor.dtype not in _COMPUTABLE:
            return None
        return tensor.numpy()

    def add_constant(self, like: str, array: Array) -> ir.Value:
        """A new constant of the main graph, named after `like`."""
        name = self.fresh(like)
        tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def add_later_constant(self, like: str, tensor: ir.TensorProtocol, change: Callable[[Array], Array]) -> ir.Value:
        """A new constant of `tensor`'s type and shape, computed from it by `change` whenever it is asked for.

        So it takes no memory beside the constant that it comes from, which the network before the pass keeps.
        """
        name = self.fresh(like)

        def computed() -> ir.TensorProtocol:
            return ir.tensor(np.ascontiguousarray(change(tensor.numpy())), name=name)

        shape = ir.Shape(tensor.shape.numpy())
        later = ir.LazyTensor(computed, dtype=tensor.dtype, shape=shape, name=name)
        value = ir.Value(name=name, shape=shape.copy(), type=ir.TensorType(tensor.dtype), const_value=later)
        self.graph.register_initializer(value)
        return value

    def fresh(self, like: str) -> str:
        """A value name that no graph of the model uses, bodies included; `like` itself if it is free."""
        name, number = like, 1
        while not self.is_free(name):
            number += 1
            name = f"{like}_{number}"
        self.reserve(name)
        return name

    def is_free(self, name: str) -> bool:
        """Whether no value of the model has this name, and nobody asked for it."""
        return name not in self._taken()

    def reserve(self, name: str) -> None:
        """Keep a name from being given out again."""
        self._taken().add(name)

    def _taken(self) -> set[str]:
        if self._names is None:
            self._names = {name for graph in self.model.graphs() for name in _value_names(graph)}
        return self._names

    def add_output(self, like: ir.Value, suffix: str) -> ir.Value:
        """A new value, named after `like` and of its type and shape, for a new layer to produce."""
        return ir.Value(name=self.fresh(f"{like.name}_{suffix}"), shape=like.shape, type=like.type)


def is_constant(value: ir.Value) -> bool:
    """Whether a value is an initializer that nobody can replace from outside."""
    return value.is_initializer() and not value.is_graph_input() and value.const_value is not None


def is_computable(dtype: ir.DataType | None) -> bool:
    """Whether NumPy computes with the type natively."""
    return dtype in _COMPUTABLE


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape of a value, if every dimension is known."""
    if value is None or value.shape is None:
        return None
    dimensions = tuple(value.shape)
    return tuple(d for d in dimensions if isinstance(d, int)) if value.shape.is_static() else None


def bodies(node: ir.Node) -> tuple[ir.Graph, ...]:
    """The layer's own graphs (of If, Loop, Scan, SequenceMap), and theirs."""
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type is ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type is ir.AttributeType.GRAPHS:
            found.extend(attribute.as_graphs())
    return tuple(inner for graph in found for inner in (graph, *graph.subgraphs()))


def only_use(value: ir.Value) -> ir.Node | None:
    """The one layer that reads a value, once, in the same graph; None if there are others, or it is an output."""
    uses = tuple(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    node = uses[0].node
    return node if node.graph is value.graph else None


def reads(node: ir.Node) -> Iterator[ir.Value]:
    """The values that a layer reads, those that its bodies capture included (with repeats)."""
    yield from (value for value in node.inputs if value is not None)
    inner = set(bodies(node))
    for graph in inner:
        for body_node in graph:
            yield from (value for value in body_node.inputs if value is not None and _outside(value, inner))


def _outside(value: ir.Value, inner: set[ir.Graph]) -> bool:
    return value.graph is not None and value.graph not in inner


def _value_names(graph: ir.Graph) -> Iterator[str]:
    values = [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]
    yield from (value.name for value in values if value.name)
