"""Whether the canary does as well as what serves: counters of two moments, compared.

The measurements are windows between two samples of the same pods, so that what was before does not count. The words
are those of Argo Rollouts and Flagger; the quantile is Prometheus' histogram_quantile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from enginewright_operator import api

PERCENTILE = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The pods of one Deployment. `counts` is None where the metrics of one of them could not be read."""

    pods: tuple[str, ...] = ()
    restarts: int = 0
    counts: api.Counts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Both at one moment. `problem` says why counters are missing."""

    stable: Reading
    canary: Reading
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The judgement on one window."""

    passed: bool
    message: str


def window(sample: Sample, *, at: str) -> api.Window | None:
    """A window that begins with this sample; None where it lacks counters."""
    if sample.stable.counts is None or sample.canary.counts is None:
        return None
    return api.Window(
        at=at,
        pods=_digest((*sample.stable.pods, "", *sample.canary.pods)),
        restarts=sample.canary.restarts,
        stable=sample.stable.counts,
        canary=sample.canary.counts,
    )


def measure(rules: api.Analysis, begun: api.Window, sample: Sample) -> Measurement | None:
    """The judgement on what was since `begun`; None where it says nothing: other pods, or too few requests."""
    if begun.pods != _digest((*sample.stable.pods, "", *sample.canary.pods)):
        return None
    if sample.canary.restarts > begun.restarts:
        return Measurement(passed=False, message="a container of the canary ended and was started again")
    stable, canary = _since(begun.stable, sample.stable.counts), _since(begun.canary, sample.canary.counts)
    if stable is None or canary is None or canary.requests < max(1, rules.min_requests):
        return None
    return _compared(rules, stable, canary)


def continues(begun: api.Window, now: api.Window) -> bool:
    """Whether the counters of `now` go on from those of `begun`: the same pods, the same processes."""
    kept = _since(begun.stable, now.stable), _since(begun.canary, now.canary)
    return begun.pods == now.pods and None not in kept


def _compared(rules: api.Analysis, stable: api.Counts, canary: api.Counts) -> Measurement:
    known = stable.requests >= max(1, rules.min_requests)
    errors, usual = error_rate(canary), error_rate(stable) if known else 0.0
    if errors > usual + rules.max_error_rate:
        allowed = f"at most {usual + rules.max_error_rate:.2%} was allowed ({usual:.2%} of the plan that serves)"
        return Measurement(
            passed=False, message=f"{errors:.2%} of the canary's {canary.requests} requests failed, {allowed}"
        )
    slow, normal = quantile(canary, PERCENTILE), quantile(stable, PERCENTILE)
    if known and slow > normal * rules.max_p99_ratio:
        allowed = f"at most {rules.max_p99_ratio:g} times {normal * 1e3:.3g} ms was allowed"
        return Measurement(
            passed=False, message=f"the canary's p99 was {slow * 1e3:.3g} ms of {canary.requests} requests, {allowed}"
        )
    return Measurement(
        passed=True,
        message=f"{canary.requests} requests, {errors:.2%} failed, p99 {slow * 1e3:.3g} ms (the plan that serves: "
        f"{stable.requests}, {error_rate(stable):.2%}, {normal * 1e3:.3g} ms)",
    )


def error_rate(counts: api.Counts) -> float:
    """The share of requests that failed."""
    return counts.errors / counts.requests if counts.requests else 0.0


def quantile(counts: api.Counts, share: float) -> float:
    """Seconds within which this share of requests was answered, by linear interpolation in the bucket; 0 of none."""
    rows = sorted((float(bound), count) for bound, count in counts.buckets.items())
    if not rows or rows[-1][1] <= 0:
        return 0.0
    rank, lower, below = share * rows[-1][1], 0.0, 0
    for bound, count in rows:
        if count >= rank:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower


def _since(before: api.Counts, now: api.Counts | None) -> api.Counts | None:
    """What was counted in between; None where a counter went back, as it does in a new process."""
    if now is None or now.requests < before.requests or now.errors < before.errors:
        return None
    return api.Counts(
        requests=now.requests - before.requests,
        errors=now.errors - before.errors,
        buckets={bound: count - before.buckets.get(bound, 0) for bound, count in now.buckets.items()},
    )


def _digest(names: Sequence[str]) -> str:
    return sha256("\n".join(names).encode()).hexdigest()[:12]
