"""A time budget on a clock of the test's own: shared among schedules, and none where nobody set one."""

import math

import pytest

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
