"""A time budget on a clock of the test's own: shared among schedules, and none where nobody set one."""

import math

import pytest

from enginewright_builder.tuning import allowance
from enginewright_builder.tuning.allowance import Allowance, Deadline


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_is_left_is_shared_among_the_schedules_to_come() -> None:
    clock = Clock()
    allowance = Allowance(30.0, 3, clock)
    assert allowance.next().left == pytest.approx(10.0)
    clock.now += 4.0  # the first one needed less: the others have more
    assert allowance.next().left == pytest.approx(13.0)
    clock.now += 13.0
    assert allowance.next().left == pytest.approx(13.0)


def test_a_budget_that_is_used_up_leaves_nothing() -> None:
    clock = Clock()
    deadline = Allowance(5.0, 1, clock).next()
    clock.now += 6.0
    assert deadline.left == 0
    assert deadline.share(0.5).left == 0


def test_without_a_budget_there_is_no_end() -> None:
    deadline = Allowance(0.0, 2, Clock()).next()
    assert (deadline.is_set, deadline.left) == (False, math.inf)
    assert deadline.share(0.5) == deadline
    assert not Deadline().is_set


@pytest.mark.parametrize(
    ("budget", "deadline", "gone", "left"),
    [
        (0.0, 0.0, 50.0, 0.0),  # nobody set anything: no limit
        (60.0, 0.0, 50.0, 60.0),
        (0.0, 1800.0, 50.0, 1300.0),  # three quarters of the deadline, less what went before
        (60.0, 1800.0, 50.0, 60.0),  # the tighter one counts
        (1e6, 1800.0, 50.0, 1300.0),
        (0.0, 40.0, 50.0, 0.001),  # over already: no time, which is not no limit
    ],
)
def test_a_deadline_of_the_build_leaves_time_to_prove_and_store(
    budget: float, deadline: float, gone: float, left: float
) -> None:
    assert allowance.seconds(budget, deadline, gone) == left


def test_a_budget_may_be_more_than_the_effort_takes_by_itself_and_a_deadline_is_only_a_limit() -> None:
    clock = Clock()
    budget, deadline = Allowance(110.0, 1, clock, wished=True).next(), Allowance(110.0, 1, clock).next()
    assert budget.instead_of(46.0).left == pytest.approx(110.0)
    assert not deadline.instead_of(46.0).is_set
    assert deadline.instead_of(900.0).left == pytest.approx(110.0)
    assert budget.share(0.5).instead_of(46.0).left == pytest.approx(55.0)


def test_a_deadline_that_comes_after_the_effort_is_over_changes_nothing() -> None:
    clock = Clock()
    deadline = Deadline(at=140.0, clock=clock)
    assert deadline.unless_over_in(41.0) == deadline
    assert not deadline.unless_over_in(40.0).is_set
    clock.now += 1.0
    assert deadline.unless_over_in(40.0) == deadline
