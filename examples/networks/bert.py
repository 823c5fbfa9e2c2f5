"""BERT (Devlin et al. 2018) as PyTorch wrote it out before opset 17: its encoder blocks on embedded tokens.

What ONNX has no layer for in that form is written with `add_operator`, so that the passes have something to find.
"""

import numpy as np
from networks.weights import Weights, random

from enginewright_builder.network.definition import Network, Tensor


def bert(
    blocks: int = 1,
    weights: Weights | None = None,
    *,
    batch: int = 1,
    tokens: int = 128,
    width: int = 768,
    heads: int = 12,
    mask: bool = True,
) -> Network:
    """(batch, tokens, width), and an additive mask (batch, 1, 1, tokens), to (batch, tokens, width)."""
    network = Network("BERT")
    pen = _Pen(network, weights or random(), heads)
    x = network.add_input("embedded", (batch, tokens, width))
    hidden = network.add_input("mask", (batch, 1, 1, tokens)) if mask else None
    for number in range(blocks):
        x = pen.block(x, hidden, f"block{number}")
    network.mark_output(x)
    return network


class _Pen:
    """Writes a block; `n` is a layer whose tensors may be constants."""

    def __init__(self, network: Network, weights: Weights, heads: int) -> None:
        self.network, self.weights, self.heads = network, weights, heads

    def block(self, x: Tensor, mask: Tensor | None, name: str) -> Tensor:
        """Attention and two dense layers, each with a sum and a normalization."""
        batch, tokens, width = x.shape
        size = width // self.heads
        q, k, v = (self.linear(x, width, f"{name}.{role}") for role in ("queries", "keys", "values"))
        scores = self.network.add_matmul(self.split(q, (0, 2, 1, 3)), self.split(k, (0, 2, 3, 1)))
        scores = self.n("Div", scores, np.sqrt(size))
        if mask is not None:
            scores = self.n("Add", scores, mask)
        context = self.network.add_matmul(self.network.add_softmax(scores), self.split(v, (0, 2, 1, 3)))
        context = self.network.add_shuffle(context, first_transpose=(0, 2, 1, 3), reshape=(batch, tokens, width))
        x = self.norm(self.n("Add", self.linear(context, width, f"{name}.output"), x), f"{name}.attended")
        inner = self.gelu(self.linear(x, 4 * width, f"{name}.wide"))
        return self.norm(self.n("Add", self.linear(inner, width, f"{name}.narrow"), x), f"{name}.result")

    def n(self, operator: str, *given: Tensor | float, **attributes) -> Tensor:
        tensors = [
            each if isinstance(each, Tensor) else self.network.add_constant("number", np.array(each, np.float32))
            for each in given
        ]
        return self.network.add_operator(operator, tensors, attributes)[0]

    def vector(self, name: str, size: int) -> Tensor:
        return self.network.add_constant(name, self.weights(name, (size,)))

    def linear(self, x: Tensor, outputs: int, name: str) -> Tensor:
        kernel = self.network.add_constant(f"{name}.kernel", self.weights(f"{name}.kernel", (x.shape[-1], outputs)))
        return self.n("Add", self.vector(f"{name}.bias", outputs), self.network.add_matmul(x, kernel))

    def split(self, x: Tensor, order: tuple[int, ...]) -> Tensor:
        batch, tokens, width = x.shape
        shape = (batch, tokens, self.heads, width // self.heads)
        return self.network.add_shuffle(x, reshape=shape, second_transpose=order)

    def norm(self, x: Tensor, name: str) -> Tensor:
        center = self.n("Sub", x, self.n("ReduceMean", x, axes=[-1]))
        variance = self.n("ReduceMean", self.n("Pow", center, 2.0), axes=[-1])
        scaled = self.n("Div", center, self.n("Sqrt", self.n("Add", variance, 1e-12)))
        width = x.shape[-1]
        return self.n(
            "Add", self.n("Mul", scaled, self.vector(f"{name}.one", width)), self.vector(f"{name}.bias", width)
        )

    def gelu(self, x: Tensor) -> Tensor:
        bend = self.n("Add", self.n("Erf", self.n("Div", x, np.sqrt(2.0))), 1.0)
        return self.n("Mul", self.n("Mul", x, bend), 0.5)
