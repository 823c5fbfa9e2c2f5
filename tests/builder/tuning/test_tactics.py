"""Choosing tactics: wrong ones are dropped, equal layers are tuned once, the network decides among the best."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from enginewright_builder.device import layout, lower
from enginewright_builder.device.couples import Couple
from enginewright_builder.device.implementation import Candidate, Device, Implementation
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.whole import Line
from enginewright_builder.network import shapes
from enginewright_builder.network.network import Network
from enginewright_builder.tuning.allowance import NO_TIME, Deadline
from enginewright_builder.tuning.tactics import Tuner
from enginewright_builder.tuning.timings import Entry, Timed, Timings
from enginewright_runtime.engine.cuda.program import DeviceProgram, Fill, Pointer, Space, Step
from enginewright_runtime.engine.values import Array
from enginewright_runtime.errors import PlanError, UnsupportedError
from enginewright_runtime.plan.recipe import Effort

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
pair (float[2, 3] x) => (float[2, 3] y)
{
    a = Relu (x)
    b = Neg (a)
    y = Relu (b)
}
"""
DEVICE = Device(capability=90, multiprocessors=132, l2_bytes=60 << 20, shared_bytes=227 << 10)
RIGHT, WRONG, CRASH = 1, 2, 3  # what a Fill's value means to the bench below
ALLOWED = 1 << 20  # bytes of workspace


class Pretending:
    """A bench without a GPU: a Fill of RIGHT computes the layer, others do not; times are what the table says."""

    def __init__(self, times: Mapping[int, float]) -> None:
        self.times = times
        self.runs = 0

    @contextmanager
    def opened(self, program: DeviceProgram, blobs: Mapping[str, bytes]) -> Iterator["_Running"]:
        yield _Running(self, program)


@dataclass
class _Running:
    bench: Pretending
    program: DeviceProgram

    def run(self, feed: Mapping[str, Array]) -> Mapping[str, Array]:
        self.bench.runs += 1
        step = self.program.steps[0]
        assert step.fill is not None
        if step.fill.value == CRASH:
            raise PlanError("the kernel failed.")
        (x,) = feed.values()
        right = -x if "Neg" in step.layer else np.maximum(x, 0)
        return {self.program.outputs[0].name: right + (step.fill.value == WRONG)}

    def microseconds(self, repeats: int, *, cold: bool = False) -> float:
        return sum(self.bench.times[step.fill.bytes] for step in self.program.steps if step.fill is not None)


def _candidate(name: str, value: int, identity: int, *, workspace: int = 0, last_resort: bool = False) -> Candidate:
    pointer = Pointer(space=Space.OPERAND, name="1")
    fill = Step(layer="", fill=Fill(pointer=pointer, bytes=identity, value=value))
    made = Implementation(steps=(fill,), workspace_bytes=workspace)
    return Candidate(tactic="test", name=name, build=lambda: made, last_resort=last_resort)


def _layers() -> tuple[list[DeviceLayer], Mapping[str, layout.Place]]:
    network = Network(ir.from_onnx_text(MODEL))
    shapes.infer(network)
    for number, node in enumerate(network.layers()):
        node.name = f"{node.op_type}{number}"
    placed = layout.assign(network)
    return lower.lower(network, placed.places, placed.free), placed.places


def _tuner(
    offered: Sequence[Candidate], bench: Pretending, timings: Timings, effort: Effort = Effort.BALANCED
) -> Tuner:
    return Tuner(
        offer=lambda _layer, _tactic: offered,
        bench=bench,
        device=DEVICE,
        timings=timings,
        effort=effort,
        workspace=ALLOWED,
        builder="test",
        step=lambda _what: None,
    )


def test_the_fastest_that_is_right_wins_and_the_others_are_named() -> None:
    offered = [_candidate("slow", RIGHT, 10), _candidate("wrong", WRONG, 1), _candidate("crash", CRASH, 2)]
    layers, places = _layers()
    bench = Pretending({10: 9.0, 1: 1.0, 2: 1.0})
    _, chosen = _tuner(offered, bench, Timings(None)).tune(layers, places, lambda _made: 1.0)
    assert {each.name for each in chosen} == {"slow"}
    dropped = {rival.name: rival.dropped for rival in chosen[0].rivals}
    assert dropped["wrong"].startswith("wrong: output")
    assert dropped["crash"] == "fails: the kernel failed."


