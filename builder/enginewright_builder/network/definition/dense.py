"""Layers that multiply matrices, and what goes with them: fully connected, matrix product, attention, softmax."""

import numpy as np

from enginewright_builder.network.definition import sizes
from enginewright_builder.network.definition.writer import Tensor, Weights, Writer, whole
from enginewright_runtime.errors import UsageError


class DenseLayers(Writer):
    """See the module."""

    @whole
    def add_fully_connected(
        self, x: Tensor, outputs: int, kernel: Weights, bias: Weights | None = None, *, name: str = ""
    ) -> Tensor:
        """(batch, …), flattened, to (batch, outputs); `kernel` is (outputs, inputs), `bias` (outputs,)."""
        layer = self.named(name, "fully_connected")
        count = 1
        for axis in range(1, len(sizes.of(x, layer, least=2))):
            count *= sizes.fixed(x, axis, layer)
        inputs = [self.weights(kernel, (outputs, count), x, layer=layer, role="kernel")]
        if bias is not None:
            inputs.append(self.weights(bias, (outputs,), x, layer=layer, role="bias"))
        if len(sizes.of(x, layer)) > 2:
            x = self.one(self.part(layer, "flatten"), "Flatten", [x], {"axis": 1})
        return self.one(layer, "Gemm", [x, *inputs], {"transB": 1})

    @whole
    def add_matmul(
        self, a: Tensor, b: Tensor, *, transpose_a: bool = False, transpose_b: bool = False, name: str = ""
    ) -> Tensor:
        """The product of the last two dimensions, each turned first if asked for; the others stretch as in NumPy."""
        layer = self.named(name, "matmul")
        left = self._turned(a, layer, "a") if transpose_a else a
        right = self._turned(b, layer, "b") if transpose_b else b
        return self.one(layer, "MatMul", [left, right])

    @whole
    def add_attention(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        *,
        scale: float | None = None,
        name: str = "",
    ) -> Tensor:
        """softmax(scale * queries keys^T + mask) values, over (batch, heads, tokens, size). Vaswani et al. 2017.

        `scale` is 1 / sqrt(size) by default; `mask` is added, so -inf hides a token.
        """
        layer = self.named(name, "attention")
        for tensor in (queries, keys, values):
            sizes.of(tensor, layer, least=4, most=4)
        size = sizes.fixed(queries, 3, layer)
        if sizes.fixed(keys, 3, layer) != size:
            raise UsageError(
                f"The layer {layer!r} takes queries and keys of one size, got {size} and {sizes.fixed(keys, 3, layer)}."
            )
        factor = np.array(size**-0.5 if scale is None else scale, self.dtype(queries, layer))
        turned = self._turned(keys, layer, "keys")
        scores = self.one(self.part(layer, "scores"), "MatMul", [queries, turned])
        scores = self.one(self.part(layer, "scaled"), "Mul", [scores, self.numbers(factor, layer, "scale")])
        if mask is not None:
            scores = self.one(self.part(layer, "masked"), "Add", [scores, mask])
        shares = self.one(self.part(layer, "softmax"), "Softmax", [scores], {"axis": -1})
        return self.one(layer, "MatMul", [shares, values])

    def add_softmax(self, x: Tensor, axis: int = -1, *, name: str = "") -> Tensor:
        """exp(x) over its sum along `axis`."""
        layer = self.named(name, "softmax")
        sizes.axis(x, axis, layer)
        return self.one(layer, "Softmax", [x], {"axis": axis})

    def _turned(self, x: Tensor, layer: str, role: str) -> Tensor:
        rank = len(sizes.of(x, layer, least=2))
        order = [*range(rank - 2), rank - 1, rank - 2]
        return self.one(self.part(layer, f"{role}_turned"), "Transpose", [x], {"perm": order})
