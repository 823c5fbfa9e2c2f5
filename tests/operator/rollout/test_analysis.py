"""Two moments of the pods' counters give a judgement, or none where they say nothing."""

from typing import Any

import pytest
from prometheus_client.exposition import generate_latest

from enginewright_operator import api
from enginewright_operator.rollout import Reading, Sample, analysis, exposition
from enginewright_runtime.server.metrics import Metrics

RULES = api.Analysis(min_requests=10, max_error_rate=0.01, max_p99_ratio=1.5)
AT = "2026-01-01T00:00:00Z"


def counts(requests: int, errors: int = 0, seconds: float = 0.004) -> api.Counts:
    """So many requests that all took this long."""
    bounds = (0.001, 0.0025, 0.005, 0.01, 0.025, float("inf"))
    return api.Counts(
        requests=requests,
        errors=errors,
        buckets={str(bound): requests if seconds <= bound else 0 for bound in bounds},
    )


def sample(stable: api.Counts | None, canary: api.Counts | None, **changes: Any) -> Sample:
    return Sample(
        stable=Reading(pods=("a",), counts=stable),
        canary=Reading(**{"pods": ("b",), "counts": canary} | changes),
    )


def judged(stable: api.Counts, canary: api.Counts, **changes: Any) -> analysis.Measurement | None:
    """The measurement from nothing to these counters."""
    begun = analysis.window(sample(counts(0), counts(0)), at=AT)
    assert begun is not None
    return analysis.measure(RULES, begun, sample(stable, canary, **changes))


def test_one_that_does_as_well_passes() -> None:
    found = judged(counts(100, 1), counts(100, 1))
    assert found is not None
    assert found.passed


def test_more_errors_than_the_other_fail_with_both_figures() -> None:
    found = judged(counts(100, 2), counts(50, 5))
    assert found is not None
    assert not found.passed
    assert "10.00% of the canary's 50 requests failed" in found.message
    assert "3.00% was allowed (2.00% of the plan that serves)" in found.message


def test_errors_that_clients_make_everywhere_are_not_the_canarys() -> None:
    found = judged(counts(100, 30), counts(50, 15))
    assert found is not None
    assert found.passed


def test_a_slower_p99_fails_with_both_figures() -> None:
    found = judged(counts(100), counts(50, seconds=0.02))
    assert found is not None
    assert not found.passed
    assert "the canary's p99 was 24.9 ms of 50 requests, at most 1.5 times 4.98 ms" in found.message


def test_too_few_requests_say_nothing() -> None:
    assert judged(counts(100), counts(9, 9)) is None


def test_with_too_few_requests_to_the_other_the_canary_is_held_to_the_limit_alone() -> None:
    found = judged(counts(5, seconds=0.0005), counts(50))
    assert found is not None
    assert found.passed


def test_a_container_that_ended_fails_whatever_the_counters_say() -> None:
    found = judged(counts(100), counts(100), restarts=1)
    assert found is not None
    assert not found.passed


def test_other_pods_say_nothing() -> None:
    assert judged(counts(100), counts(100), pods=("c",)) is None


def test_a_counter_that_went_back_says_nothing_and_begins_another_window() -> None:
    begun = analysis.window(sample(counts(100), counts(100)), at=AT)
    later = sample(counts(50), counts(200))
    fresh = analysis.window(later, at=AT)
    assert begun is not None
    assert fresh is not None
    assert analysis.measure(RULES, begun, later) is None
    assert not analysis.continues(begun, fresh)


def test_what_was_before_the_window_does_not_count() -> None:
    begun = analysis.window(sample(counts(0), counts(1000, 1000)), at=AT)
    assert begun is not None
    found = analysis.measure(RULES, begun, sample(counts(100), counts(1100, 1000)))
    assert found is not None
    assert found.passed


def test_without_counters_there_is_no_window() -> None:
    assert analysis.window(sample(None, counts(1)), at=AT) is None


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.5, 0.005), (0.25, 0.00375), (0.99, 0.01)],
)
def test_a_quantile_is_interpolated_as_prometheus_does(share: float, expected: float) -> None:
    # 40 requests to 5 ms from 2.5 ms, 40 to 10 ms, and 0.99 of 80 lies just below the last bound.
    found = analysis.quantile(api.Counts(buckets={"0.0025": 0, "0.005": 40, "0.01": 80, "+Inf": 80}), share)
    assert found == pytest.approx(expected, rel=0.02)


def test_a_quantile_of_nothing_is_zero_and_one_past_the_last_bound_is_that_bound() -> None:
    assert analysis.quantile(api.Counts(), 0.99) == 0.0
    assert analysis.quantile(api.Counts(buckets={"1.0": 0, "+Inf": 9}), 0.99) == 1.0


def test_the_servers_own_metrics_are_understood() -> None:
    metrics = Metrics()
    for code, seconds in ((200, 0.002), (200, 0.002), (500, 0.2), (400, 0.002)):
        metrics.answered("digits", code, seconds)
    metrics.answered("", 404, 0.1)
    found = exposition.counts(generate_latest(metrics.registry).decode(), model="digits")
    assert (found.requests, found.errors) == (4, 2)
    assert found.buckets["0.0025"] == 3
    assert found.buckets["+Inf"] == 4


def test_counters_of_several_pods_add_up() -> None:
    found = exposition.total([counts(3, 1), counts(4)])
    assert (found.requests, found.errors, found.buckets["0.005"]) == (7, 1, 7)
