"""One operation with its inputs, as a conversion sees it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from enginewright_builder.importers.tensorflow import dtypes
from enginewright_builder.importers.tensorflow.graph import Node
from enginewright_builder.importers.tensorflow.scope import SMALL, Array, Scope, Tensor
from enginewright_runtime.errors import ModelError, UnsupportedError

MOST_AXES = 64  # of a tensor: what ONNX Runtime and NumPy hold is less


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """`node`, to be written into `scope`."""

    scope: Scope
    node: Node
    inputs: Sequence[Tensor]

    def refuse(self, reason: str) -> UnsupportedError:
        """The error that this operation cannot be imported, to be raised."""
        return UnsupportedError(f"{self.scope.where}: the operation {self.node.name!r} ({self.node.op}) {reason}.")

    def constant(self, index: int, what: str) -> Array:
        """An input that ONNX wants at import. Raises UnsupportedError where it is computed."""
        if index >= len(self.inputs):
            raise ModelError(f"{self.scope.where} is damaged: {self.node.name!r} ({self.node.op}) has no {what}.")
        array = self.inputs[index].array
        if array is None:
            raise self.refuse(f"computes its {what}, which has to be a constant")
        return array

    def axes(self, index: int) -> tuple[int, ...]:
        """A constant input as a tuple of integers."""
        return self.numbers(index, "axes")

    def numbers(self, index: int, what: str) -> tuple[int, ...]:
        """A constant input that says something of each dimension, as a tuple of integers."""
        array = self.constant(index, what)
        if array.size > SMALL:
            raise self.refuse(f"has {array.size} numbers as its {what}, wanted {SMALL} at most")
        return tuple(int(each) for each in array.reshape(-1))

    def rank_of(self, sizes: Tensor) -> int | None:
        """How many dimensions a tensor has whose sizes are given; None where nothing tells it."""
        known = self.scope.shape(sizes)
        rank = known[0] if known else None
        if rank is not None and rank > MOST_AXES:
            raise self.refuse(f"makes a tensor of {rank} dimensions, wanted {MOST_AXES} at most")
        return rank

    def text(self, name: str, default: str = "") -> str:
        """An attribute that is a text."""
        return self.node.attributes[name].s.decode(errors="replace") if name in self.node.attributes else default

    def flag(self, name: str, *, default: bool = False) -> bool:
        """An attribute that is true or false."""
        return bool(self.node.attributes[name].b) if name in self.node.attributes else default

    def integer(self, name: str, default: int = 0) -> int:
        """An attribute that is a whole number."""
        return int(self.node.attributes[name].i) if name in self.node.attributes else default

    def number(self, name: str, default: float = 0.0) -> float:
        """An attribute that is a number."""
        return float(self.node.attributes[name].f) if name in self.node.attributes else default

    def list(self, name: str) -> tuple[int, ...]:
        """An attribute that is a list of whole numbers."""
        return tuple(self.node.attributes[name].list.i) if name in self.node.attributes else ()

    def dtype(self, name: str = "T") -> ir.DataType:
        """An attribute that is a type. Raises UnsupportedError where ONNX has none for it."""
        number = self.node.attributes[name].type if name in self.node.attributes else 1
        found = dtypes.to_onnx(number)
        if found is None:
            raise self.refuse(f"is of type {dtypes.name(number)}, which ONNX has no tensors of")
        return found

    @property
    def last(self) -> bool:
        """Whether it has its channels last, which is what TensorFlow does if not told otherwise."""
        return self.text("data_format", "NHWC").endswith("C")


Convert = Callable[[Call], Sequence[Tensor]]
Table = Mapping[str, Convert]
