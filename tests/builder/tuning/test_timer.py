"""The timer, with a clock of its own."""

from collections.abc import Callable

import pytest

from enginewright_builder.tuning import timer
from enginewright_builder.tuning.timer import Budget


class Machine:
    """A clock that only moves when something runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []

    def run(self, name: str, seconds: float) -> Callable[[], None]:
        def once() -> None:
            self.ran.append(name)
            self.now += seconds

        return once


def measure(machine: Machine, runs: dict[str, Callable[[], None]], budget: Budget) -> dict[str, list[float]]:
    return timer.measure(runs, budget, clock=lambda: machine.now, sleep=lambda _seconds: None)


def test_every_candidate_gets_equally_many_samples_of_its_own_time() -> None:
    machine = Machine()
    samples = measure(machine, {"a": machine.run("a", 0.01), "b": machine.run("b", 0.02)}, Budget(seconds=0.3))
    assert len(samples["a"]) == len(samples["b"]) >= 5
    assert samples["a"] == pytest.approx([0.01] * len(samples["a"]))
    assert samples["b"] == pytest.approx([0.02] * len(samples["b"]))


def test_the_first_run_of_each_turn_does_not_count() -> None:
    machine = Machine()
    samples = measure(machine, {"a": machine.run("a", 0.01)}, Budget(seconds=0, least=4, turn=4))
    assert (len(samples["a"]), len(machine.ran)) == (4, 5)


def test_a_long_run_counts_and_is_its_whole_turn() -> None:
    machine = Machine()
    samples = measure(machine, {"a": machine.run("a", 2.0)}, Budget(seconds=0, least=3, turn=4))
    assert (len(samples["a"]), len(machine.ran)) == (3, 3)


def test_runs_of_many_seconds_get_one_turn_each_when_patience_is_over() -> None:
    machine = Machine()
    runs = {name: machine.run(name, 8.0) for name in "ab"}
    samples = measure(machine, runs, Budget(seconds=1, least=5, patience=10))
    assert samples == {"a": [8.0], "b": [8.0]}
    assert machine.now == 16.0


def test_a_slow_candidate_still_gets_the_least_number_of_samples() -> None:
    machine = Machine()
    samples = measure(machine, {"a": machine.run("a", 100.0)}, Budget(seconds=1, least=3, turn=1))
    assert len(samples["a"]) == 3


def test_a_fast_candidate_gets_no_more_than_the_most() -> None:
    machine = Machine()
    samples = measure(machine, {"a": machine.run("a", 1e-9)}, Budget(seconds=1, most=8))
    assert len(samples["a"]) == 8


def test_turns_are_interleaved_and_their_order_changes() -> None:
    machine = Machine()
    runs = {name: machine.run(name, 0.01) for name in "abc"}
    measure(machine, runs, Budget(seconds=0, least=8, turn=1))
    rounds = ["".join(machine.ran[at : at + 6 : 2]) for at in range(0, len(machine.ran), 6)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len(set(rounds)) > 1


def test_no_candidates_take_no_time() -> None:
    assert timer.measure({}, Budget(seconds=1)) == {}


@pytest.mark.parametrize(("share", "wanted"), [(0.5, 2.0), (0.99, 4.0), (0.25, 1.0), (1.0, 4.0)])
def test_a_percentile_is_a_sample_by_nearest_rank(share: float, wanted: float) -> None:
    assert timer.percentile([4.0, 1.0, 3.0, 2.0], share) == wanted
