"""Triton kernels on the device: the product on odd shapes through the session that serves, and a plugin's in a plan."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from enginewright_builder import build, command_line, comparison, passes
from enginewright_builder.device import checking, layout, lower, trial
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind
from enginewright_builder.network.definition import Network
from enginewright_builder.plugins import collection
from enginewright_builder.progress import Silent
from enginewright_builder.tactics import triton_product
from enginewright_builder.tactics.triton_product import TILES, Tile
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.plan.recipe import Precision

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton: make test-gpu installs it"),
]
PLUGINS = Path(__file__).parents[2] / "examples" / "plugins" / "layers.py"
TRIED = [TILES[place] for place in (1, 4, 5, 9)]  # each is compiled; the tuner checks every one that it tries


@pytest.mark.parametrize("tile", TRIED, ids=lambda tile: tile.name)
@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
@pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 24, 33), (197, 768, 1000), (77, 131, 65)])
def test_the_product_is_right_by_the_check_that_guards_every_tactic(
    rows: int, depth: int, columns: int, precision: Precision, tile: Tile, ampere: Device
) -> None:
    from enginewright_builder.device.workshop import SessionBench

    random, network = np.random.default_rng(0), Network()
    weights = (random.standard_normal((columns, depth)) / np.sqrt(depth)).astype(np.float32)
    x = network.add_input("x", (rows, depth))
    y = network.add_fully_connected(x, columns, weights, random.standard_normal(columns).astype(np.float32))
    network.mark_output(network.add_activation(y, "relu"), "y")
    passes.run(network, passes.gpu_pipeline(precision, capability=ampere.capability))
    placed = layout.assign(network)
    (layer,) = [
        each
        for each in lower.lower(network, placed.places, placed.free)
        if each.problem.kind in (Kind.PRODUCT, Kind.CONVOLUTION)
    ]
    # As on a card for which we have no kernels of our own: there it is refused for no other reason than that.
    elsewhere = dataclasses.replace(ampere, capability=80)
    assert triton_product.refusal(layer.problem, elsewhere, frozenset(layer.constants)) == ""
    made = triton_product.implementation(layer.problem, frozenset(layer.constants), tile, ampere)
    subject = trial.subject(layer, placed.places, checking.check(layer))
    assert trial.check(subject, made, SessionBench())[0] == ""


@pytest.mark.parametrize("precisions", ["", "fp16"])
def test_a_plugins_kernel_in_triton_runs_without_leave_for_its_plan_has_no_python(
    tmp_path: Path, precisions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINEWRIGHT_TIMING_CACHE", str(tmp_path / "timings"))
    model, plan, network = tmp_path / "own.onnx", tmp_path / "own.plan", Network("own")
    scale = network.add_constant("scale", np.linspace(0.5, 2, 77, dtype=np.float32))
    norm = collection.load([PLUGINS])["com.example.RMSNorm"]
    (y,) = network.add_plugin(norm, [network.add_input("x", (5, 77)), scale])
    network.mark_output(y, "y")
    network.save(model)
    request = command_line.request(
        model=model, output=plan, target="cuda", shapes=(), batches="", precisions=precisions, calibration=None,
        outputs=(), gate_words=(), effort="fast", plugins=[PLUGINS],
    )  # fmt: skip
    (tmp_path / "work").mkdir()
    build.build(request, progress=Silent(), workdir=tmp_path / "work", overwrite=True)
    with Engine(plan) as engine:
        engine.replay_goldens()
    comparison.compare(model, plan, samples=2, given={}, plugins=[PLUGINS]).require_within(plan)
