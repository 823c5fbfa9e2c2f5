"""Choosing inside the whole network among each problem's fastest.

First many choices change at once, and what each candidate costs is learnt from all times together (mixture.py). Then
one problem at a time, the most expensive first, tries its next fastest candidates; what makes the network faster stays,
and changes what is best for its neighbours, so there is more than one round. A time is the median of some replays of a
freshly captured graph, and now and then one is 5 % too short (ResNet-50 at batch 1 on an H200; not understood), or the
clock drifts. So who seems to win runs again, in turns with who was best before, until it loses or has stood every turn,
and the network's time is the median of its last times, never the least: a lucky one would keep everybody from winning.
"""

import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from enginewright_builder.tuning.lineup import APART
from enginewright_builder.tuning.mixture import Mixture
from enginewright_builder.tuning.problems import Problem
from enginewright_runtime.plan.recipe import Effort

FINALISTS: Mapping[Effort, int] = {Effort.FAST: 1, Effort.BALANCED: 6, Effort.THOROUGH: 12}  # of each problem
ROUNDS = 3
_FIRST = 3  # times of the choices with which it begins
_KEPT = 5  # last times of the choices that stand
_TURNS = 3  # that a challenger must stand
_MOST = 60  # problems that change at once
_EACH = 4  # tries for each of their candidates, if the time allows
_GAIN = 0.001  # of the network's time: less is noise
_NEAR = 1.6  # times the fastest: what is slower by itself is not tried in the network


@dataclass(slots=True, kw_only=True)
class Race:
    """`whole` gives the network's microseconds as the problems' choices stand, `over` whether the time has run out,
    `soon` whether most of it has, `matters` whether a problem's choice changes what runs, and of the `free` ones all
    layers run, whatever these choose."""

    problems: Sequence[Problem]
    finalists: int
    whole: Callable[[], float]
    over: Callable[[], bool]
    soon: Callable[[], bool] = lambda: True
    matters: Callable[[Problem], bool] = lambda _problem: True
    free: Sequence[Problem] = ()
    _standing: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

    @property
    def best(self) -> float:
        """Microseconds of the choices that stand."""
        return statistics.median(self._standing)

    def run(self) -> None:
        """Leave every problem with the choice that makes the network fastest, as far as the time goes."""
        self._standing.extend(self.whole() for _ in range(_FIRST))
        self._mix(sorted(self.free, key=_weight)[:_MOST])
        heaviest = sorted(self.problems, key=_weight)
        for _ in range(ROUNDS):
            improved = [self._improved(problem) for problem in heaviest]
            if not any(improved):
                return

    def _mix(self, problems: Sequence[Problem]) -> None:
        """Choose for all these at once, as far as most of the time goes, and only what is faster in turns stays."""
        before = [problem.choice for problem in problems]
        mixture = Mixture(problems, self.finalists, _NEAR, self.best)
        for _ in range(_EACH * mixture.rivals):
            if self.soon():
                break
            choices = mixture.next()
            mixture.learn(choices, self._chosen(problems, choices))
        found = mixture.best()
        stays = found != before and self._faster(problems, before, found)
        _choose(problems, found if stays else before)

    def _faster(self, problems: Sequence[Problem], before: Sequence[int], found: Sequence[int]) -> bool:
        """Whether what was found wins in turns; the winner's times are then the network's."""
        turns = [(self._chosen(problems, before), self._chosen(problems, found)) for _ in range(_KEPT)]
        old, new = ([turn[side] for turn in turns] for side in (0, 1))
        wins = _wins(statistics.median(new), statistics.median(old))
        self._standing.extend(new if wins else old)  # all that it keeps
        return wins

    def _chosen(self, problems: Sequence[Problem], choices: Sequence[int]) -> float:
        """The network's time with these choices, which stand from now on."""
        _choose(problems, choices)
        return self.whole()

    def _improved(self, problem: Problem) -> bool:
        """Whether another candidate took the place of a problem's choice."""
        before = problem.choice
        if not self.over():
            self._standing.append(self.whole())
        for number in self._rivals(problem):
            if number != problem.choice and self.matters(problem) and not self.over():
                self._challenge(problem, number)
        return problem.choice != before

    def _rivals(self, problem: Problem) -> list[int]:
        """The numbers of those worth a try: the finalists that come near the fastest. And of a couple to run apart,
        however it stands by its chains: who is faster there may be slower in the network."""
        most = problem.right[0].microseconds * _NEAR
        near = [n for n, each in enumerate(problem.right[: self.finalists]) if each.microseconds <= most]
        apart = [n for n, each in enumerate(problem.right) if (each.tactic, each.name) == APART and n not in near]
        return near + apart

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


def _weight(problem: Problem) -> float:
    """The heaviest have the least."""
    return -problem.right[0].microseconds * len(problem.layers)


def _choose(problems: Sequence[Problem], choices: Sequence[int]) -> None:
    for problem, choice in zip(problems, choices, strict=True):
        problem.choice = choice


def _wins(taken: float, before: float) -> bool:
    return taken < before * (1 - _GAIN)
