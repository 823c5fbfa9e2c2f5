"""The example's plugins, loaded as a build loads them, and a network that has them."""

from pathlib import Path

import numpy as np
import pytest

from enginewright_builder.network.definition import Network
from enginewright_builder.plugins import collection

FILE = Path(__file__).resolve().parents[3] / "examples" / "plugins" / "layers.py"


@pytest.fixture(scope="session")
def file() -> Path:
    """The module's path."""
    return FILE


@pytest.fixture(scope="session")
def plugins() -> collection.Plugins:
    """com.example.Swish and com.example.Reorg."""
    return collection.load([FILE])


@pytest.fixture(scope="module")
def network(plugins: collection.Plugins) -> Network:
    """A convolution, Swish, Reorg, and a convolution after them."""
    random = np.random.default_rng(0)
    made = Network("yolo")
    x = made.add_input("image", ("batch", 3, 8, 8))
    x = made.add_convolution(x, 4, 3, random.standard_normal((4, 3, 3, 3)), padding=1)
    (x,) = made.add_plugin(plugins["com.example.Swish"], [x], {"beta": 1.5}, name="swish")
    (x,) = made.add_plugin(plugins["com.example.Reorg"], [x])
    x = made.add_convolution(x, 2, 1, random.standard_normal((2, 16, 1, 1)), name="head")
    made.mark_output(made.add_activation(x, "relu"), "y")
    return made
