"""The tuner drops what crashes, hangs, fails or gives no numbers, names it, and goes on with what is right."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from rehearsing import acting
from rehearsing.acting import Act

from enginewright_builder.device import layout, lower, plugin_kernels
from enginewright_builder.device.implementation import Candidate, Device, Implementation
from enginewright_builder.device.trial import Bench
from enginewright_builder.network import shapes
from enginewright_builder.network.network import Network
from enginewright_builder.rehearsal import probe
from enginewright_builder.rehearsal.rehearsals import Rehearsals
from enginewright_builder.tactics import device as tactics
from enginewright_builder.tuning.problems import Chosen
from enginewright_builder.tuning.suspects import LostGpuError
from enginewright_builder.tuning.tactics import Tuner
from enginewright_builder.tuning.timings import Timings
from enginewright_runtime.engine.cuda.program import DeviceProgram, Fill, Pointer, Space, Step
from enginewright_runtime.engine.cuda.seam import DeviceError
from enginewright_runtime.errors import UnsupportedError
from enginewright_runtime.plan.recipe import Effort

Arrays = Mapping[str, np.ndarray[Any, Any]]
CHILD = (sys.executable, "-P", str(Path(acting.__file__)))
DEVICE = Device(capability=90, multiprocessors=132, l2_bytes=60 << 20, shared_bytes=227 << 10)
MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
one (float[2, 3] x) => (float[2, 3] y) { y = Neg (x) }
"""


class Here:
    """This process's bench: whatever could crash it must have been rehearsed, and dropped, before."""

    @contextmanager
    def opened(self, program: DeviceProgram, blobs: Mapping[str, bytes]) -> Iterator["_Running"]:
        assert acting.act_of(program) in (Act.FINE, Act.NAN), "run in the builder's own process"
        yield _Running(program)


@dataclass
class _Running:
    program: DeviceProgram

    def run(self, feed: Arrays) -> Arrays:
        (x,) = feed.values()
        off = np.float32(np.nan) if acting.act_of(self.program) is Act.NAN else np.float32(0)
        return {self.program.outputs[0].name: -x + off}

    def microseconds(self, repeats: int, *, cold: bool = False) -> float:
        return 1.0


def candidate(act: Act, *, risky: bool) -> Candidate:
    fill = Fill(pointer=Pointer(space=Space.OPERAND, name="1"), bytes=4, value=int(act))
    made = Implementation(steps=(Step(layer="", fill=fill),))
    return Candidate(tactic="test", name=act.name, build=lambda: made, risky=risky)


def tuned(
    rehearsals: Rehearsals, offered: list[Candidate], timings: Timings, bench: Bench | None = None
) -> tuple[Chosen, ...]:
    network = Network(ir.from_onnx_text(MODEL))
    shapes.infer(network)
    placed = layout.assign(network)
    tuner = Tuner(
        offer=lambda _layer, _tactic: offered,
        bench=bench or Here(),
        device=DEVICE,
        timings=timings,
        effort=Effort.FAST,
        workspace=0,
        builder="test",
        step=lambda _what: None,
        rehearsals=rehearsals,
    )
    return tuner.tune(lower.lower(network, placed.places, placed.free), placed.places, lambda _made: 1.0)[1]


@pytest.fixture
def rehearsals() -> Iterator[Rehearsals]:
    made = Rehearsals(say=pytest.fail, command=CHILD, run_seconds=5)
    yield made
    made.close()


def test_what_is_bad_is_dropped_by_name_and_what_is_right_is_chosen(rehearsals: Rehearsals, tmp_path: Path) -> None:
    bad = [Act.ABORTS, Act.HANGS, Act.RAISES, Act.STICKS, Act.NAN]
    offered = [candidate(act, risky=True) for act in (*bad, Act.FINE)]
    timings = Timings(tmp_path)
    (chosen,) = tuned(rehearsals, offered, timings)
    assert chosen.name == "FINE"
    dropped = {rival.name: rival.dropped for rival in chosen.rivals}
    assert dropped.pop("NAN").startswith("wrong: output 'y' is nan")
    assert dropped == {
        "ABORTS": "fails: the process that ran it was ended by SIGABRT.",
        "HANGS": "fails: it did not end within 5 s, in a process of its own.",
        "RAISES": "fails: the graph is refused.",
        "STICKS": "fails: The GPU did not run the steps (an illegal memory access).",
    }
    nothing = Rehearsals(say=pytest.fail, command=("/bin/false",))
    assert tuned(nothing, offered, Timings(tmp_path)) == (chosen,)  # verdicts were kept: no child is asked for again


def test_after_the_first_loss_nothing_runs_here_that_did_not_run_there(rehearsals: Rehearsals) -> None:
    offered = [candidate(Act.ABORTS, risky=True), candidate(Act.STICKS, risky=False), candidate(Act.FINE, risky=False)]
    (chosen,) = tuned(rehearsals, offered, Timings(None))
    assert chosen.name == "FINE"
    assert {rival.name for rival in chosen.rivals if "fails" in rival.dropped} == {"ABORTS", "STICKS"}


def test_a_layer_whose_every_candidate_crashes_ends_the_build_with_its_name(rehearsals: Rehearsals) -> None:
    with pytest.raises(UnsupportedError, match=r"runs these layers right: .*ended by SIGABRT"):
        tuned(rehearsals, [candidate(Act.ABORTS, risky=True)], Timings(None))


class Fragile:
    """A bench whose process does not survive STICKS: nothing runs on it any more."""

    def __init__(self) -> None:
        self.stuck = False

    @contextmanager
    def opened(self, program: DeviceProgram, blobs: Mapping[str, bytes]) -> Iterator["_Running"]:
        if program is not probe.PROGRAM:
            self.stuck |= acting.act_of(program) is Act.STICKS
        if self.stuck:
            raise DeviceError("The GPU did not run the steps (an illegal memory access).")
        yield _Running(program)


def test_what_poisons_the_builder_itself_is_remembered_and_the_next_build_gets_past_it(
    rehearsals: Rehearsals, tmp_path: Path
) -> None:
    offered = [candidate(Act.STICKS, risky=False), candidate(Act.FINE, risky=False)]
    with pytest.raises(
        LostGpuError, match=r"'STICKS' of the tactic 'test' .*illegal memory access.*: build again"
    ) as e:
        tuned(rehearsals, offered, Timings(tmp_path), Fragile())
    assert not e.value.outcome.permanent  # a Job begins again by itself
    (chosen,) = tuned(rehearsals, offered, Timings(tmp_path), Fragile())
    assert chosen.name == "FINE"
    assert [rival.name for rival in chosen.rivals] == ["STICKS"]


def test_every_risky_source_says_why() -> None:
    assert {"cudnn", plugin_kernels.CUDA, plugin_kernels.TRITON} <= set(tactics.RISKY)
    assert all(len(reason) > 20 for reason in tactics.RISKY.values())
