"""What each candidate costs inside the network, learnt from times of the whole with many choices changed at once.

The network's time is taken as a sum: of each problem, its choice's microseconds times its launches, and a rest. What is
believed of each before is its time in a chain of itself, give or take a share; every time of the whole corrects all
that took part in it (Bayesian linear regression). What is tried next is the best by one draw from what is believed
(Thompson sampling, doi:10.1093/biomet/25.3-4.285): what may be the best is tried often, and what surely is not, never.
So one time tells something of every problem, where changing one choice at a time needs several times each.
"""

from collections.abc import Sequence

import numpy as np

from enginewright_builder.device.implementation import Array
from enginewright_builder.tuning.problems import Problem

_TRUST = 0.06  # of a candidate's time in its chain: how far it may be off inside the network
_REST = 0.1  # of the network's time: how far the rest may be
_NOISE = 0.004  # of the network's time
_NOTHING = 1e-9  # of the network's time: a deviation that keeps the covariance positive definite as it is rounded
_CLIPPED = 3.0  # standard deviations beyond which a time is believed no more
_SEED = 20261129


class Mixture:
    """What is believed of the first `finalists` candidates of each problem, all of whose layers run."""

    def __init__(self, problems: Sequence[Problem], finalists: int, near: float, first: float) -> None:
        """`near` is how many times slower than the fastest a candidate may be; `first` is the network's microseconds
        with every problem's first choice."""
        alone = [_finalists(problem, finalists, near) for problem in problems]
        self._begin = np.cumsum([0, *(len(each) for each in alone)])
        self.rivals = int(self._begin[-1]) - len(problems)  # candidates beside the first ones
        launches = [len(problem.layers) for problem, times in zip(problems, alone, strict=True) for _ in times]
        self._launches = np.array([*launches, 1.0])
        believed = [time for times in alone for time in times]
        rest = first - sum(times[0] * len(problem.layers) for problem, times in zip(problems, alone, strict=True))
        self._mean = np.array([*believed, rest])
        self._covariance = np.diag(np.array([*(_TRUST * time for time in believed), _REST * first]) ** 2)
        self._noise = (_NOISE * first) ** 2
        self._definite = np.eye(len(believed) + 1) * (_NOTHING * first) ** 2
        self._draws = np.random.default_rng(_SEED)

    def best(self) -> list[int]:
        """Each problem's choice that is believed to be the fastest."""
        return self._least(self._mean)

    def next(self) -> list[int]:
        """The choices to try."""
        factor = np.linalg.cholesky(self._covariance + self._definite)  # an eighth of what eigenvalues take
        return self._least(self._mean + factor @ self._draws.standard_normal(len(self._mean)))

    def learn(self, choices: Sequence[int], taken: float) -> None:
        """The network took `taken` microseconds with these choices."""
        took_part = np.zeros(len(self._mean))
        took_part[[begin + choice for begin, choice in zip(self._begin, choices, strict=False)]] = 1.0
        took_part[-1] = 1.0
        features = took_part * self._launches
        along = self._covariance @ features
        variance = float(features @ along) + self._noise
        most = _CLIPPED * variance**0.5
        error = min(max(taken - float(features @ self._mean), -most), most)
        self._mean = self._mean + along * (error / variance)
        self._covariance = self._covariance - np.outer(along, along) / variance

    def _least(self, times: Array) -> list[int]:
        return [int(np.argmin(times[a:b])) for a, b in zip(self._begin, self._begin[1:], strict=False)]


def _finalists(problem: Problem, finalists: int, near: float) -> list[float]:
    """Microseconds in chains, the fastest first."""
    most = problem.right[0].microseconds * near
    return [each.microseconds for each in problem.right[:finalists] if each.microseconds <= most]
