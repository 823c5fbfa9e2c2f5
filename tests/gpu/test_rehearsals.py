"""A kernel that reads an illegal address poisons the process that runs it: that is a child's, never the builder's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginewright_builder import build, command_line
from enginewright_builder.network.definition import Network
from enginewright_builder.plugins import collection
from enginewright_builder.progress import Silent
from enginewright_builder.rehearsal.rehearsals import Rehearsals
from enginewright_runtime.engine.cuda.session import Session
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.errors import UnsupportedError

pytestmark = pytest.mark.gpu
DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "model.onnx"
WILD = '''
from enginewright_runtime.plugins import Cuda, plugin

SOURCE = """
extern "C" __global__ void wild(const T* x, T* y) { y[0] = *(const volatile T*)64ull; }
"""


@plugin("com.example.Wild", cuda=Cuda(source=SOURCE, entry="wild"))
def wild(x):
    """The identity."""
    return x
'''


def _build(model: Path, plan: Path, workdir: Path, plugins: tuple[Path, ...] = ()) -> None:
    request = command_line.request(
        model=model,
        output=plan,
        target="cuda",
        shapes=(),
        batches="",
        precisions="",
        calibration=None,
        outputs=(),
        gate_words=(),
        effort="fast",
        allow_host=False,
        plugins=plugins,
    )
    workdir.mkdir(exist_ok=True)
    build.build(request, progress=Silent(), workdir=workdir, overwrite=True)


def test_a_plugin_that_reads_an_illegal_address_is_named_and_the_gpu_stays_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINEWRIGHT_TIMING_CACHE", str(tmp_path / "timings"))
    source, model = tmp_path / "wild.py", tmp_path / "wild.onnx"
    source.write_text(WILD)
    own, network = collection.load([source]), Network("wild")
    (y,) = network.add_plugin(own["com.example.Wild"], [network.add_input("x", (4, 8))])
    network.mark_output(y, "y")
    network.save(model)
    with pytest.raises(UnsupportedError, match=r"(?i)no tactic of this gpu .*illegal"):
        _build(model, tmp_path / "wild.plan", tmp_path / "work", (source,))
    _build(DIGITS, tmp_path / "digits.plan", tmp_path / "work")
    with Engine(tmp_path / "digits.plan") as engine:
        engine.replay_goldens()


def test_what_does_no_harm_runs_in_the_child_and_then_here(tiny: Any) -> None:
    program, blobs, expected = tiny.chain()
    rehearsals = Rehearsals(say=pytest.fail)
    try:
        rehearsals.rehearse(program, blobs, {"x": tiny.X})
        assert not rehearsals.wary
    finally:
        rehearsals.close()
    with Session(program, blobs) as session:
        np.testing.assert_array_equal(session.run({"x": tiny.X})["y"], expected(tiny.X))
