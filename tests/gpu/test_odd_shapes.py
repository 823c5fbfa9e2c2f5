"""Odd shapes through passes and layout to every tactic that offers itself: each by the check that guards the tuner.

The other files give kernels problems of their own; here networks do, so that channels are padded, casts stand where
they stand in a build, and the vendors' engines get the very tensors that they would be given.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import whole_network

from enginewright_builder import passes
from enginewright_builder.device import checking, layout, lower, trial
from enginewright_builder.device.implementation import Candidate, Device, Implementation
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.network.network import Network
from enginewright_builder.tactics import device as tactics
from enginewright_runtime.engine import available
from enginewright_runtime.errors import UnsupportedError
from enginewright_runtime.plan.recipe import Effort, Precision

pytestmark = pytest.mark.gpu

Array = np.ndarray[Any, np.dtype[Any]]
TRIED = 2  # candidates of a tactic
RANDOM = np.random.default_rng(41)
CONVOLUTIONS = [  # batch, channels, size, outputs, window
    (1, 3, 299, 7, 3),
    (3, 7, 299, 3, 1),
    (3, 7, 7, 1000, 3),
    (1, 1000, 7, 3, 3),
    (3, 1000, 7, 7, 1),
    (3, 3, 1, 1000, 1),
    (1, 1000, 1, 1000, 1),
]
PRODUCTS = [(1, 7, 1000), (3, 1000, 7), (3, 3, 3), (299, 1000, 1000), (7, 299, 1)]  # rows, depth, columns


def floats(*shape: int) -> Array:
    made: Array = RANDOM.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))
    return made


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.TF32, Precision.FP16])
@pytest.mark.parametrize(("batch", "channels", "size", "outputs", "window"), CONVOLUTIONS)
def test_a_convolution_is_right_by_every_tactic(
    batch: int,
    channels: int,
    size: int,
    outputs: int,
    window: int,
    precision: Precision,
    device: Device,
    tmp_path: Path,
) -> None:
    pad = window // 2
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> '
        f"agraph (float[{batch},{channels},{size},{size}] x) => (float[{batch},{outputs},{size},{size}] y) "
        f"{{ a = Conv<pads = [{pad}, {pad}, {pad}, {pad}]>(x, w, k) b = Relu(a) y = Neg(b) }}"
    )
    constants = {"w": floats(outputs, channels, window, window), "k": floats(outputs)}
    require_right(whole_network.network_of(text, constants, tmp_path), precision, device)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize(("rows", "depth", "columns"), PRODUCTS)
def test_a_product_and_a_norm_are_right_by_every_tactic(
    rows: int, depth: int, columns: int, precision: Precision, device: Device, tmp_path: Path
) -> None:
    text = (
        f'<ir_version: 8, opset_import: ["" : 17]> agraph (float[{rows},{depth}] x) => (float[{rows},{columns}] y) '
        "{ a = MatMul(x, w) b = Add(a, k) c = Relu(b) d = LayerNormalization(c, g, k) y = Softmax(d) }"
    )
    constants = {"w": floats(depth, columns), "k": floats(columns), "g": floats(columns)}
    require_right(whole_network.network_of(text, constants, tmp_path), precision, device)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize(("batch", "channels", "size"), [(3, 7, 7), (1, 3, 299), (1, 1000, 1)])
def test_pools_and_reductions_are_right_by_every_tactic(
    batch: int, channels: int, size: int, precision: Precision, device: Device, tmp_path: Path
) -> None:
    pool = "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]"
    text = (
        f'<ir_version: 8, opset_import: ["" : 17]> agraph (float[{batch},{channels},{size},{size}] x) => '
        f"(float[n,c,h,w] y, float[n,c,h,w] z, float[n,c,1,1] t) "
        f"{{ y = MaxPool<{pool}>(x) z = AveragePool<{pool}>(x) t = GlobalAveragePool(x) }}"
    )
    require_right(whole_network.network_of(text, {}, tmp_path), precision, device)


def require_right(network: Network, precision: Precision, device: Device) -> None:
    """Every layer of the network after its passes, by the first candidates of every tactic."""
    from enginewright_builder.device.session_bench import SessionBench  # imports cupy

    passes.run(network, passes.gpu_pipeline(precision, capability=device.capability))
    placed = layout.assign(network)
    math = "tf32" if precision is Precision.TF32 else ""
    for layer in lower.lower(network, placed.places, placed.free, math=math):
        subject = trial.subject(layer, placed.places, checking.check(layer))
        right = 0
        for candidate, made in built(few(layer, device)):
            wrong, _ = trial.check(subject, made, SessionBench())
            assert wrong == "", f"{candidate.tactic}, {candidate.name}, for {layer.name}: {wrong}"
            right += 1
        assert right, f"no tactic takes {layer.name}"


def few(layer: DeviceLayer, device: Device) -> list[Candidate]:
    """The first of every tactic."""
    seen: Counter[str] = Counter()
    chosen = []
    for candidate in tactics.candidates(layer, device, Effort.THOROUGH):
        seen[candidate.tactic] += 1
        if seen[candidate.tactic] <= TRIED:
            chosen.append(candidate)
    return chosen


def built(candidates: list[Candidate]) -> Iterator[tuple[Candidate, Implementation]]:
    """What can be built; ours are compiled side by side, the vendors' one at a time."""

    def build(candidate: Candidate) -> Implementation | None:
        try:
            return candidate.build()
        except UnsupportedError:
            return None

    ours = [each for each in candidates if not each.serial]
    with ThreadPoolExecutor(available.processors()) as pool:
        made = [*zip(ours, pool.map(build, ours), strict=True)]
    made += [(each, build(each)) for each in candidates if each.serial]
    yield from ((candidate, each) for candidate, each in made if each is not None)
