"""A problem: one fused layer as the tactics see it, without names, so that equal layers are one problem, tuned once.

Its canonical JSON, with the target and the libraries' versions, is the timing cache's key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from enginewright_builder.device.tensors import TensorType


class Kind(StrEnum):
    """The families of problems. Tactics say which they take."""

    CONVOLUTION = "convolution"
    COUPLE = "couple of convolutions"
    TRIPLE = "triple of convolutions"
    MEAN = "convolution and mean"
    TRANSPOSED_CONVOLUTION = "transposed convolution"
    PRODUCT = "product"
    HEADS = "product and attention"
    ATTENTION = "attention"
    POOLING = "pooling"
    RECURRENT = "recurrent"
    COMPUTATION = "computation"  # whatever the expression language says: pointwise, reductions, moves, norms
    OPERATOR = "operator"  # an ONNX operator with a kernel of its own (top-k, scatter, ...)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """`inputs` and `outputs` are the operands' types; an absent optional input is None.

    `attributes` are plain JSON values, and what they mean depends on the kind:

    CONVOLUTION   inputs x (n, c, spatial...), weights (k, c/groups, spatial...), bias (k) or None, residual (as y) or
                  None; attributes strides, pads (begin... end...), dilations, groups, activation ("" or an ONNX name),
                  activation_parameters, gated: y = act(conv(x, w) + bias + residual), or v * act(v) if gated.
                  With a "tail" (texts of network/tail.py's steps), y is the tail of that; one that reads the residual
                  has it alone, and it is not added to the sum.
                  With a "pair" {"strides", "pads"}, inputs 4 and 5 are x2 and w2 of a second, 1x1 convolution that is
                  added before the activation; with a "pool" {"kernel", "strides", "pads"}, y is max pooled at the end;
                  with "halves", y has 2 k channels: the result rounded, then what that lost.
                  x may be of another dtype than the weights: it is cast to theirs. y may be of another, which the
                  result is rounded to.
    COUPLE        a 1x1 convolution and a second one of its result (device/couples.py): inputs and attributes of the
                  first (inputs 3 to 5 None where absent), then the second's weights and bias or None; attributes "next"
                  {"activation", "activation_parameters", "gated"}. Outputs are both results.
    TRIPLE        a 3x3 convolution whose result only a couple reads: its inputs x, weights, bias or None, then the
                  couple's without the first; the couple's attributes, and "before": those of the 3x3 convolution.
    MEAN          a convolution and the mean of its pixels (device/means.py): inputs and attributes of the convolution,
                  and "size": that of its result (spatial...). The output is the mean alone, (n, k, 1...).
    TRANSPOSED_CONVOLUTION the same with weights (c, k/groups, spatial...) and output_padding.
    PRODUCT       inputs a (..., m, k), b (..., k, n), bias or None (broadcastable to y), residual or None; attributes
                  alpha, activation, activation_parameters, gated, tail. Transposed operands show in the strides.
    ATTENTION     inputs q (b, h, s, d), k (b, h, t, d), v (b, h, t, e), mask or None (additive,
                  broadcastable to b, h, s, t); attributes scale, causal. Layouts show in the strides.
                  Output (b, h, s, e).
    HEADS         a PRODUCT and the attention of its columns (device/heads.py): inputs of the product; attributes scale,
                  and columns, where q, k and v of the first head begin. Output (b, h, s, e).
    POOLING       input x; attributes mode (max, average, lp), kernel, strides, pads, dilations,
                  count_include_pad, ceil.
    RECURRENT     as ONNX's LSTM, GRU, RNN: attributes are the operator's, `operator` its name.
    COMPUTATION   attributes {"expression": text}: the computation lives beside the problem (Layer.computation).
    OPERATOR      attributes {"operator": name, ...} as in ONNX.
    Every kind may have "math": "tf32" where float32 products may round their operands to TF32.
    """

    kind: Kind
    inputs: tuple[TensorType | None, ...]
    outputs: tuple[TensorType, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def operands(self) -> tuple[TensorType | None, ...]:
        """Inputs, then outputs: the numbering of Space.OPERAND pointers (name "0", "1", ...)."""
        return (*self.inputs, *self.outputs)


def bytes_touched(operands: Sequence[TensorType | None], item_bytes: Mapping[str, int]) -> int:
    """Each operand once: over the memory's bandwidth, the least time that a layer can take."""
    return sum(each.size * item_bytes[each.dtype] for each in operands if each is not None)
