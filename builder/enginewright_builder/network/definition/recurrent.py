"""Recurrent layers: LSTM (Hochreiter and Schmidhuber 1997), GRU (Cho et al. 2014), and the plain one (Elman 1990)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from enginewright_builder.network.definition import sizes
from enginewright_builder.network.definition.writer import Tensor, Weights, Writer, whole
from enginewright_runtime.errors import UsageError

_KINDS: Mapping[str, tuple[str, int]] = MappingProxyType({"lstm": ("LSTM", 4), "gru": ("GRU", 3), "rnn": ("RNN", 1)})
_DIRECTIONS: Mapping[str, int] = MappingProxyType({"forward": 1, "reverse": 1, "bidirectional": 2})


class Recurrent(NamedTuple):
    """`outputs` (steps, batch, directions * hidden), `state` and an LSTM's `cell` (directions, batch, hidden)."""

    outputs: Tensor
    state: Tensor
    cell: Tensor | None


class RecurrentLayers(Writer):
    """See the module."""

    @whole
    def add_rnn(
        self,
        x: Tensor,
        kind: str,
        hidden: int,
        kernel: Weights,
        recurrence: Weights,
        bias: Weights | None = None,
        *,
        direction: str = "forward",
        lengths: Tensor | None = None,
        state: Tensor | None = None,
        cell: Tensor | None = None,
        reset_after: bool = False,
        name: str = "",
    ) -> Recurrent:
        """ "lstm", "gru" or "rnn" over (steps, batch, features).

        `kernel` is (directions, gates * hidden, features), `recurrence` (directions, gates * hidden, hidden) and `bias`
        (directions, 2 * gates * hidden), the kernel's before the recurrence's. The gates' order is ONNX's: an LSTM's
        input, output, forget, cell; a GRU's update, reset, hidden, with the reset after the product if `reset_after`
        (as cuDNN and PyTorch have it). `lengths` (batch,) int32 ends each sequence; `state` and `cell` begin them,
        (directions, batch, hidden).
        """
        operator, gates = sizes.chosen(_KINDS, kind, "A recurrent layer")
        directions = sizes.chosen(_DIRECTIONS, direction, "The direction of a recurrent layer")
        layer = self.named(name, kind)
        sizes.of(x, layer, least=3, most=3)
        if cell is not None and kind != "lstm":
            raise UsageError(f"The layer {layer!r} has no cell: only an LSTM has one.")
        rows, features = gates * hidden, sizes.fixed(x, 2, layer)
        batch = sizes.of(x, layer)[1]
        shapes = {"lengths": (batch,), "state": (directions, batch, hidden), "cell": (directions, batch, hidden)}
        for role, given in (("lengths", lengths), ("state", state), ("cell", cell)):
            if given is not None:
                self.own(given, layer)
                sizes.require(given, shapes[role], layer, role)
        matrices = [
            self.weights(kernel, (directions, rows, features), x, layer=layer, role="kernel"),
            self.weights(recurrence, (directions, rows, hidden), x, layer=layer, role="recurrence"),
        ]
        biases = None if bias is None else self.weights(bias, (directions, 2 * rows), x, layer=layer, role="bias")
        inputs = [x, *matrices, biases, lengths, state, *([cell] if kind == "lstm" else [])]
        while inputs[-1] is None:
            inputs.pop()
        attributes = {"hidden_size": hidden, "direction": direction}
        if kind == "gru":
            attributes["linear_before_reset"] = int(reset_after)
        every = self.append(
            self.part(layer, operator), operator, inputs, attributes, outputs=3 if kind == "lstm" else 2
        )
        return Recurrent(self._flat(every[0], layer), every[1], every[2] if len(every) > 2 else None)

    def _flat(self, made: Tensor, layer: str) -> Tensor:
        """(steps, directions, batch, hidden) to (steps, batch, directions * hidden)."""
        if sizes.fixed(made, 1, layer) == 1:
            return self.one(layer, "Squeeze", [made, self.numbers(np.array([1], np.int64), layer, "axes")])
        turned = self.one(self.part(layer, "turned"), "Transpose", [made], {"perm": [0, 2, 1, 3]})
        return self.one(layer, "Reshape", [turned, self.numbers(np.array([0, 0, -1], np.int64), layer, "shape")])
