"""The race inside the network: what makes the network faster stays, in rounds, and noise wins nothing."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count, repeat

import pytest

from enginewright_builder.tuning.lineup import APART
from enginewright_builder.tuning.problems import Problem
from enginewright_builder.tuning.race import Race
from enginewright_builder.tuning.timings import Timed


def problem(*alone: float, layers: int = 1) -> Problem:
    """A problem whose candidates take so many microseconds by themselves."""
    timed = tuple(Timed(tactic="test", name=str(number), microseconds=each) for number, each in enumerate(alone))
    return Problem(layers=list(range(layers)), key="", timed=timed)


def run(problems: Sequence[Problem], whole: Callable[[], float], over: Callable[[], bool] = lambda: False) -> Race:
    race = Race(problems=problems, finalists=4, whole=whole, over=over)
    race.run()
    return race


def test_what_makes_the_network_faster_stays() -> None:
    one, other = problem(1.0, 1.1, 1.2), problem(2.0, 2.1)
    race = run([one, other], lambda: 100.0 - 5 * (one.choice == 2) + 5 * (other.choice == 1))
    assert (one.choice, other.choice, race.best) == (2, 0, 95.0)


def test_a_choice_that_pays_only_beside_another_is_found_in_a_later_round() -> None:
    heavy, light = problem(2.0, 2.1), problem(1.0, 1.1)

    def whole() -> float:
        return 100.0 - (light.choice == 1) - 5 * (light.choice == heavy.choice == 1) + (heavy.choice > light.choice)

    assert run([heavy, light], whole).best == 94.0


def test_a_choice_that_changes_nothing_is_not_tried() -> None:
    one, other = problem(2.0, 2.1), problem(1.0, 1.1)
    race = Race(problems=[one, other], finalists=4, whole=lambda: 9.0 - one.choice - other.choice, over=lambda: False)
    race.matters = lambda given: given is other
    race.run()
    assert (one.choice, other.choice) == (0, 1)


def test_a_couple_may_run_apart_however_far_behind_that_is_in_chains() -> None:
    couple = problem(1.0, 1.1, 1.2, 1.3, 1.4)
    couple.timed = (*couple.timed, Timed(tactic=APART[0], name=APART[1], microseconds=1.7))
    run([couple], lambda: 100.0 - (couple.choice == 5))
    assert couple.chosen == APART


def scripted(given: Problem, standing: Iterator[float], rival: Iterator[float]) -> Callable[[], float]:
    """Times of a network whose one problem has two candidates, the first of which stands."""
    return lambda: next(standing) if given.choice == 0 else next(rival)


def test_one_lucky_time_of_a_rival_is_no_reason_to_change() -> None:
    given = problem(1.0, 1.1)
    run([given], scripted(given, repeat(100.0), chain([95.0], repeat(100.0))))
    assert given.choice == 0


def test_a_rival_that_is_not_ahead_in_every_turn_is_given_up() -> None:
    given = problem(1.0, 1.1)
    rival = iter([95.0, 98.0, 103.0])
    run([given], scripted(given, repeat(100.0), rival))
    assert (given.choice, list(rival)) == (0, [])


@pytest.mark.parametrize("lucky", range(5))
def test_one_lucky_time_of_the_standing_choice_keeps_nobody_from_winning(lucky: int) -> None:
    given = problem(1.0, 1.1)
    standing = chain([100.0] * lucky, [95.0], repeat(100.0))
    assert run([given], scripted(given, standing, repeat(99.0))).best == 99.0
    assert given.choice == 1


def test_a_network_that_has_become_slower_is_measured_anew() -> None:
    others = [problem(2.0 + number) for number in range(5)]
    given = problem(1.0, 1.1)
    standing = chain([100.0] * 4, repeat(110.0))
    run([*others, given], scripted(given, standing, repeat(105.0)))
    assert given.choice == 1


def test_what_is_far_slower_by_itself_is_not_tried_and_nothing_is_when_the_time_is_over() -> None:
    tried = []

    def whole_of(given: Problem) -> Callable[[], float]:
        def whole() -> float:
            tried.append(given.choice)
            return 100.0

        return whole

    slow, fast = problem(1.0, 1.7), problem(1.0, 1.1)
    run([slow], whole_of(slow))
    run([fast], whole_of(fast), over=lambda: True)
    assert set(tried) == {0}


def test_many_choices_change_at_once_and_stay_where_the_network_is_faster_in_turns() -> None:
    problems = [problem(2.0, 2.05, layers=4), problem(1.0, 1.02, 1.04, layers=5)]
    calls = count()

    def whole() -> float:
        next(calls)
        return 20.0 - 0.5 * (problems[0].choice == 1) - 0.4 * (problems[1].choice == 2)

    race = Race(problems=problems, finalists=4, whole=whole, over=lambda: True, free=problems)
    race.soon = lambda: next(calls) > 80
    race.run()
    assert [each.choice for each in problems] == [1, 2]
    assert race.best == 19.1


def test_a_mixture_that_is_slower_in_turns_goes_as_it_came() -> None:
    given = [problem(2.0, 2.05)]
    luck = chain([100.0] * 3, [90.0] * 5, repeat(100.0))
    race = Race(problems=given, finalists=4, whole=lambda: next(luck) + given[0].choice, over=lambda: True, free=given)
    turns = count()
    race.soon = lambda: next(turns) >= 5
    race.run()
    assert given[0].choice == 0


def test_where_many_choices_at_once_find_nothing_better_the_first_ones_stand() -> None:
    given = [problem(2.0, 2.05), problem(1.0, 1.02)]
    tried: list[tuple[int, ...]] = []

    def whole() -> float:
        tried.append(tuple(each.choice for each in given))
        return 100.0 + 9.0 * sum(tried[-1])

    race = Race(problems=given, finalists=4, whole=whole, over=lambda: True, free=given)
    race.soon = lambda: tried[-1] != (0, 0)  # the time ends behind a worse one
    race.run()
    assert tried[-1] != (0, 0)
    assert [each.choice for each in given] == [0, 0]
