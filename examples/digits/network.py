"""The digits network: its shape, and the loss it is trained with. Read this one first.

It is small, but it has one of everything that the builder's passes care about: batch norms, a residual, two branches
that are concatenated, both kinds of pooling and a dropout.
"""

import numpy as np
from layers import (
    Array,
    AveragePool,
    BatchNorm,
    Branches,
    Convolution,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
    Relu,
    Rescale,
    Residual,
    Sequential,
)
from numpy.typing import NDArray


def digits_network(rng: np.random.Generator) -> Sequential:
    """The untrained network: pixels float32 [batch, 1, 8, 8] of 0..16 -> ten logits for each image, [batch, 10]."""

    def convolution(inputs: int, outputs: int, kernel: int) -> dict[str, Layer]:
        return {
            "convolution": Convolution(inputs, outputs, kernel=kernel, rng=rng),
            "norm": BatchNorm(outputs),
        }

    def activated(inputs: int, outputs: int, kernel: int) -> Sequential:
        return Sequential(**convolution(inputs, outputs, kernel), relu=Relu())

    return Sequential(
        pixels=Rescale(maximum=16),
        stem=activated(1, 16, 3),
        residual=Residual(Sequential(first=activated(16, 16, 3), second=Sequential(**convolution(16, 16, 3)))),
        relu=Relu(),
        maximum=MaxPool(),  # 8x8 -> 4x4
        branches=Branches(fine=activated(16, 16, 1), coarse=activated(16, 32, 3)),
        average=AveragePool(),  # 4x4 -> 2x2
        flatten=Flatten(),
        dropout=Dropout(0.25, rng=rng),
        head=Dense(48 * 2 * 2, 10, rng=rng),
    )


def softmax(logits: Array) -> Array:
    """Logits -> probabilities, row by row; the largest logit is taken off first so that exp never overflows."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def cross_entropy(logits: Array, labels: NDArray[np.int64]) -> tuple[float, Array]:
    """The mean of -log p(label) over the batch, and its gradient with respect to the logits."""
    probabilities = softmax(logits)
    picked = probabilities[np.arange(len(labels)), labels]
    gradient = probabilities.copy()
    gradient[np.arange(len(labels)), labels] -= 1
    return float(-np.log(picked).mean()), gradient / len(labels)