def test_what_takes_more_workspace_than_is_allowed_is_never_run_and_says_so() -> None:
    offered = [
        _candidate("greedy", RIGHT, 1, workspace=ALLOWED + 1),
        _candidate("modest", RIGHT, 10, workspace=ALLOWED),
    ]
    layers, places = _layers()
    _, chosen = _tuner(offered, Pretending({1: 1.0, 10: 9.0}), Timings(None)).tune(layers, places, lambda _made: 1.0)
    assert {each.name for each in chosen} == {"modest"}
    dropped = {rival.name: rival.dropped for rival in chosen[0].rivals}
    assert dropped["greedy"] == f"takes {ALLOWED + 1} bytes of workspace, and {ALLOWED} are allowed"


def test_a_last_resort_takes_the_workspace_that_it_needs() -> None:
    offered = [_candidate("portable", RIGHT, 10, workspace=ALLOWED + 1, last_resort=True)]
    layers, places = _layers()
    _, chosen = _tuner(offered, Pretending({10: 9.0}), Timings(None)).tune(layers, places, lambda _made: 1.0)
    assert {each.name for each in chosen} == {"portable"}


def test_equal_layers_are_tuned_once() -> None:
    layers, places = _layers()
    bench = Pretending({10: 9.0})
    _, chosen = _tuner([_candidate("only", RIGHT, 10)], bench, Timings(None)).tune(layers, places, lambda _m: 1.0)
    assert bench.runs == 2
    assert sorted(len(each.layers) for each in chosen) == [1, 2]


def test_what_makes_the_whole_network_faster_beats_what_is_faster_alone() -> None:
    layers, places = _layers()
    offered = [_candidate("alone", RIGHT, 10), _candidate("together", RIGHT, 11)]

    def whole(made: Line) -> float:
        return sum(100.0 if each.steps[0].fill == offered[0].build().steps[0].fill else 50.0 for _, each in made)

    bench = Pretending({10: 5.0, 11: 6.0})
    _, chosen = _tuner(offered, bench, Timings(None)).tune(layers, places, whole)
    assert {each.name for each in chosen} == {"together"}


def test_a_second_build_measures_nothing_and_chooses_the_same() -> None:
    layers, places = _layers()
    offered = [_candidate("alone", RIGHT, 10), _candidate("together", RIGHT, 11)]
    timings, bench = Timings(None), Pretending({10: 5.0, 11: 6.0})
    first = _tuner(offered, bench, timings).tune(layers, places, lambda made: made[0][1].steps[0].fill.bytes * -1.0)
    ran = bench.runs

    def never(_made: Line) -> float:
        raise AssertionError("the network was timed again")

    again = _tuner(offered, bench, timings).tune(layers, places, never)
    assert bench.runs == ran
    assert again[1] == first[1]


def test_a_couple_that_makes_the_network_faster_stands_and_a_second_build_knows_it() -> None:
    layers, places = _layers()
    problem = replace(layers[0].problem, attributes={"expression": "both"})
    couple = Couple(layer=replace(layers[0], name="two Relus", problem=problem), parts=(0, 1), place=0)
    timings, bench = Timings(None), Pretending({10: 5.0})
    tuner = _tuner([_candidate("only", RIGHT, 10)], bench, timings)
    line, chosen = tuner.tune(layers, places, lambda made: 10.0 * len(made), [couple])
    assert [layer.name for layer, _ in line] == ["two Relus", "Relu2"]
    assert [each.layers for each in chosen] == [("Relu2",), ("two Relus",)]
    ran, asked = bench.runs, []
    again = replace(tuner, offer=lambda layer, tactic: asked.append(layer.name) or tuner.offer(layer, tactic))
    assert again.tune(layers, places, lambda _made: 1 / 0, [couple])[1] == chosen
    assert bench.runs == ran
    assert asked == ["Relu0", "two Relus"]  # Relu2 is Relu0's problem, and nobody runs Neg1 by itself


