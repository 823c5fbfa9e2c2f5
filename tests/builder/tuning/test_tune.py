"""Tuning as a whole, on a real segment: wrong and failing candidates never win."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginewright_builder import emit
from enginewright_builder.emit import Blobs
from enginewright_builder.importers import from_onnx
from enginewright_builder.tactics.table import Candidate, Tactic
from enginewright_builder.tactics.variant import Variant
from enginewright_builder.tuning import inputs, trial, tune
from enginewright_builder.tuning.allowance import NO_TIME, Deadline
from enginewright_builder.tuning.bounds import Arithmetic
from enginewright_builder.tuning.inputs import Proof
from enginewright_builder.tuning.timer import Budget
from enginewright_runtime.plan.manifest import Binding, Segment
from enginewright_runtime.plan.recipe import Effort

BUDGET = Budget(seconds=0.02)
X = Binding(name="x", dtype="float32", shape=(1, 32))
Y = Binding(name="y", dtype="float32", shape=(1, 32))


def segment(tmp_path: Path, blobs: Blobs, factor: float, name: str) -> Segment:
    """y = x * factor"""
    nodes = [helper.make_node("Mul", ["x", "f"], ["y"], name="mul")]
    x, y = (helper.make_tensor_value_info(each, TensorProto.FLOAT, [1, 32]) for each in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(np.float32(factor), "f")])
    path = tmp_path / f"{name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return emit.segment(from_onnx.load(path).model, blobs, name)


def candidate(variant: Variant, name: str = "1 thread", **options: Any) -> Candidate:
    tactic = Tactic(name=name, options=lambda _: options, effort=Effort.FAST, reason="to be tested with")
    return Candidate(variant=variant, tactic=tactic, options=options)


@pytest.fixture
def task(tmp_path: Path) -> tune.Task:
    """The untouched network doubles; the fused one is wrong, the contrib one is right."""
    blobs = Blobs()
    segments = {
        Variant.FUSED: segment(tmp_path, blobs, 3.0, "fused"),
        Variant.CONTRIB: segment(tmp_path, blobs, 2.00001, "contrib"),
        Variant.UNTOUCHED: segment(tmp_path, blobs, 2.0, "untouched"),
    }
    with trial.loaded(segments[Variant.UNTOUCHED], (X,), (Y,), blobs) as right:
        proof = inputs.prove_with((X,), None, right)
    return tune.Task(
        inputs=(X,),
        outputs=(Y,),
        segments=segments,
        reference=segment(tmp_path, blobs, 2.0, "reference"),
        proof=proof,
        arithmetic=Arithmetic.FP32,
        blobs=blobs,
    )


def trials(tuned: tune.Tuned) -> Mapping[str, tune.Trial]:
    return {each.name: each for each in tuned.trials}


def test_a_wrong_candidate_is_dropped_and_named_with_its_error(task: tune.Task) -> None:
    tuned = tune.tune(task, [candidate(Variant.FUSED), candidate(Variant.UNTOUCHED)], BUDGET, lambda _step: None)
    assert tuned.variant is Variant.UNTOUCHED
    wrong = trials(tuned)["fused, 1 thread"]
    assert wrong.dropped.startswith("wrong: output 'y': 32 of 32 elements differ")
    assert wrong.error == pytest.approx(0.5)
    assert not wrong.chosen


def test_a_candidate_that_cannot_be_loaded_is_dropped_with_the_reason(task: tune.Task) -> None:
    broken = candidate(Variant.CONTRIB, "broken", graph_optimization="none such")
    tuned = tune.tune(task, [broken, candidate(Variant.UNTOUCHED)], BUDGET, lambda _step: None)
    assert tuned.variant is Variant.UNTOUCHED
    assert "graph_optimization" in trials(tuned)["contrib, broken"].dropped


def test_the_chosen_segment_has_its_tactics_options(task: tune.Task) -> None:
    chosen = candidate(Variant.CONTRIB, intra_op_threads=1, graph_optimization="basic")
    tuned = tune.tune(task, [chosen], BUDGET, lambda _step: None)
    assert tuned.segment.options["graph_optimization"] == "basic"
    assert tuned.segment.blob == "contrib"
    only = trials(tuned)["contrib, 1 thread"]
    assert only.chosen
    assert 0 < only.median_ms <= only.p99_ms


def test_where_every_candidate_is_wrong_the_model_runs_as_it_is_checked(task: tune.Task) -> None:
    tuned = tune.tune(task, [candidate(Variant.FUSED)], BUDGET, lambda _step: None)
    assert (tuned.variant, tuned.segment.options["graph_optimization"]) == (Variant.UNTOUCHED, "disabled")
    assert "every candidate was wrong" in tuned.why


def test_where_nothing_can_be_checked_the_model_stays_untouched(task: tune.Task) -> None:
    unchecked = replace(task, proof=Proof(reason="it draws random numbers"))
    tuned = tune.tune(unchecked, [candidate(Variant.FUSED)], BUDGET, lambda _step: None)
    assert tuned.segment.blob == "untouched"
    assert "it draws random numbers" in tuned.why
    assert tuned.trials == ()


def test_the_untouched_model_is_timed_in_the_last_round_however_slow_its_rough_time(task: tune.Task) -> None:
    many = [candidate(Variant.CONTRIB, f"number {n}", intra_op_threads=1) for n in range(8)]
    tuned = tune.tune(task, [*many, candidate(Variant.UNTOUCHED)], BUDGET, lambda _step: None)
    assert trials(tuned)["untouched, 1 thread"].samples > 0
    assert sum(each.samples > 0 for each in tuned.trials) <= tune.FINALISTS + 1


class Ticking:
    """A clock on which every look takes a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_when_the_budget_is_used_up_the_best_that_is_right_is_taken_and_the_others_are_named(task: tune.Task) -> None:
    clock = Ticking()
    offered = [candidate(Variant.FUSED), candidate(Variant.CONTRIB), candidate(Variant.UNTOUCHED)]
    tuned = tune.tune(task, offered, BUDGET, lambda _step: None, Deadline(at=2.0, clock=clock))
    assert tuned.variant is Variant.CONTRIB  # the first was wrong, so one more had to be tried
    assert trials(tuned)["untouched, 1 thread"].dropped == NO_TIME
    assert "time budget" in tuned.why
    assert trials(tuned)["contrib, 1 thread"].chosen


