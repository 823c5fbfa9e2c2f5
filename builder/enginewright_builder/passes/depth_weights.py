"""Weights of three-dimensional convolutions as those of two-dimensional ones, whose channels are blocks of depths.

Of a block of b depths with c channels each, channel d * c + i is channel i of its depth d.
"""

import numpy as np

from enginewright_builder.network.network import Array


def inner(weights: Array, block: int) -> Array:
    """[o, c, depth, h, w], of an odd depth -> [block * o, block * c, h, w]: what a block's own depths give it."""
    reach = weights.shape[2] // 2
    return _rows(weights, block, range(reach, reach + block))


def outer(weights: Array, block: int) -> Array:
    """The same of the depths before a block, half the kernel's, and then of those behind: [..., 2 reach * c, h, w]."""
    reach = weights.shape[2] // 2
    return _rows(weights, block, [*range(reach), *range(reach + block, 2 * reach + block)])


def _rows(weights: Array, block: int, taken: range | list[int]) -> Array:
    outputs, inputs, depth, height, width = weights.shape
    wide = np.zeros((block, outputs, block + depth - 1, inputs, height, width), weights.dtype)
    for at in range(block):
        wide[at, :, at : at + depth] = weights.transpose(0, 2, 1, 3, 4)
    kept = wide[:, :, list(taken)]
    return kept.reshape(block * outputs, len(taken) * inputs, height, width)


def steps(depth: int, stride: int, begin: int) -> list[int]:
    """How far back lie the inputs that one stride of a transposed convolution's output depths is made of."""
    low, high = -(-(1 - stride - begin) // stride), (depth - 1 - begin) // stride
    return list(range(low, high + 1))


def spread(weights: Array, stride: int, begin: int) -> Array:
    """Of a transposed one, [c, o, depth, h, w] -> [steps * c, stride * o, h, w]: from the inputs `steps` back."""
    inputs, outputs, depth, height, width = weights.shape
    back = steps(depth, stride, begin)
    wide = np.zeros((len(back), inputs, stride, outputs, height, width), weights.dtype)
    for place, step in enumerate(back):
        for at in range(stride):
            tap = step * stride + at + begin
            if 0 <= tap < depth:
                wide[place, :, at] = weights[:, :, tap]
    return wide.reshape(len(back) * inputs, stride * outputs, height, width)
