"""Choosing is pure, so its rules are tested without a clock."""

import pytest

from enginewright_builder.tuning.choose import LEAST_NOISE, MOST_NOISE, choose, noise


def test_the_fastest_median_wins_where_time_tells_the_candidates_apart() -> None:
    choice = choose({"first": [2.0, 2.0, 2.0], "second": [1.0, 1.0, 1.0]})
    assert choice.name == "second"
    assert "fastest, 100.0% before the next" in choice.reason


def test_of_candidates_within_the_noise_the_earlier_in_the_table_wins() -> None:
    choice = choose({"simple": [1.005, 1.006, 1.004], "clever": [1.0, 1.001, 0.999]})
    assert choice.name == "simple"
    assert "within the noise" in choice.reason
    assert "clever" in choice.reason


@pytest.mark.parametrize("median", [1.98, 2.02])
def test_where_medians_tie_the_fastest_runs_decide(median: float) -> None:
    one, two = [1.0] * 4 + [2.0] * 6, [0.5] * 4 + [median] * 6
    choice = choose({"1 thread": one, "all threads": two})
    assert choice.name == "all threads"


def test_a_choice_for_its_fastest_runs_says_so() -> None:
    choice = choose({"1 thread": [1.0] * 4 + [2.0] * 6, "all threads": [0.5] * 4 + [2.01] * 6})
    assert "within the noise" in choice.reason
    assert "faster undisturbed" in choice.reason


def test_an_earlier_candidate_beyond_the_noise_is_not_taken() -> None:
    assert choose({"simple": [1.05] * 20, "clever": [1.0] * 20}).name == "clever"


def test_noisy_samples_never_excuse_more_than_the_most_noise() -> None:
    assert noise([1.0, 9.0, 2.0, 7.0]) == MOST_NOISE
    assert noise([1.0] * 9) == LEAST_NOISE


def test_a_single_outlier_does_not_change_the_choice() -> None:
    assert choose({"steady": [1.1] * 9, "fast": [1.0] * 8 + [50.0]}).name == "fast"


def test_one_candidate_is_chosen_with_the_reason_that_it_is_the_only_one() -> None:
    choice = choose({"only": [0.5]})
    assert (choice.name, choice.median) == ("only", 0.5)
    assert "only one" in choice.reason


def test_times_too_small_for_the_clock_do_not_divide_by_zero() -> None:
    assert noise([0.0, 0.0]) == pytest.approx(LEAST_NOISE)
