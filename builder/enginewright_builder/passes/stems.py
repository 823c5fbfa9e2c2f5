"""Stems: convolutions of few channels, which read a picture as the user gives it (kernels/stem_conv.cu).

A stem may multiply in float32 and round its result alone. Its picture is all that a narrow network reads of the world:
rounded to float16, it cost Inception V3 0.57 % of its output's range by itself, more than any layer's own rounding. On
tensor cores that is three products of halves instead of one, next to free where each number of the picture is in few
windows: with 3x3 and strides of 2 in 2.25, while with ResNet's 7x7 it is in 12.
"""

import math

import onnx_ir as ir

from enginewright_builder.network import fused
from enginewright_builder.network.network import FUSED_DOMAIN, is_constant, static_shape
from enginewright_builder.tactics.latency_activation import FUNCTIONS

_MOST_CHANNELS, _LARGEST_WINDOW = 4, 11
_FEW_WINDOWS = 3
WHY = "few windows read a number of the picture, so that more products are next to free"


def is_stem(node: ir.Node) -> bool:
    """Whether the stem's kernels take a convolution, of whatever types."""
    if node.op_type not in ("Conv", "FusedConv") or node.domain not in ("", FUSED_DOMAIN):
        return False
    shape = static_shape(node.inputs[1])
    if shape is None or len(shape) != 4 or shape[1] > _MOST_CHANNELS or shape[0] % 8:
        return False
    _, weights, bias, residual = fused.padded_inputs(node)
    constant = all(is_constant(value) for value in (weights, bias) if value is not None)
    plain = node.attributes.get_int("group", 1) == 1 and max(node.attributes.get_ints("dilations", [1]) or [1]) == 1
    small = max(shape[2:]) <= _LARGEST_WINDOW and _strides(node)[1] <= 2
    return constant and plain and small and residual is None


def stays_whole(node: ir.Node) -> bool:
    """Whether a float32 stem is to multiply in float32 although its result becomes narrow. A plain Conv is not: ONNX's
    has one type for all. Nor is one whose activation the stem's kernels do not know."""
    if not fused.is_fused(node) or not is_stem(node) or fused.epilogue_of(node).activation not in FUNCTIONS:
        return False
    x, taps = node.inputs[0], math.prod((static_shape(node.inputs[1]) or ())[2:])
    wide = x is not None and x.dtype is ir.DataType.FLOAT and x.producer() is None
    return wide and taps <= _FEW_WINDOWS * math.prod(_strides(node))


def is_whole(node: ir.Node) -> bool:
    """Whether a layer is such a stem, once its result is narrow."""
    if not fused.is_fused(node) or not is_stem(node):
        return False
    wide = all(value is not None and value.dtype is ir.DataType.FLOAT for value in node.inputs[:2])
    return wide and node.outputs[0].dtype is not ir.DataType.FLOAT


def _strides(node: ir.Node) -> tuple[int, ...]:
    return tuple(node.attributes.get_ints("strides", [1, 1]) or (1, 1))
