"""The time that a build may spend on trying tactics, as the person who asked for it set it; pure but for its clock.

A budget says so itself, and may be more than an effort takes without one; a deadline of the whole build leaves three
quarters of it less what went before, so that there is time to prove and store the plan, and to fetch an image. What is
left is shared evenly among the schedules that are still to come, so that the last one is not starved. A trial that has
begun is not cut off: a budget is kept up to the length of one.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

NO_TIME = "no time was left"  # why a candidate was not tried
KEPT = 0.25  # of a build's deadline, for what is not trying tactics
_LEAST = 0.001  # seconds: something is right for every layer before any budget counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """When one schedule's trials must be over, on a clock in seconds. `wished`: somebody asked for so much, and not
    only for no more."""

    at: float = math.inf
    wished: bool = False
    clock: Callable[[], float] = time.monotonic

    @property
    def left(self) -> float:
        """Seconds; 0 when it is over, infinite where nobody set a budget."""
        return max(0.0, self.at - self.clock())

    @property
    def is_set(self) -> bool:
        """Whether somebody set a budget."""
        return math.isfinite(self.at)

    def unless_over_in(self, seconds: float) -> "Deadline":
        """Itself; an endless one where what takes so many seconds ends before it anyway."""
        return self if self.left < seconds else Deadline(clock=self.clock)

    def instead_of(self, seconds: float) -> "Deadline":
        """Itself where it was wished for, or is sooner than the `seconds` that an effort takes; else an endless one."""
        return self if self.wished else self.unless_over_in(seconds)

    def share(self, part: float) -> "Deadline":
        """An earlier one, after this part of what is left."""
        return replace(self, at=self.clock() + self.left * part) if self.is_set else self


def seconds(budget: float, deadline: float, gone: float) -> float:
    """What trying tactics may take, of a budget and a deadline (0: none) of which so many are `gone`; 0 is no limit."""
    left = max(_LEAST, deadline * (1 - KEPT) - gone)
    given = [each for each in (budget, left if deadline else 0.0) if each]
    return min(given, default=0.0)


class Allowance:
    """`seconds` (0: no budget) for so many `schedules`, from now on; `wished` as of a Deadline."""

    def __init__(
        self, seconds: float, schedules: int, clock: Callable[[], float] = time.monotonic, *, wished: bool = False
    ) -> None:
        self._whole = Deadline(at=clock() + seconds if seconds else math.inf, clock=clock, wished=wished)
        self._schedules = schedules

    def next(self) -> Deadline:
        """Of the next schedule."""
        part = 1 / max(1, self._schedules)
        self._schedules -= 1
        return self._whole.share(part)
