"""Ready, Reconciling and Stalled go together as kstatus reads them, and do not change without need."""

import datetime

import pytest

from enginewright_operator.conditions import Reason, State, Verdict, conditions, shortened, summary

FIRST = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
LATER = FIRST + datetime.timedelta(hours=1)


def verdict(state: State, reason: Reason = Reason.BUILDING, message: str = "m") -> Verdict:
    return Verdict(state=state, reason=reason, message=message)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.READY, {"Ready": "True", "Reconciling": "False", "Stalled": "False"}),
        (State.WORKING, {"Ready": "False", "Reconciling": "True", "Stalled": "False"}),
        (State.STALLED, {"Ready": "False", "Reconciling": "False", "Stalled": "True"}),
    ],
)
def test_each_state_has_its_three_conditions(state: State, expected: dict[str, str]) -> None:
    rows = conditions(verdict(state), generation=4, before=(), now=FIRST)
    assert {row.type: row.status for row in rows} == expected
    assert {row.observed_generation for row in rows} == {4}


def test_ready_is_unknown_at_the_first_event() -> None:
    rows = conditions(verdict(State.WORKING, Reason.ACCEPTED), generation=1, before=(), now=FIRST)
    assert {row.type: row.status for row in rows} == {"Ready": "Unknown", "Reconciling": "True", "Stalled": "False"}


def test_a_status_that_stays_keeps_its_time_and_one_that_changes_does_not() -> None:
    before = conditions(verdict(State.WORKING), generation=1, before=(), now=FIRST)
    after = conditions(verdict(State.STALLED), generation=1, before=before, now=LATER)
    times = {row.type: row.last_transition_time for row in after}
    assert times["Ready"] == "2026-01-01T00:00:00Z"
    assert times["Stalled"] == "2026-01-01T01:00:00Z"


def test_saying_the_same_again_changes_nothing() -> None:
    before = conditions(verdict(State.READY), generation=1, before=(), now=FIRST)
    assert conditions(verdict(State.READY), generation=1, before=before, now=LATER) == before


def test_the_worst_target_speaks_for_the_engine() -> None:
    rows = [("a", verdict(State.READY)), ("b", verdict(State.WORKING)), ("c", verdict(State.STALLED, message="broken"))]
    overall = summary(rows)
    assert (overall.state, overall.message) == (State.STALLED, "c: broken")


def test_the_only_target_speaks_without_its_name() -> None:
    assert summary([("cpu", verdict(State.STALLED, message="broken"))]).message == "broken"


def test_several_of_one_kind_are_counted() -> None:
    assert summary([("a", verdict(State.WORKING)), ("b", verdict(State.WORKING))]).message.endswith(
        "(and 1 more like it)"
    )


def test_all_ready_is_said_of_all() -> None:
    assert summary([("a", verdict(State.READY)), ("b", verdict(State.READY))]).message == "All 2 targets serve."


def test_a_message_that_is_too_long_is_cut() -> None:
    assert len(shortened("x" * 9000)) == 4000
    assert shortened("x" * 9000).endswith("…")
