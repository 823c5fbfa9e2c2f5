"""What all families of layers stand on: inputs, outputs, and one way to append an operator with its shapes inferred.

A call that raises leaves nothing behind: names are taken and constants registered once the layer stands.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from enginewright_builder.network import export, network, text
from enginewright_builder.network.definition import inference
from enginewright_runtime.engine import values
from enginewright_runtime.errors import UsageError

OPSET = 17  # what every runtime of the last years runs; what came later is written out
IR_VERSION = 8

Tensor: TypeAlias = ir.Value
Weights: TypeAlias = Tensor | npt.ArrayLike
Given = ParamSpec("Given")
Made = TypeVar("Made")
Pen = TypeVar("Pen", bound="Writer")


class Writer(network.Network):
    """An empty network that grows. Every tensor that a method returns knows its dtype and shape."""

    def __init__(self, name: str = "network") -> None:
        graph = ir.Graph([], [], nodes=[], opset_imports={network.ONNX_DOMAIN: OPSET}, name=name)
        super().__init__(ir.Model(graph, ir_version=IR_VERSION))

    def add_input(self, name: str, shape: Sequence[int | str], dtype: str = "float32") -> Tensor:
        """A tensor to be given; a dimension that is a word, as "batch", is free until the build."""
        if dtype not in values.DTYPES:
            raise UsageError(f"The input {name!r} cannot be {dtype!r}: it must be one of {', '.join(values.DTYPES)}.")
        if any(not size or (isinstance(size, int) and size < 0) for size in shape):
            raise UsageError(f"The input {name!r} cannot be {list(shape)}: a size is 1 or more, or a word if free.")
        kind = ir.DataType.STRING if dtype == values.STRING else ir.DataType.from_numpy(values.DTYPES[dtype])
        value = ir.Value(name=self.named(name, "input"), shape=ir.Shape(shape), type=ir.TensorType(kind))
        self.reserve(value.name or "")
        self.graph.inputs.append(value)
        return value

    def mark_output(self, tensor: Tensor, name: str = "") -> Tensor:
        """Make a tensor an output of the network, under a name of its own if one is given."""
        self.own(tensor, "mark_output")
        if tensor.is_graph_output():
            raise UsageError(f"The tensor {tensor.name!r} is an output already: mark each once.")
        if tensor.producer() is None:
            raise UsageError(f"The tensor {tensor.name!r} is made by no layer: an output must be computed.")
        if name and name != tensor.name:
            tensor.name = self.named(name, name)
            self.reserve(name)
        self.graph.outputs.append(tensor)
        return tensor

    def add_operator(
        self,
        operator: str,
        inputs: Sequence[Tensor | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        outputs: int = 1,
        name: str = "",
    ) -> tuple[Tensor, ...]:
        """Any of ONNX's operators, by its name and with its own attributes. The first output has the layer's name."""
        return self.append(self.named(name, operator.lower()), operator, inputs, attributes, outputs=outputs)

    def append(
        self,
        layer: str,
        operator: str,
        inputs: Sequence[Tensor | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        outputs: int = 1,
    ) -> tuple[Tensor, ...]:
        """What every layer comes to. Raises UsageError where ONNX's inference refuses the inputs."""
        for value in inputs:
            if value is not None:
                self.own(value, layer)
        given = [ir.convenience.convert_attribute(key, value) for key, value in (attributes or {}).items()]
        types = inference.types(self, operator, inputs, given, layer=layer, outputs=outputs)
        self.reserve(layer)
        for value in inputs:
            if value is not None and value.graph is None:
                value.name = self.fresh(value.name or layer)
                self.graph.register_initializer(value)
        made = [
            ir.Value(name=self.fresh(f"{layer}:{index}") if index else layer, type=kind, shape=shape)
            for index, (kind, shape) in enumerate(types)
        ]
        self.graph.append(ir.Node(network.ONNX_DOMAIN, operator, inputs, given, name=layer, outputs=made))
        return tuple(made)

    def one(
        self, layer: str, operator: str, inputs: Sequence[Tensor | None], attributes: Mapping[str, Any] | None = None
    ) -> Tensor:
        """`append` for what makes one tensor."""
        return self.append(layer, operator, inputs, attributes)[0]

    def part(self, layer: str, role: str) -> str:
        """The name of one of several operators that a layer is written with."""
        return self.fresh(f"{layer}/{role}")

    def own(self, tensor: Tensor, what: str) -> None:
        """Raises UsageError for what is no tensor, or one of another network."""
        if not isinstance(tensor, ir.Value):
            raise UsageError(f"{what} takes tensors of this network, got {type(tensor).__name__}: see add_constant.")
        if tensor.graph is not self.graph and (tensor.graph is not None or tensor.const_value is None):
            raise UsageError(f"{what} takes tensors of this network, and {tensor.name!r} is of another one.")

    def weights(self, given: Weights, shape: Sequence[int], like: Tensor, *, layer: str, role: str) -> Tensor:
        """Weights as a constant of `shape` and of the dtype of `like`; flat ones of as many elements are reshaped.

        A tensor is taken as it is, if its shape fits or is not known. Raises UsageError with the shape got and wanted.
        """
        if isinstance(given, ir.Value):
            self.own(given, layer)
            got, fits = network.static_shape(given), network.static_shape(given) in (None, tuple(shape))
        else:
            array = np.asarray(given)
            got = array.shape
            fits = got == tuple(shape) or (array.ndim == 1 and array.size == np.prod(shape, dtype=int))
        if not fits:
            raise UsageError(
                f"The {role} of the layer {layer!r} must be {list(shape)} for its input {like.name!r} "
                f"{text.type_text(like)}, got {list(got or ())}."
            )
        if isinstance(given, ir.Value):
            return given
        array = array.reshape(shape)
        return self.numbers(array.astype(self.dtype(like, layer), copy=False), layer, role)

    def numbers(self, given: npt.ArrayLike, layer: str, role: str) -> Tensor:
        """A constant for the next layer; it is registered when that layer is."""
        tensor = ir.tensor(np.ascontiguousarray(given).reshape(np.shape(given)))
        return ir.Value(
            name=f"{layer}.{role}",
            shape=ir.Shape(np.shape(given)),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )

    def dtype(self, tensor: Tensor, layer: str) -> np.dtype[Any]:
        """The NumPy dtype of a tensor."""
        self.own(tensor, layer)
        assert tensor.dtype is not None, f"{tensor.name} was given a type as it was made"
        return tensor.dtype.numpy()

    def named(self, name: str, kind: str) -> str:
        """The name asked for, or a free one after the kind. Raises UsageError for one that is taken."""
        if not name:
            return self.fresh(kind)
        if not self.is_free(name):
            raise UsageError(f"The name {name!r} is taken in the network {self.name!r}: give another one.")
        return name

    def save(self, path: Path | str) -> None:
        """Write the network as ONNX, for `enginewright build` or any other reader. Raises UsageError, StorageError."""
        if not self.outputs:
            raise UsageError(f"The network {self.name!r} has no output: call mark_output before it is saved.")
        export.save(self, Path(path))


def whole(method: Callable[Concatenate[Pen, Given], Made]) -> Callable[Concatenate[Pen, Given], Made]:
    """For a method that appends several operators: where it raises, those that it has appended go again."""

    @wraps(method)
    def call(self: Pen, /, *args: Given.args, **kwargs: Given.kwargs) -> Made:
        nodes, constants = len(self.graph), set(self.graph.initializers)
        try:
            return method(self, *args, **kwargs)
        except UsageError:
            for node in reversed(list(self.graph)[nodes:]):
                self.graph.remove(node, safe=True)
            for name in set(self.graph.initializers) - constants:
                del self.graph.initializers[name]
            raise

    return call
