"""Writing ONNX while the shapes of Caffe's blobs are kept beside it: Caffe's layers are defined on known shapes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from enginewright_builder.network.network import Array
from enginewright_builder.plugins import layers
from enginewright_runtime.plugins.definition import Plugin

OPSET = 18  # the first with axes as inputs throughout and Resize, Split and Pad as they are used here
_LARGEST = 1 << 31  # numbers in a blob, as in Caffe, whose counts are int


class BlobShapeError(Exception):
    """A shape that no blob can have."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A value of the network, and its shape."""

    value: ir.Value
    shape: tuple[int, ...]


class Writer:
    """The graph as it grows, layer by layer: what is written is named after the layer that was begun last."""

    def __init__(self, name: str, reserved: Iterable[str]) -> None:
        """`reserved` are names of values that nothing gets but by `entitle`."""
        self.graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name=name or "caffe")
        self._scope = ""
        self._written: list[ir.Node] = []
        self._values = set(reserved)
        self._nodes: set[str] = set()

    def begin(self, layer: str) -> None:
        """From here on a layer is written."""
        self._scope, self._written = layer, []

    def entitle(self, made: Sequence[Blob], titles: Sequence[str]) -> None:
        """Name what the layer made: its last node after the layer, each value by its title.

        A value that another layer made, or that is titled already, keeps its name.
        """
        if self._written:
            self._written[-1].name = _fresh(self._scope, self._nodes)
        own = {id(value) for node in self._written for value in node.outputs}
        for blob, title in zip(made, titles, strict=True):
            if id(blob.value) in own:
                blob.value.name = title
                own.remove(id(blob.value))

    def input(self, name: str, shape: tuple[int, ...]) -> Blob:
        """A new input of the network. Raises BlobShapeError."""
        value = ir.Value(name=name, shape=ir.Shape(_checked(shape)), type=ir.TensorType(ir.DataType.FLOAT))
        self.graph.inputs.append(value)
        return Blob(value, shape)

    def constant(self, array: Array | Sequence[int], like: str) -> ir.Value:
        """A constant; a plain sequence of int becomes int64, as ONNX's shapes and axes are. Raises BlobShapeError."""
        try:
            held = array if isinstance(array, np.ndarray) else np.array(array, dtype=np.int64)
        except OverflowError as error:
            raise BlobShapeError(f"{list(array)} are no sizes") from error
        name = _fresh(f"{self._scope}/{like}", self._values)
        tensor = ir.tensor(np.ascontiguousarray(held).reshape(held.shape), name=name)
        value = ir.Value(name=name, shape=ir.Shape(held.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def scalar(self, number: float, like: str) -> ir.Value:
        """A float32 constant without dimensions."""
        with np.errstate(over="ignore"):
            return self.constant(np.array(number, dtype=np.float32), like)

    def values(
        self, operator: str, inputs: Sequence[ir.Value | None], *, outputs: int = 1, **attributes: Any
    ) -> Sequence[ir.Value]:
        """One more node, and what it makes."""
        stem = f"{self._scope}/{operator}"
        held = ir.convenience.convert_attributes(attributes)
        name = _fresh(stem, self._nodes)
        node = ir.Node("", operator, inputs, attributes=held, num_outputs=outputs, name=name)
        for value in node.outputs:
            value.name = _fresh(f"{stem}:out", self._values)
        self.graph.append(node)
        self._written.append(node)
        return node.outputs

    def plugin(
        self, plugin: Plugin, inputs: Sequence[ir.Value], attributes: Mapping[str, Any], outputs: int
    ) -> Sequence[ir.Value]:
        """One more node, of a plugin, and what it makes."""
        stem = f"{self._scope}/{plugin.operator}"
        made = [ir.Value(name=_fresh(f"{stem}:out", self._values)) for _ in range(outputs)]
        node = layers.make(plugin, inputs, attributes, made, _fresh(stem, self._nodes))
        self.graph.opset_imports.setdefault(plugin.domain, 1)
        self.graph.append(node)
        self._written.append(node)
        return made

    def blob(self, operator: str, inputs: Sequence[ir.Value | None], shape: Sequence[int], **attributes: Any) -> Blob:
        """One more node that makes one blob of float32 of `shape`. Raises BlobShapeError."""
        checked = _checked(tuple(shape))
        return Blob(self.values(operator, inputs, **attributes)[0], checked)

    def reshape(self, blob: Blob, shape: Sequence[int]) -> Blob:
        """The same numbers in another shape; the blob itself where it has that shape."""
        if tuple(shape) == blob.shape:
            return blob
        return self.blob("Reshape", [blob.value, self.constant(list(shape), "shape")], shape)


def _fresh(name: str, taken: set[str]) -> str:
    """The name, with a number behind it where it is taken."""
    found, number = name, 1
    while found in taken or not found:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found


def _checked(shape: tuple[int, ...]) -> tuple[int, ...]:
    if any(dimension < 1 for dimension in shape) or math.prod(shape) >= _LARGEST:
        raise BlobShapeError(f"a blob of the shape {list(shape)} is not one of 1 to {_LARGEST - 1} numbers")
    return shape
