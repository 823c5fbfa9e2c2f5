"""The committed small models, the whole way: from the file through a plan to answers, against their native runtime."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from enginewright_builder import build, command_line
from enginewright_builder.progress import Silent
from enginewright_runtime.engine.engine import Engine

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "model.onnx"
GOLDENS = Path(__file__).parents[1] / "builder" / "importers" / "tensorflow" / "goldens"


@pytest.mark.parametrize("name", ["network", "conv_transpose_same", "reduced_images", "resize"])
def test_a_frozen_tensorflow_graph_becomes_a_plan_that_answers_as_tensorflow_does(name, tmp_path):
    with np.load(GOLDENS / f"{name}.npz") as content:
        (tmp_path / "graph.pb").write_bytes(content["graph"].tobytes())
        feeds = {key[3:]: content[key] for key in content.files if key.startswith("in:")}
        wanted = {key[4:]: content[key] for key in content.files if key.startswith("out:")}
    agrees(tmp_path / "graph.pb", tmp_path, feeds, wanted)


def test_an_onnx_model_becomes_a_plan_that_answers_as_onnx_runtime_does(tmp_path):
    session = onnxruntime.InferenceSession(DIGITS, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = [size if isinstance(size, int) else 3 for size in given.shape]
    feeds = {given.name: np.random.default_rng(5).standard_normal(shape).astype(np.float32)}
    wanted = dict(zip([each.name for each in session.get_outputs()], session.run(None, feeds), strict=True))
    agrees(DIGITS, tmp_path, feeds, wanted)


def agrees(model, folder, feeds, wanted):
    """Build the model and hold the plan's answers against those wanted."""
    request = command_line.request(
        model=model,
        output=folder / "model.plan",
        target="cpu",
        shapes=[f"{key}={'x'.join(map(str, array.shape))}" for key, array in feeds.items()],
        batches="",
        precisions="",
        calibration=None,
        outputs=tuple(wanted),
        gate_words=(),
        effort="fast",
    )
    build.build(request, progress=Silent(), workdir=folder, overwrite=True)
    with Engine(folder / "model.plan") as engine:
        given = engine.infer(feeds)
    assert set(given) == set(wanted)
    for key, want in wanted.items():
        np.testing.assert_allclose(given[key], want, rtol=0, atol=1e-4 * float(np.max(np.abs(want))), err_msg=key)
