"""Layers, each with its forward and its backward pass, in NumPy alone.

It exists so that anybody can train the example again in a minute, with no deep-learning framework to install. A layer
remembers what its backward pass needs from the last forward pass; images are [batch, channels, height, width].

It must never know which network its layers make up (network.py does), nor ONNX (export.py), nor the data (train.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.floating]


@dataclass(slots=True)
class Parameter:
    """A trained tensor and the gradient that the last backward pass left for it."""

    value: Array
    gradient: Array = field(init=False)

    def __post_init__(self) -> None:
        self.gradient = np.zeros_like(self.value)


class Layer:
    """One step of the network. `backward` takes d loss / d output and returns d loss / d input."""

    def forward(self, x: Array, *, training: bool) -> Array:
        raise NotImplementedError

    def backward(self, gradient: Array) -> Array:
        raise NotImplementedError

    def parameters(self) -> Iterator[Parameter]:
        yield from ()


class Rescale(Layer):
    """x -> x * (1 / maximum): pixels of 0..maximum become 0..1."""

    def __init__(self, maximum: float) -> None:
        self.maximum = maximum

    def forward(self, x: Array, *, training: bool) -> Array:
        return x * x.dtype.type(1 / self.maximum)

    def backward(self, gradient: Array) -> Array:
        return gradient * gradient.dtype.type(1 / self.maximum)


class Convolution(Layer):
    """A convolution of stride 1 that keeps height and width; it has no bias, because a BatchNorm follows it."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, rng: np.random.Generator) -> None:
        deviation = np.sqrt(2 / (inputs * kernel * kernel))  # He et al. 2015, eq. 10
        weight = rng.normal(0, deviation, (outputs, inputs, kernel, kernel))
        self.weight = Parameter(weight.astype(np.float32))

    def forward(self, x: Array, *, training: bool) -> Array:
        self._columns, y = _convolve(x, self.weight.value)
        return y

    def backward(self, gradient: Array) -> Array:
        weight = self.weight.value
        rows = gradient.transpose(1, 0, 2, 3).reshape(len(weight), -1)
        self.weight.gradient = (rows @ self._columns).reshape(weight.shape)
        # What one pixel sent out through the kernel comes back through the kernel turned by 180 degrees.
        turned = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
        return _convolve(gradient, turned)[1]

    def parameters(self) -> Iterator[Parameter]:
        yield self.weight


