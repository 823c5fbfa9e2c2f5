"""In which order candidates are tried, and which are spared: turns, heats, last resorts."""

from dataclasses import replace

import pytest

from enginewright_builder.device.implementation import Candidate, Implementation
from enginewright_builder.tuning import heats
from enginewright_builder.tuning.allowance import NO_TIME
from enginewright_builder.tuning.timings import Timed
from enginewright_runtime.plan.recipe import Effort


def _never() -> Implementation:
    raise AssertionError("nothing is built to decide an order")


def _offered(tactic: str, count: int, **traits: bool) -> list[Candidate]:
    return [Candidate(tactic=tactic, name=f"{tactic}{number}", build=_never, **traits) for number in range(count)]


OFFERED = [
    *_offered("a", 5),
    *_offered("b", 5),
    *_offered("vendor", 2, serial=True),
    *_offered("z", 2, last_resort=True),
]


def _names(candidates: list[Candidate]) -> str:
    return " ".join(each.name for each in candidates)


def _took(**microseconds: float) -> list[Timed]:
    return [
        Timed(tactic=name.rstrip("0123456789"), name=name, microseconds=time) for name, time in microseconds.items()
    ]


def test_tactics_take_turns_and_what_takes_long_to_make_comes_later() -> None:
    assert _names(heats.first(OFFERED, Effort.BALANCED)) == "a0 b0 a1 b1 a2 b2 vendor0 vendor1"


def test_a_tactic_that_came_near_runs_its_others_and_one_that_did_not_is_named() -> None:
    results = _took(a0=10.0, a1=12.0, a2=11.0, b0=15.1, b1=16.0, b2=30.0, vendor0=9.0)
    assert _names(heats.second(OFFERED, Effort.BALANCED, results)) == "a3 a4"
    spared = list(heats.spared(OFFERED, [*results, *_took(a3=1.0, a4=1.0, vendor1=1.0)]))
    assert [each.name for each in spared] == ["b3", "b4"]
    assert {each.dropped for each in spared} == {heats.OUTCLASSED}


@pytest.mark.parametrize(("dropped", "reason"), [(NO_TIME, NO_TIME), ("wrong: it is", heats.NONE_RIGHT)])
def test_a_tactic_that_showed_nothing_right_is_not_called_slow(dropped: str, reason: str) -> None:
    results = [*_took(a0=10.0), *(Timed(tactic="b", name=f"b{number}", dropped=dropped) for number in range(3))]
    spared = {each.name: each.dropped for each in heats.spared(OFFERED, results)}
    assert (spared["b3"], spared["a3"]) == (reason, heats.OUTCLASSED)


def test_its_best_counts_not_its_first() -> None:
    results = _took(a0=10.0, b0=40.0, b1=14.0)
    assert _names(heats.second(OFFERED, Effort.BALANCED, results)) == "a3 b3 a4 b4"


def test_where_nothing_is_right_everything_is_tried_and_then_the_last_resorts() -> None:
    results = [Timed(tactic="a", name="a0", dropped="wrong")]
    assert _names(heats.second(OFFERED, Effort.BALANCED, results)) == "a3 b3 a4 b4"
    assert _names(heats.last(OFFERED, results)) == "z0 z1"


def test_first_guesses_that_had_no_time_come_again_unless_their_tactic_is_far() -> None:
    late = [replace(each, dropped=NO_TIME) for each in _took(a2=0.0, b0=0.0, b1=0.0, vendor1=0.0)]
    results = [*_took(a0=10.0, a1=12.0, vendor0=99.0), *late]
    assert _names(heats.second(OFFERED, Effort.BALANCED, results)) == "b0 b1 a2 a3 a4"
    tried = [*results[:3], *_took(b0=9.0, b1=8.0, a2=9.5, a3=9.5), Timed(tactic="a", name="a4", dropped=NO_TIME)]
    assert _names(heats.second(OFFERED, Effort.BALANCED, tried)) == "b3 a4 b4"


def test_a_last_resort_stays_out_where_something_is_right() -> None:
    assert heats.last(OFFERED, _took(a0=10.0)) == []


@pytest.mark.parametrize("results", [_took(a0=10.0, b0=99.0), []])
def test_thorough_spares_nothing(results: list[Timed]) -> None:
    assert len(heats.first(OFFERED, Effort.THOROUGH)) == 12
    assert heats.second(OFFERED, Effort.THOROUGH, results) == []
