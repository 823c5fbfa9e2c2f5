"""A chain of checks: the first that has something to say is heard."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from enginewright_operator.conditions import Reason, State, Verdict

Input = TypeVar("Input")
Check = Callable[[Input], Verdict | None]


def first(checks: Sequence[Check[Input]], inp: Input) -> Verdict | None:
    """The verdict of the first check that has one."""
    return next((verdict for check in checks if (verdict := check(inp)) is not None), None)


def stalled(reason: Reason, message: str) -> Verdict:
    """Only a person can mend it."""
    return Verdict(state=State.STALLED, reason=reason, message=message)


def working(reason: Reason, message: str) -> Verdict:
    """Time will mend it."""
    return Verdict(state=State.WORKING, reason=reason, message=message)
