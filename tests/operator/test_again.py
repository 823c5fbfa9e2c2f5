"""When an object is looked at again though no event may come."""

import pytest

from enginewright_operator.reconcile.scope import DONE, Again


@pytest.mark.parametrize(
    ("again", "due", "wanted"),
    [
        (DONE, None, DONE),
        (DONE, 7.0, Again(seconds=7.0)),  # nothing else would bring an engine back that is well
        (Again(seconds=2.0), 7.0, Again(seconds=2.0)),
        (Again(seconds=300.0), 7.0, Again(seconds=7.0)),
        (Again(failed=True), 7.0, Again(failed=True)),
    ],
)
def test_what_is_due_is_not_missed_and_puts_nothing_off(again: Again, due: float | None, wanted: Again) -> None:
    assert again.at_the_latest(due) == wanted
