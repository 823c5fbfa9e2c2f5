"""Tails on a card: every tactic's kernels for a layer with one, each held against the layer's own check."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import whole_network

from enginewright_builder import passes
from enginewright_builder.device import checking, layout, lower, trial
from enginewright_builder.device.implementation import Candidate, Device
from enginewright_builder.device.layout import Place
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.problem import Kind
from enginewright_builder.tactics import device as tactics
from enginewright_builder.tactics import then_tail
from enginewright_runtime.errors import UnsupportedError
from enginewright_runtime.plan.recipe import Effort, Precision

pytestmark = pytest.mark.gpu

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]
TRIED = 2  # candidates of a tactic
KINDS = (Kind.CONVOLUTION, Kind.TRANSPOSED_CONVOLUTION, Kind.PRODUCT)
TAILS = {
    "exp": "a = Exp(c) y = Add(a, h)",
    "mish": "a = Softplus(c) b = Tanh(a) y = Mul(c, b)",
    "gate": "a = Sigmoid(c) y = Mul(a, r)",
    "added behind an activation": "a = Relu(c) y = Add(r, a)",
    "root": "a = Mul(c, c) b = Add(a, h) y = Sqrt(b)",
    "residual, then erf": "a = Add(c, r) b = Relu(a) y = Erf(b)",
    "turned": "a = Sub(h, c) b = Neg(a) d = Max(b, r) y = Mul(d, h)",
    "an activation that no library has": "y = Selu(c)",
}
LAYERS: dict[str, tuple[Shape, Shape, Shape, str]] = {  # x, w, y, and what makes c
    "3x3, 2 pictures": ((2, 64, 14, 14), (64, 64, 3, 3), (2, 64, 14, 14), "Conv<pads = [1, 1, 1, 1]>(x, w)"),
    "3x3 of many channels": ((1, 512, 7, 7), (128, 512, 3, 3), (1, 128, 7, 7), "Conv<pads = [1, 1, 1, 1]>(x, w)"),
    "3x3, 40 pictures": ((40, 64, 28, 28), (64, 64, 3, 3), (40, 64, 28, 28), "Conv<pads = [1, 1, 1, 1]>(x, w)"),
    "1x1, 40 pictures": ((40, 64, 28, 28), (256, 64, 1, 1), (40, 256, 28, 28), "Conv(x, w)"),
    "transposed": ((2, 64, 7, 7), (64, 32, 2, 2), (2, 32, 14, 14), "ConvTranspose<strides = [2, 2]>(x, w)"),
    "3 rows": ((3, 256), (256, 1000), (3, 1000), "MatMul(x, w)"),
    "512 rows, y in float32": ((512, 256), (256, 512), (512, 512), "MatMul(x, w)"),
    "512 rows": ((512, 256), (256, 512), (512, 512), "MatMul(x, w)"),
}
READ = ("3 rows", "512 rows")  # whose y another layer reads: it stays narrow
FEW = ("exp", "gate", "residual, then erf")  # none, one in the tail, one before it
ALL = ("3x3, 2 pictures", "1x1, 40 pictures", "512 rows")
CASES = [(name, tail, Precision.FP16) for name in LAYERS for tail in TAILS if name in ALL or tail in FEW]
CASES += [(name, tail, each) for name in ALL for tail in FEW for each in (Precision.BF16, Precision.FP32)]


@pytest.mark.parametrize(("name", "tail", "precision"), CASES)
def test_every_tactic_gives_what_the_layer_says(
    name: str, tail: str, precision: Precision, device: Device, tmp_path: Path
) -> None:
    from enginewright_builder.device.session_bench import SessionBench  # imports cupy

    layer, places = layer_of(name, tail, precision, device, tmp_path)
    subject = trial.subject(layer, places, checking.check(layer))
    tried: dict[str, int] = {}
    wrong: list[str] = []
    for candidate in tactics.candidates(layer, device, Effort.BALANCED):
        if tried.get(candidate.tactic, 0) == TRIED or (candidate.last_resort and tried):
            continue
        try:
            made = candidate.build()
        except UnsupportedError:
            continue  # an engine of cuDNN's that does not take such a graph
        tried[candidate.tactic] = tried.get(candidate.tactic, 0) + 1
        why, error = trial.check(subject, made, SessionBench())
        if why and not _rounds_more(candidate, layer):
            wrong.append(f"{candidate.tactic}, {candidate.name}: {error:.3f} of the bound: {why}")
    assert not wrong
    assert tried


def _rounds_more(candidate: Candidate, layer: DeviceLayer) -> bool:
    """Whether it may be wrong, and the tuner drops it then: it rounds before the tail, as two layers do, and a tail's
    terms cancel; or it is cuDNN's for float32, which has products that round to TF32 whatever is asked of it."""
    if layer.problem.outputs[0].dtype == "float32":
        return candidate.risky
    return candidate.tactic == then_tail.NAME and f" | {layer.problem.outputs[0].dtype} | " in candidate.name


def layer_of(
    name: str, tail: str, precision: Precision, device: Device, folder: Path
) -> tuple[DeviceLayer, dict[str, Place]]:
    """The one layer of a network that is a convolution or product, as its passes leave it."""
    x, w, y, base = LAYERS[name]
    taken = {"x": x, "r": y} if re.search(r"\br\b", TAILS[tail]) else {"x": x}
    inputs = ", ".join(f"float[{','.join(map(str, shape))}] {each}" for each, shape in taken.items())
    body = f"{{ c = {base} {TAILS[tail]} }}"
    given = f"float[{','.join(map(str, y))}] y"
    if name in READ:
        body, given = body.replace("}", "z = MatMul(y, u) }"), f"float[{y[0]},8] z"
    text = f'<ir_version: 8, opset_import: ["" : 18]> net ({inputs}) => ({given}) {body}'
    terms = np.prod(w[1:]) if len(w) > 2 else w[0]
    weights = np.random.default_rng(3).standard_normal(w).astype(np.float32) / np.float32(np.sqrt(terms))
    constants = {"w": weights, "h": np.array(0.3, np.float32)}
    constants |= {"u": np.ones((y[-1], 8), np.float32)} if name in READ else {}
    network = whole_network.network_of(text, constants, folder)
    passes.run(network, passes.gpu_pipeline(precision, capability=device.capability))
    placed = layout.assign(network)
    layers = lower.lower(network, placed.places, placed.free)
    layer = next(each for each in layers if each.problem.kind in KINDS)
    return layer, dict(placed.places)