def test_a_budget_that_is_ample_changes_nothing(task: tune.Task) -> None:
    offered = [candidate(Variant.CONTRIB), candidate(Variant.UNTOUCHED)]
    tuned = tune.tune(task, offered, BUDGET, lambda _step: None, Deadline(at=1e9, clock=lambda: 0.0))
    assert [each.dropped for each in tuned.trials] == ["", ""]
    assert all(each.samples >= BUDGET.least for each in tuned.trials)


def test_where_every_variant_is_wrong_by_rounding_no_other_tactic_is_tried(task: tune.Task) -> None:
    wrong = replace(task, segments={**task.segments, Variant.UNTOUCHED: task.segments[Variant.FUSED]})
    names = ("1 thread", "all threads")
    candidates = [candidate(variant, name) for name in names for variant in (Variant.FUSED, Variant.UNTOUCHED)]
    tuned = tune.tune(wrong, candidates, BUDGET, lambda _step: None, undecided=lambda: True)
    assert tuned.none_right
    assert [each.dropped == tune.UNDECIDED for each in tuned.trials] == [False, False, True, True]


def test_where_it_is_not_by_rounding_the_others_are_tried(task: tune.Task) -> None:
    wrong = replace(task, segments={**task.segments, Variant.UNTOUCHED: task.segments[Variant.FUSED]})
    names = ("1 thread", "all threads")
    candidates = [candidate(variant, name) for name in names for variant in (Variant.FUSED, Variant.UNTOUCHED)]
    tuned = tune.tune(wrong, [*candidates, candidate(Variant.CONTRIB, "late")], BUDGET, lambda _step: None)
    assert tuned.variant is Variant.CONTRIB


def test_whether_it_is_by_rounding_is_not_asked_where_something_is_right(task: tune.Task) -> None:
    def never() -> bool:
        raise AssertionError

    candidates = [candidate(Variant.FUSED), candidate(Variant.CONTRIB), candidate(Variant.FUSED, "all threads")]
    assert tune.tune(task, candidates, BUDGET, lambda _step: None, undecided=never).variant is Variant.CONTRIB
