"""Choosing inside the whole network among each problem's fastest.

One problem at a time, the most expensive first, tries its next fastest candidates; what makes the network faster stays,
and changes what is best for its neighbours, so there is more than one round. A time is the median of some replays of a
freshly captured graph, and now and then one is 5 % too short (ResNet-50 at batch 1 on an H200; not understood), or the
clock drifts. So who seems to win runs again, in turns with who was best before, until it loses or has stood every turn,
and the network's time is the median of its last times, never the least: a lucky one would keep everybody from winning.
"""

import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from enginewright_builder.tuning.problems import Problem
from enginewright_runtime.plan.recipe import Effort

FINALISTS: Mapping[Effort, int] = {Effort.FAST: 1, Effort.BALANCED: 6, Effort.THOROUGH: 12}  # of each problem
ROUNDS = 3
_FIRST = 3  # times of the choices with which it begins
_KEPT = 5  # last times of the choices that stand
_TURNS = 3  # that a challenger must stand
_GAIN = 0.001  # of the network's time: less is noise
_NEAR = 1.6  # times the fastest: what is slower by itself is not tried in the network


@dataclass(slots=True, kw_only=True)
class Race:
    """`whole` gives the network's microseconds as the problems' choices stand, `over` whether the time has run out,
    `matters` whether a problem's choice changes what runs."""

    problems: Sequence[Problem]
    finalists: int
    whole: Callable[[], float]
    over: Callable[[], bool]
    matters: Callable[[Problem], bool] = lambda _problem: True
    _standing: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

    @property
    def best(self) -> float:
        """Microseconds of the choices that stand."""
        return statistics.median(self._standing)

    def run(self) -> None:
        """Leave every problem with the choice that makes the network fastest, as far as the time goes."""
        self._standing.extend(self.whole() for _ in range(_FIRST))
        heaviest = sorted(self.problems, key=lambda each: -each.right[0].microseconds * len(each.layers))
        for _ in range(ROUNDS):
            improved = [self._improved(problem) for problem in heaviest]
            if not any(improved):
                return

    def _improved(self, problem: Problem) -> bool:
        """Whether another candidate took the place of a problem's choice."""
        before = problem.choice
        if not self.over():
            self._standing.append(self.whole())
        most = problem.right[0].microseconds * _NEAR
        for number, rival in enumerate(problem.right[: self.finalists]):
            if number != problem.choice and rival.microseconds <= most and self.matters(problem) and not self.over():
                self._challenge(problem, number)
        return problem.choice != before

    def _challenge(self, problem: Problem, number: int) -> None:
        """The first time only says who is worth more of them: it was not taken beside the standing choice's."""
        if not _wins(self._with(problem, number), self.best):
            return
        taken: list[float] = []
        for _ in range(_TURNS):
            self._standing.append(self.whole())
            taken.append(self._with(problem, number))
            if not _wins(statistics.median(taken), self.best):
                return
        problem.choice = number
        self._standing.clear()
        self._standing.extend(taken)

    def _with(self, problem: Problem, number: int) -> float:
        """The network's time with another choice of one problem."""
        before, problem.choice = problem.choice, number
        try:
            return self.whole()
        finally:
            problem.choice = before


def _wins(taken: float, before: float) -> bool:
    return taken < before * (1 - _GAIN)
