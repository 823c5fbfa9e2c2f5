"""The table of the world's models: when a row is said to be slower."""

import models
import pytest


@pytest.mark.parametrize(
    ("ours", "undisturbed", "slower"), [(2.0, 1.5, True), (2.0, 1.01, False), (1.0, 1.5, False), (2.0, 0.0, True)]
)
def test_a_row_is_slower_only_if_its_medians_and_its_fastest_runs_are(ours, undisturbed, slower):
    row = models.Row(name="m", native="n", ours_ms=ours, native_ms=1.0, undisturbed=undisturbed)
    assert ("(slower)" in row.line()) is slower


def test_a_race_tells_the_medians_and_the_ratio_of_the_fastest_runs():
    times = models._race({"ours": lambda: sum(range(20_000)), "native": lambda: sum(range(20_000))}, 0.05)
    assert set(times) == {"ours_ms", "native_ms", "undisturbed"}
    assert 0.3 < times["undisturbed"] < 3
