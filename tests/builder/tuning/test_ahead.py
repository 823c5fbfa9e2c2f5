"""Building candidates before their turn."""

import os
import sys
import threading

import pytest

from enginewright_builder.device.implementation import Candidate, Implementation
from enginewright_builder.tuning.ahead import Ahead

MADE = Implementation(steps=())


def test_what_was_begun_is_built_once_and_elsewhere() -> None:
    builders: list[threading.Thread] = []

    def build() -> Implementation:
        builders.append(threading.current_thread())
        return MADE

    candidate = Candidate(tactic="a", name="a", build=build)
    with Ahead() as ahead:
        ahead.begin([candidate, candidate])
        ahead.begin([candidate])
        while not builders:
            pass
        assert ahead.built(candidate) is MADE
    assert len(builders) == 1
    assert builders[0] is not threading.current_thread()


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has a priority of its own on Linux alone")
def test_who_builds_ahead_steps_back_behind_who_measures() -> None:
    found: list[int] = []

    def build() -> Implementation:
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return MADE

    with Ahead() as ahead:
        ahead.begin([Candidate(tactic="a", name="a", build=build)])
        while not found:
            pass
    assert found[0] > os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_what_must_be_built_one_at_a_time_is_built_by_who_asks() -> None:
    builders: list[threading.Thread] = []

    def build() -> Implementation:
        builders.append(threading.current_thread())
        return MADE

    candidate = Candidate(tactic="vendor", name="a", build=build, serial=True)
    with Ahead() as ahead:
        ahead.begin([candidate])
        assert ahead.built(candidate) is MADE
    assert builders == [threading.current_thread()]


def test_what_cannot_be_built_says_so_when_its_turn_comes() -> None:
    def build() -> Implementation:
        raise ValueError("no")

    candidate = Candidate(tactic="a", name="a", build=build)
    with Ahead() as ahead:
        ahead.begin([candidate])
        with pytest.raises(ValueError, match="no"):
            ahead.built(candidate)


def test_what_has_not_begun_when_its_turn_comes_is_built_by_who_asks_and_the_rest_is_let_go() -> None:
    gate, builders = threading.Event(), []

    def blocked() -> Implementation:
        assert gate.wait(30)
        return MADE

    def build() -> Implementation:
        builders.append(threading.current_thread())
        return MADE

    wanted, unwanted = (Candidate(tactic="a", name=name, build=build) for name in ("wanted", "unwanted"))
    with Ahead() as ahead:
        ahead.begin([Candidate(tactic="a", name=f"slow {number}", build=blocked) for number in range(256)])
        ahead.begin([wanted, unwanted])
        assert ahead.built(wanted) is MADE
        threading.Timer(0.1, gate.set).start()
    assert builders == [threading.current_thread()]
