"""Shares as numbers of pods: what they come to, and that the way there has never too many pods or too few."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewright_operator.rollout.weights import Pods, goals, towards


@pytest.mark.parametrize(
    ("replicas", "weight", "expected"),
    [
        (4, 0, (4, 0)),
        (4, 25, (3, 1)),
        (4, 50, (2, 2)),
        (10, 20, (8, 2)),
        (10, 1, (9, 1)),  # one pod is the least
        (10, 99, (1, 9)),  # and one is left to compare with
        (2, 90, (1, 1)),
        (1, 20, (1, 1)),  # a second pod
        (0, 20, (0, 0)),
    ],
)
def test_a_share_is_a_number_of_pods(replicas: int, weight: int, expected: tuple[int, int]) -> None:
    assert goals(replicas, weight) == expected


def settle(stable: Pods, canary: Pods, goal: tuple[int, int], replicas: int, surge: int) -> list[tuple[Pods, Pods]]:
    """Every state on the way, where what is told comes true before the next look."""
    states = [(stable, canary)]
    for _ in range(200):
        told = towards(*states[-1], goal, replicas=replicas, surge=surge)
        states.append((_all(told[0]), _all(told[1])))
        if states[-1] == states[-2]:
            break
    return states


def _all(count: int) -> Pods:
    return Pods(wanted=count, there=count, ready=count)


@given(replicas=st.integers(1, 12), weight=st.integers(1, 99), surge=st.integers(0, 3), back=st.booleans())
def test_the_way_ends_at_the_goal_with_never_too_many_pods_or_too_few(
    replicas: int, weight: int, surge: int, back: bool
) -> None:
    if replicas == 1 and surge == 0:
        return  # the API server refuses that
    there, none = goals(replicas, weight), (replicas, 0)
    start, goal = (there, none) if back else (none, there)
    states = settle(_all(start[0]), _all(start[1]), goal, replicas, surge)
    assert (states[-1][0].wanted, states[-1][1].wanted) == goal
    for stable, canary in states:
        together = stable.there + canary.there
        assert replicas - (0 if surge else 1) <= together <= replicas + surge


def test_a_pod_that_is_not_ready_takes_nobodys_place() -> None:
    coming = Pods(wanted=1, there=1, ready=0)
    assert towards(_all(4), coming, (2, 2), replicas=4, surge=1) == (4, 1)
    assert towards(_all(4), _all(1), (2, 2), replicas=4, surge=1) == (3, 1)


def test_without_a_surge_a_pod_goes_before_the_other_comes() -> None:
    assert towards(_all(2), Pods(), (1, 1), replicas=2, surge=0) == (1, 0)
    assert towards(_all(1), Pods(), (1, 1), replicas=2, surge=0) == (1, 1)


def test_a_canary_does_not_grow_because_other_pods_fail() -> None:
    assert towards(Pods(wanted=3, there=3, ready=0), _all(1), (3, 1), replicas=4, surge=1) == (3, 1)
