"""Where the networks get their weights from: a function of a name and a shape.

vgg19(from_file("vgg19.npz"))     trained ones, an array for each name
vgg19(random(seed=1))             He et al. 2015: activations keep their size from layer to layer
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Weights = Callable[[str, tuple[int, ...]], Array]


def random(seed: int = 5) -> Weights:
    """Kernels with the variance 2 / inputs; what ends in .one is around 1 and positive, all other vectors around 0."""
    generator = np.random.default_rng(seed)

    def make(name: str, shape: tuple[int, ...]) -> Array:
        if name.endswith(".one"):
            return generator.uniform(0.9, 1.1, shape).astype(np.float32)
        spread = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        return np.asarray(generator.standard_normal(shape) * spread, np.float32)

    return make


def cheap() -> Weights:
    """For whoever only looks at the layers: zeros but for a first number, so that no two are the same."""
    made = 0

    def make(name: str, shape: tuple[int, ...]) -> Array:
        nonlocal made
        made += 1
        zeros = np.zeros(shape, np.float32)
        zeros.flat[0] = made
        return zeros

    return make


def from_file(path: Path | str) -> Weights:
    """The arrays of an .npz file by name. Raises KeyError for a name that it does not have."""
    arrays = np.load(path, allow_pickle=False)

    def take(name: str, shape: tuple[int, ...]) -> Array:
        return np.asarray(arrays[name], np.float32).reshape(shape)

    return take
