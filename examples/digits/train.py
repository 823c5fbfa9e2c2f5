"""Trains the digits network and writes what the example is made of: model.onnx, calibration.npz and test.npz.

    pip install 'enginewright[builder]' scikit-learn
    python examples/digits/train.py

The images are scikit-learn's digits: 1797 handwritten digits of 8x8 pixels, grey values 0..16. Three in ten are held
out: training never sees them, nothing was chosen by them, and a model that is right on fewer than 98 % of them is not
written.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import export
import network
import numpy as np
from layers import Array, Parameter, Sequential
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = Path(__file__).parent
SEED = 7
HELD_OUT = 0.3
EPOCHS = 50
BATCH = 64
LEARNING_RATE = 1e-2  # at the start; it falls to zero along half a cosine
WEIGHT_DECAY = 1e-1
CALIBRATION_IMAGES = 128
REQUIRED_ACCURACY = 0.98


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """Images float32 [n, 1, 8, 8] with pixels of 0..16, and their labels int64 [n]."""

    images: Array
    labels: NDArray[np.int64]


def split() -> tuple[Digits, Digits]:
    """The images to train on and the held-out ones: a fixed split with the same share of every digit in both parts."""
    bunch = load_digits()
    images = bunch.images.astype(np.float32)[:, np.newaxis]
    labels = bunch.target.astype(np.int64)
    parts = train_test_split(images, labels, test_size=HELD_OUT, stratify=labels, random_state=SEED)
    return Digits(images=parts[0], labels=parts[2]), Digits(images=parts[1], labels=parts[3])


def shifted(images: Array, rng: np.random.Generator) -> Array:
    """Each image moved by up to one pixel, or a part of one, both ways; background (0) comes in at the border."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, images.shape[2:], axis=(2, 3))
    every = np.arange(len(images))
    target = rng.uniform(0, 2, (2, len(images)))  # where between the three whole-pixel positions; 1 is where it was
    whole = target.astype(int)
    part = (target - whole).astype(images.dtype)
    moved = np.zeros_like(images)
    for down, right in np.ndindex(2, 2):  # bilinear: a weighted mean of the four whole-pixel moves around the target
        weight = np.abs(1 - down - part[0]) * np.abs(1 - right - part[1])
        moved += weight[:, np.newaxis, np.newaxis, np.newaxis] * windows[every, :, whole[0] + down, whole[1] + right]
    return moved


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2)."""

    def __init__(self, parameters: list[Parameter]) -> None:
        self._parameters = parameters
        self._means = [np.zeros_like(parameter.value) for parameter in parameters]
        self._squares = [np.zeros_like(parameter.value) for parameter in parameters]
        self._steps = 0

    def step(self, rate: float) -> None:
        self._steps += 1
        for parameter, mean, square in zip(self._parameters, self._means, self._squares, strict=True):
            mean += 0.1 * (parameter.gradient - mean)
            square += 0.001 * (parameter.gradient**2 - square)
            unbiased = mean / (1 - 0.9**self._steps)
            scale = np.sqrt(square / (1 - 0.999**self._steps)) + 1e-8
            decay = WEIGHT_DECAY if parameter.value.ndim > 1 else 0  # weights only, neither biases nor norms
            parameter.value -= rate * (unbiased / scale + decay * parameter.value)


def train(net: Sequential, digits: Digits, *, epochs: int, rng: np.random.Generator) -> Iterator[float]:
    """Trains `net` in place; yields the mean loss of each epoch as it ends."""
    optimizer = AdamW(list(net.parameters()))
    batches = len(digits.images) // BATCH
    for epoch in range(epochs):
        order = rng.permutation(len(digits.images))
        losses = []
        for step in range(batches):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            logits = net.forward(shifted(digits.images[chosen], rng), training=True)
            loss, gradient = network.cross_entropy(logits, digits.labels[chosen])
            net.backward(gradient)
            progress = (epoch + step / batches) / epochs
            optimizer.step(LEARNING_RATE * (1 + np.cos(np.pi * progress)) / 2)
            losses.append(loss)
        yield float(np.mean(losses))


def accuracy(net: Sequential, digits: Digits) -> float:
    """The share of images whose largest logit is the right one."""
    logits = net.forward(digits.images, training=False)
    return float((logits.argmax(axis=1) == digits.labels).mean())


def main() -> None:
    """Train, measure on the held-out images, and write the files only if the network is good enough."""
    rng = np.random.default_rng(SEED)
    training, held_out = split()
    net = network.digits_network(rng)
    for epoch, loss in enumerate(train(net, training, epochs=EPOCHS, rng=rng), start=1):
        print(f"\repoch {epoch:2}/{EPOCHS}  loss {loss:.4f}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)

    reached = accuracy(net, held_out)
    print(f"right on {accuracy(net, training):.2%} of the {len(training.images)} images it was trained on")
    print(f"right on {reached:.2%} of the {len(held_out.images)} held-out images")
    if reached < REQUIRED_ACCURACY:
        sys.exit(f"model.onnx is not written: {reached:.2%} held out is less than the promised {REQUIRED_ACCURACY:.0%}")

    export.write(net, HERE / "model.onnx")
    np.savez_compressed(HERE / "calibration.npz", image=training.images[:CALIBRATION_IMAGES])
    np.savez_compressed(HERE / "test.npz", image=held_out.images, labels=held_out.labels)
    print("wrote model.onnx, calibration.npz and test.npz beside train.py")


if __name__ == "__main__":
    main()
