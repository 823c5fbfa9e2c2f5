"""A network that uses each family of operations that a GPU runs once, side by side, on pictures, volumes and series."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from enginewright_builder.network.definition import Network, Tensor

_RANDOM = np.random.default_rng(11)


def operations() -> Network:
    """Every branch ends in an output of its own."""
    pen = _Pen(Network("operations"))
    picture = pen.network.add_input("picture", (1, 32, 20, 20))
    pen.windows(picture)
    pen.moves(picture)
    pen.picks(pen.network.add_input("rows", (6, 96)), pen.network.add_input("places", (5,), "int64"))
    pen.series(pen.network.add_input("series", (7, 2, 32)), pen.network.add_input("lengths", (2,), "int32"))
    return pen.network


class _Pen:
    """Appends an operator and marks what it gives."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def n(
        self, operator: str, inputs: Sequence[Tensor | Any | None], *, outputs: int = 1, name: str = "", **given: Any
    ) -> None:
        """Arrays among `inputs` become constants; numbers are float32."""
        tensors = [each if each is None or isinstance(each, Tensor) else self.constant(each) for each in inputs]
        for tensor in self.network.add_operator(operator, tensors, given, outputs=outputs, name=name):
            self.network.mark_output(tensor)

    def constant(self, value: Any) -> Tensor:
        array = np.asarray(value)
        return self.network.add_constant("constant", array.astype(np.float32) if array.dtype == np.float64 else array)

    def windows(self, x: Tensor) -> None:
        """Convolutions of every kind, pooling, norms over neighbours."""
        volume = self.network.add_input("volume", (1, 8, 6, 10, 10))
        line = self.network.add_input("line", (2, 16, 50))
        square = {"pads": [1, 1, 1, 1]}
        self.n("Conv", [x, weights(64, 32, 3, 3), weights(64)], name="plain", **square)
        self.n("Conv", [x, weights(64, 8, 3, 3)], name="grouped", group=4, **square)
        self.n("Conv", [x, weights(32, 1, 5, 5)], name="depthwise", group=32, strides=[2, 2], pads=[2, 2, 2, 2])
        self.n("Conv", [x, weights(48, 32, 3, 3)], name="dilated", dilations=[2, 2], pads=[2, 2, 2, 2])
        self.n("Conv", [line, weights(24, 16, 3)], name="line conv", pads=[1, 1])
        self.n("Conv", [volume, weights(16, 8, 3, 3, 3)], name="volume conv", pads=[1] * 6)
        self.n("ConvTranspose", [x, weights(32, 24, 3, 3)], name="deconvolution", strides=[2, 2], **square)
        self.n("LRN", [x], size=5)
        self.n("PRelu", [x, weights(32, 1, 1)])
        self.n("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2])
        self.n("AveragePool", [x], kernel_shape=[2, 2])
        self.n("InstanceNormalization", [x, weights(32), weights(32)])

    def moves(self, x: Tensor) -> None:
        """Pictures that become other pictures."""
        self.n("Resize", [x, None, [1.0, 1.0, 2.0, 2.0]], name="linear", mode="linear")
        self.n("Resize", [x, None, None, np.array([1, 32, 13, 17])], name="nearest", mode="nearest")
        self.n("Pad", [x, np.array([0, 0, 1, 2, 0, 0, 3, 4])], mode="reflect")
        self.n("Slice", [x, np.array([1, 2]), np.array([19, 20]), np.array([2, 3]), np.array([2, 3])])
        grid = self.network.add_input("grid", (1, 9, 11, 2))
        self.n("GridSample", [x, grid], mode="bilinear", padding_mode="border")
        self.n("DepthToSpace", [x], blocksize=2)

    def picks(self, rows: Tensor, places: Tensor) -> None:
        """What is read or written where an input says, and folds along a dimension."""
        table = self.constant(_RANDOM.integers(-128, 127, (300, 64)).astype(np.int8))
        words = self.network.add_operator("DequantizeLinear", [table, self.constant(0.02), self.constant(np.int8(3))])
        self.n("Gather", [words[0], places], name="quantized gather")
        self.n("Gather", [rows, places], axis=1, name="gather")
        self.n("GatherElements", [rows, self.network.add_input("picks", (6, 4), "int64")], axis=1)
        self.n("ScatterND", [rows, np.array([[1], [4]]), self.network.add_input("written", (2, 96))])
        self.n("ScatterElements", [rows, np.array([[0, 5, 9]]), self.network.add_input("added", (1, 3))], axis=1)
        self.n("ReduceMean", [rows], axes=[1])
        self.n("ReduceL2", [rows], axes=[0])
        self.n("ArgMax", [rows], axis=1)
        self.n("TopK", [rows, np.array([5])], outputs=2)
        self.n("CumSum", [rows, np.array(1)])
        self.n("Softmax", [rows])
        self.n("LayerNormalization", [rows, weights(96), weights(96)])
        self.n("Einsum", [rows, weights(4, 96, 8)], equation="rk,hkd->hrd")
        self.n("MatMul", [rows, weights(96, 40)])

    def series(self, x: Tensor, lengths: Tensor) -> None:
        """Recurrent layers, forward, in reverse, and in both directions."""
        ways = (("LSTM", 4, "forward"), ("GRU", 3, "reverse"), ("LSTM", 4, "bidirectional"), ("RNN", 1, "forward"))
        for operator, gates, direction in ways:
            both = 2 if direction == "bidirectional" else 1
            wide = gates * 24
            inputs = [x, weights(both, wide, 32), weights(both, wide, 24), weights(both, 2 * wide), lengths]
            count = 3 if operator == "LSTM" else 2
            self.n(
                operator, inputs, outputs=count, name=f"{operator} {direction}", hidden_size=24, direction=direction
            )  # fmt: skip


def weights(*shape: int) -> Any:
    return _RANDOM.standard_normal(shape).astype(np.float32) / np.float32(8)