def test_a_couple_that_makes_the_network_slower_falls_apart_though_it_is_faster_by_itself() -> None:
    layers, places = _layers()
    problem = replace(layers[0].problem, attributes={"expression": "both"})
    couple = Couple(layer=replace(layers[0], name="two Relus", problem=problem), parts=(0, 1), place=0)
    alone, both = _candidate("only", RIGHT, 10), _candidate("only", RIGHT, 11)
    tuner = _tuner([alone], Pretending({10: 5.0, 11: 8.0}), Timings(None))
    tuner = replace(tuner, offer=lambda layer, _tactic: [both if layer is couple.layer else alone])
    line, _ = tuner.tune(layers, places, lambda made: 20.0 - len(made), [couple])
    assert [layer.name for layer, _ in line] == ["Relu0", "Neg1", "Relu2"]


def test_a_second_build_asks_only_the_tactics_that_were_chosen() -> None:
    layers, places = _layers()
    offered = [_candidate("quick", RIGHT, 10), replace(_candidate("slow", RIGHT, 11), tactic="vendor")]
    timings, bench = Timings(None), Pretending({10: 5.0, 11: 6.0})
    _tuner(offered, bench, timings).tune(layers, places, lambda _made: 1.0)
    asked = []

    def offer(_layer: DeviceLayer, tactic: str) -> Sequence[Candidate]:
        asked.append(tactic)
        return [each for each in offered if tactic in ("", each.tactic)]

    replace(_tuner(offered, bench, timings), offer=offer).tune(layers, places, lambda _made: 1.0)
    assert set(asked) == {"test"}


def test_a_choice_that_is_offered_no_longer_is_made_anew() -> None:
    layers, places = _layers()
    timings, bench = Timings(None), Pretending({10: 5.0, 11: 6.0})
    both = [_candidate("gone", RIGHT, 10), _candidate("left", RIGHT, 11)]
    _tuner(both, bench, timings).tune(layers, places, lambda _made: 1.0)
    _, chosen = _tuner(both[1:], bench, timings).tune(layers, places, lambda _made: 1.0)
    assert {each.name for each in chosen} == {"left"}


def test_a_layer_without_a_right_tactic_ends_the_build_by_name() -> None:
    layers, places = _layers()
    with pytest.raises(UnsupportedError, match=r"'Relu0' \(wrong: output.*'Neg1'"):
        _tuner([_candidate("wrong", WRONG, 1)], Pretending({1: 1.0}), Timings(None)).tune(
            layers, places, lambda _made: 1.0
        )


def test_a_second_builder_times_nothing_checks_every_choice_and_chooses_the_same() -> None:
    layers, places = _layers()
    offered = [_candidate("alone", RIGHT, 10), _candidate("together", RIGHT, 11)]
    first, bench = Timings(None), Pretending({10: 5.0, 11: 6.0})
    before = _tuner(offered, bench, first).tune(layers, places, lambda made: made[0][1].steps[0].fill.bytes * -1.0)
    second = Timings(None, shared=first.unshared())
    never = Pretending({})  # it has no times: asking for one fails
    assert _tuner(offered, never, second).tune(layers, places, lambda _made: 1 / 0)[1] == before[1]
    assert never.runs == 2
    assert second.unshared() == {}


def test_a_poisoned_entry_that_names_a_wrong_candidate_is_found_out_and_measured_here() -> None:
    layers, places = _layers()
    offered = [_candidate("right", RIGHT, 10), _candidate("wrong", WRONG, 11)]
    first = Timings(None)
    _tuner(offered, Pretending({10: 5.0}), first).tune(layers, places, lambda _made: 1.0)
    liar = Entry(timed=(Timed(tactic="test", name="wrong", microseconds=0.1),))
    poisoned = Timings(None, shared=dict.fromkeys(first.unshared(), liar))
    _, chosen = _tuner(offered, Pretending({10: 5.0, 11: 0.1}), poisoned).tune(layers, places, lambda _made: 1.0)
    assert {each.name for each in chosen} == {"right"}


