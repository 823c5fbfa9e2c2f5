"""From samples to a choice. Pure: no clock, no machine.

The fastest median wins, but for a tie: of candidates whose medians are within the noise of the best, those whose
fastest tenth is; and of these the first in the table, since it is simpler and time cannot tell them apart. Other work
on the machine lengthens many runs and hardly the fastest: where two threads are twice as fast whenever both CPUs are
free, medians may tie because they were not.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from enginewright_builder.tuning import timer

FASTEST = 0.1  # of all samples: how long it takes undisturbed
LEAST_NOISE, MOST_NOISE = 0.02, 0.04


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which candidate, its median in seconds, and why in words."""

    name: str
    median: float
    reason: str


def choose(samples: Mapping[str, Sequence[float]]) -> Choice:
    """Choose among candidates, given in table order, by their samples in seconds (one at least each)."""
    medians = {name: statistics.median(each) for name, each in samples.items()}
    best = min(medians, key=lambda name: medians[name])
    margin = noise(samples[best])
    near = [name for name, median in medians.items() if median <= medians[best] * (1 + margin)]
    undisturbed = {name: timer.percentile(samples[name], FASTEST) for name in near}
    most = min(undisturbed.values()) * (1 + margin)
    name = next(name for name in near if undisturbed[name] <= most)
    if name != best:
        simpler = list(samples).index(name) < list(samples).index(best)
        return Choice(
            name=name,
            median=medians[name],
            reason=f"within the noise ({margin:.1%}) of {best}, and {'simpler' if simpler else 'faster undisturbed'}",
        )
    others = [median for other, median in medians.items() if other != name]
    if not others:
        return Choice(name=name, median=medians[name], reason="the only one that is right")
    reason = f"fastest, {min(others) / medians[name] - 1:.1%} before the next"
    return Choice(name=name, median=medians[name], reason=reason)


def noise(samples: Sequence[float]) -> float:
    """How far a median of these samples may be off, relative to it: two standard errors from the median deviation.

    For normal noise the standard deviation is 1.4826 median deviations, and a median's standard error 1.2533 times
    a mean's (Kendall and Stuart, The Advanced Theory of Statistics, vol. 1). Kept between 2 %, by which two loads of
    the very same session differ (where its memory comes to lie), and 4 %, so that noise never buys a slow tactic.
    """
    median = statistics.median(samples)
    if median <= 0:
        return LEAST_NOISE
    deviation = statistics.median(abs(sample - median) for sample in samples)
    error = 2 * 1.2533 * 1.4826 * deviation / math.sqrt(len(samples))
    return min(max(error / median, LEAST_NOISE), MOST_NOISE)