def _convolve(x: Array, weight: Array) -> tuple[Array, Array]:
    """Convolution as one matrix product (im2col): the columns [batch*height*width, inputs*k*k] and the result."""
    batch, channels, height, width = x.shape
    outputs, _, kernel, _ = weight.shape
    margin = kernel // 2
    padded = np.pad(x, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    windows = sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(batch * height * width, channels * kernel * kernel)
    y = columns @ weight.reshape(outputs, -1).T
    return columns, y.reshape(batch, height, width, outputs).transpose(0, 3, 1, 2)


class BatchNorm(Layer):
    """Batch normalization (Ioffe and Szegedy 2015): the batch's statistics in training, the running ones afterwards."""

    epsilon = 1e-5
    momentum = 0.9  # how much of a running statistic each training step keeps

    def __init__(self, channels: int) -> None:
        self.scale = Parameter(np.ones(channels, np.float32))
        self.bias = Parameter(np.zeros(channels, np.float32))
        self.mean = np.zeros(channels, np.float32)
        self.variance = np.ones(channels, np.float32)

    def forward(self, x: Array, *, training: bool) -> Array:
        mean, variance = self.mean, self.variance
        if training:
            mean, variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
            self.mean = self.momentum * self.mean + (1 - self.momentum) * mean
            self.variance = self.momentum * self.variance + (1 - self.momentum) * variance
        self._inverse = 1 / np.sqrt(variance + self.epsilon)
        self._normal = (x - _channels(mean)) * _channels(self._inverse)
        return _channels(self.scale.value) * self._normal + _channels(self.bias.value)

    def backward(self, gradient: Array) -> Array:
        """The gradient of the training-time forward pass, where mean and variance depend on x too."""
        self.bias.gradient = gradient.sum(axis=(0, 2, 3))
        self.scale.gradient = (gradient * self._normal).sum(axis=(0, 2, 3))
        count = gradient.size // gradient.shape[1]
        through_mean = _channels(self.bias.gradient / count)
        through_variance = _channels(self.scale.gradient / count) * self._normal
        return _channels(self.scale.value * self._inverse) * (gradient - through_mean - through_variance)

    def parameters(self) -> Iterator[Parameter]:
        yield from (self.scale, self.bias)


def _channels(vector: Array) -> Array:
    """A value for each channel, shaped so that it spreads over [batch, channels, height, width]."""
    return vector[:, np.newaxis, np.newaxis]


class Relu(Layer):
    """max(x, 0)"""

    def forward(self, x: Array, *, training: bool) -> Array:
        self._passes = x > 0
        return x * self._passes

    def backward(self, gradient: Array) -> Array:
        return gradient * self._passes


class MaxPool(Layer):
    """The largest of every 2x2 block; equal largest values share the gradient."""

    def forward(self, x: Array, *, training: bool) -> Array:
        blocks = _blocks(x)
        y = blocks.max(axis=(3, 5), keepdims=True)
        winners = blocks == y
        self._share = winners / winners.sum(axis=(3, 5), keepdims=True, dtype=x.dtype)
        return y[:, :, :, 0, :, 0]

    def backward(self, gradient: Array) -> Array:
        shared = self._share * gradient[:, :, :, np.newaxis, :, np.newaxis]
        batch, channels, height, width = gradient.shape
        return shared.reshape(batch, channels, 2 * height, 2 * width)


class AveragePool(Layer):
    """The mean of every 2x2 block."""

    def forward(self, x: Array, *, training: bool) -> Array:
        return _blocks(x).mean(axis=(3, 5))

    def backward(self, gradient: Array) -> Array:
        return (gradient / 4).repeat(2, axis=2).repeat(2, axis=3)


def _blocks(x: Array) -> Array:
    """[batch, channels, 2h, 2w] seen as 2x2 blocks: [batch, channels, h, 2, w, 2]."""
    batch, channels, height, width = x.shape
    return x.reshape(batch, channels, height // 2, 2, width // 2, 2)


class Flatten(Layer):
    """[batch, ...] -> [batch, features]"""

    def forward(self, x: Array, *, training: bool) -> Array:
        self._shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, gradient: Array) -> Array:
        return gradient.reshape(self._shape)


class Dropout(Layer):
    """In training drops a random part of the features and makes up for it in the rest; afterwards does nothing."""

    def __init__(self, rate: float, *, rng: np.random.Generator) -> None:
        self.rate = rate
        self._rng = rng

    def forward(self, x: Array, *, training: bool) -> Array:
        if not training:
            return x
        kept = self._rng.random(x.shape) >= self.rate
        self._factor = (kept / (1 - self.rate)).astype(x.dtype)
        return x * self._factor

    def backward(self, gradient: Array) -> Array:
        return gradient * self._factor


class Dense(Layer):
    """x @ weight + bias, with weight [inputs, outputs]"""

    def __init__(self, inputs: int, outputs: int, *, rng: np.random.Generator) -> None:
        self.weight = Parameter(rng.normal(0, np.sqrt(1 / inputs), (inputs, outputs)).astype(np.float32))
        self.bias = Parameter(np.zeros(outputs, np.float32))

    def forward(self, x: Array, *, training: bool) -> Array:
        self._x = x
        return x @ self.weight.value + self.bias.value

    def backward(self, gradient: Array) -> Array:
        self.weight.gradient = self._x.T @ gradient
        self.bias.gradient = gradient.sum(axis=0)
        return gradient @ self.weight.value.T

    def parameters(self) -> Iterator[Parameter]:
        yield from (self.weight, self.bias)


class Sequential(Layer):
    """Named layers, one after the other. The names become the names of the ONNX nodes: `stem/convolution`."""

    def __init__(self, **layers: Layer) -> None:
        self.layers = layers

    def forward(self, x: Array, *, training: bool) -> Array:
        for layer in self.layers.values():
            x = layer.forward(x, training=training)
        return x

    def backward(self, gradient: Array) -> Array:
        for layer in reversed(self.layers.values()):
            gradient = layer.backward(gradient)
        return gradient

    def parameters(self) -> Iterator[Parameter]:
        for layer in self.layers.values():
            yield from layer.parameters()


class Residual(Layer):
    """body(x) + x"""

    def __init__(self, body: Sequential) -> None:
        self.body = body

    def forward(self, x: Array, *, training: bool) -> Array:
        return self.body.forward(x, training=training) + x

    def backward(self, gradient: Array) -> Array:
        return self.body.backward(gradient) + gradient

    def parameters(self) -> Iterator[Parameter]:
        yield from self.body.parameters()


class Branches(Layer):
    """Named branches that read the same input; their outputs are concatenated along the channels."""

    def __init__(self, **branches: Sequential) -> None:
        self.branches = branches

    def forward(self, x: Array, *, training: bool) -> Array:
        outputs = [branch.forward(x, training=training) for branch in self.branches.values()]
        self._ends = np.cumsum([output.shape[1] for output in outputs])[:-1]
        return np.concatenate(outputs, axis=1)

    def backward(self, gradient: Array) -> Array:
        parts = np.split(gradient, self._ends, axis=1)
        return sum(branch.backward(part) for branch, part in zip(self.branches.values(), parts, strict=True))

    def parameters(self) -> Iterator[Parameter]:
        for branch in self.branches.values():
            yield from branch.parameters()
