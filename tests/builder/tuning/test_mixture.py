"""What a mixture of choices teaches about each: simulated networks whose times are sums, with noise."""

import numpy as np

from enginewright_builder.tuning.mixture import Mixture
from enginewright_builder.tuning.problems import Problem
from enginewright_builder.tuning.timings import Timed

NEAR = 1.6


def problem(*alone: float, layers: int = 1) -> Problem:
    timed = tuple(Timed(tactic="test", name=str(number), microseconds=each) for number, each in enumerate(alone))
    return Problem(layers=list(range(layers)), key="", timed=timed)


def test_before_any_time_the_fastest_by_themselves_are_the_best() -> None:
    assert Mixture([problem(1.0, 1.1), problem(2.0, 2.5)], 4, NEAR, 10.0).best() == [0, 0]


def test_what_is_far_slower_by_itself_or_no_finalist_is_never_tried() -> None:
    mixture = Mixture([problem(1.0, 1.01, 1.7), problem(1.0, 1.0, 1.0, 1.0)], 3, NEAR, 10.0)
    tried = np.array([mixture.next() for _ in range(300)])
    assert tried.max(axis=0).tolist() == [1, 2]


def test_each_problems_fastest_in_the_network_is_found_through_noise() -> None:
    noise = np.random.default_rng(3)
    alone = np.sort(noise.uniform(1.8, 2.2, (20, 6)), axis=1)
    inside = alone + noise.normal(0, 0.12, alone.shape)
    counts = [1 + number % 5 for number in range(20)]
    problems = [problem(*times, layers=count) for times, count in zip(alone, counts, strict=True)]

    def real(choices: list[int]) -> float:
        return 8.0 + sum(count * float(times[each]) for count, times, each in zip(counts, inside, choices, strict=True))

    mixture = Mixture(problems, 6, NEAR, real([0] * 20))
    for _ in range(150):
        choices = mixture.next()
        mixture.learn(choices, real(choices) * (1 + noise.normal(0, 0.003)))
    first, least = real([0] * 20), 8.0 + float(inside.min(axis=1) @ np.array(counts))
    assert first - real(mixture.best()) > 0.9 * (first - least)


def test_one_wild_time_is_hardly_believed() -> None:
    mixture = Mixture([problem(1.0, 1.1, layers=3), problem(2.0, 2.1)], 4, NEAR, 100.0)
    for _ in range(10):
        mixture.learn([0, 0], 100.0)
        mixture.learn([1, 1], 101.0)
    mixture.learn([1, 1], 20.0)
    assert mixture.best() == [0, 0]


def test_what_is_known_for_sure_can_be_drawn_too() -> None:
    mixture = Mixture([problem(0.0, 0.0), problem(2.0, 2.1)], 4, NEAR, 10.0)
    for _ in range(500):
        mixture.learn([0, 0], 10.0)
        mixture.learn([1, 1], 10.1)
    assert len(mixture.next()) == 2