def test_a_poisoned_entry_that_calls_everything_wrong_ends_no_build() -> None:
    layers, places = _layers()
    offered = [_candidate("right", RIGHT, 10)]
    first = Timings(None)
    _tuner(offered, Pretending({10: 5.0}), first).tune(layers, places, lambda _made: 1.0)
    liar = Entry(timed=(Timed(tactic="test", name="right", dropped="wrong: says somebody"),))
    poisoned = Timings(None, shared=dict.fromkeys(first.unshared(), liar))
    _, chosen = _tuner(offered, Pretending({10: 5.0}), poisoned).tune(layers, places, lambda _made: 1.0)
    assert {each.name for each in chosen} == {"right"}


def test_a_build_that_is_interrupted_leaves_what_it_measured(tmp_path: Path) -> None:
    layers, places = _layers()
    offered = [_candidate("only", RIGHT, 10)]

    class Interrupted(Pretending):
        def opened(self, program, blobs):
            if "Neg" in program.steps[0].layer:
                raise KeyboardInterrupt
            return super().opened(program, blobs)

    with pytest.raises(KeyboardInterrupt):
        _tuner(offered, Interrupted({10: 9.0}), Timings(tmp_path)).tune(layers, places, lambda _made: 1.0)
    again = Pretending({10: 9.0})
    _tuner(offered, again, Timings(tmp_path)).tune(layers, places, lambda _made: 1.0)
    assert again.runs == 1  # of the layer that the first build did not get to


def test_a_budget_cuts_candidates_and_what_it_cut_is_not_kept_for_others(tmp_path: Path) -> None:
    layers, places = _layers()
    offered = [_candidate("first", RIGHT, 10), _candidate("second", RIGHT, 11)]
    cache = Timings(tmp_path)
    over = Deadline(at=0.0, clock=lambda: 1.0)
    tuner = replace(_tuner(offered, Pretending({10: 9.0, 11: 1.0}), cache), deadline=over)
    _, chosen = tuner.tune(layers, places, lambda _made: 1.0)
    assert {each.name for each in chosen} == {"first"}
    assert {rival.dropped for each in chosen for rival in each.rivals} == {NO_TIME}
    assert (list(tmp_path.rglob("*.json")), cache.unshared()) == ([], {})


def test_where_time_runs_out_every_layer_has_shown_its_first_guesses_and_the_heaviest_goes_on() -> None:
    layers, places = _layers()  # two problems: Relu, twice, and Neg
    offered = [_candidate(f"guess {number}", RIGHT, 10 + number) for number in range(6)]
    bench = Pretending({10 + number: 9.0 - number for number in range(6)})
    seconds = Deadline(at=10.0, clock=lambda: float(bench.runs))
    tuner = replace(_tuner(offered, bench, Timings(None)), deadline=seconds)
    _, chosen = tuner.tune(layers, places, lambda _made: 1.0)
    tried = {each.layers: 1 + sum(not rival.dropped for rival in each.rivals) for each in chosen}
    assert tried == {("Relu0", "Relu2"): 5, ("Neg1",): 3}
    assert {rival.dropped for each in chosen for rival in each.rivals if rival.dropped} == {NO_TIME}


def test_what_a_light_layer_leaves_of_its_share_goes_to_a_heavy_one_that_was_cut_short() -> None:
    layers, places = _layers()  # Relu, twice, and Neg
    clock = [0.0]

    def made(name: str, microseconds: int, seconds: float) -> Candidate:
        ready = _candidate(name, RIGHT, microseconds)

        def build() -> Implementation:
            clock[0] += seconds
            return ready.build()

        return replace(ready, build=build, serial=True)

    slow = [made(f"slow {number}", 10, seconds=10) for number in range(10)]
    quick = [made(f"quick {number}", 19, seconds=0) for number in range(10)]
    tuner = replace(
        _tuner(slow, Pretending({10: 10.0, 19: 19.0}), Timings(None)),
        offer=lambda layer, _tactic: slow if "Relu" in layer.name else quick,
        deadline=Deadline(at=100.0, clock=lambda: clock[0]),
    )
    _, chosen = tuner.tune(layers, places, lambda _made: 1.0)
    tried = {each.layers: 1 + sum(not rival.dropped for rival in each.rivals) for each in chosen}
    # 74 seconds are for chains: 30 went to three first guesses, 29 are the share of what is left, the next 15 nobody's
    assert tried == {("Relu0", "Relu2"): 8, ("Neg1",): 10}
