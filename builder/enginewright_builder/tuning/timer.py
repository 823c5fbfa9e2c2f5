"""Samples of how long candidates take, interleaved so that the machine's moods hit all alike.

Each turn runs one candidate a few times. Before it there is a pause, because the threads of the candidate before may
still be spinning, and its first run is thrown away, because its weights have to come back into the cache. A run so long
that this is nothing beside it counts, and is the whole turn. The order is drawn anew for each round, so that nobody
always follows the one that leaves the machine worst.
"""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Run = Callable[[], object]
Clock = Callable[[], float]
LONG = 0.1  # seconds: a run beside which filling a cache is nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How long to measure: until `seconds` are over, but between `least` and `most` samples a candidate.

    After `patience` seconds even `least` gives way, down to one turn each.
    """

    seconds: float
    least: int = 5
    most: int = 200
    turn: int = 4
    pause: float = 0.003
    patience: float = math.inf


def measure(
    runs: Mapping[str, Run],
    budget: Budget,
    *,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, list[float]]:
    """Seconds of each run by candidate, taken in turns; every candidate gets equally many turns."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    shuffle = random.Random(0).shuffle
    start, fewest = clock(), 0

    def goes_on() -> bool:
        taken = clock() - start
        return fewest < budget.most and (taken < budget.seconds or (fewest < budget.least and taken < budget.patience))

    while runs and (not fewest or goes_on()):
        shuffle(order)
        for name in order:
            sleep(budget.pause)
            samples[name] += _turn(runs[name], budget.turn, clock)
        fewest = min(len(each) for each in samples.values())
    return samples


def _turn(run: Run, times: int, clock: Clock) -> list[float]:
    first = _seconds(run, clock)
    return [first] if first > LONG else [_seconds(run, clock) for _ in range(times)]


def _seconds(run: Run, clock: Clock) -> float:
    start = clock()
    run()
    return clock() - start


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` of all samples do not exceed (nearest rank)."""
    ordered = sorted(samples)
    rank = max(1, -(-len(ordered) * share // 1))
    return ordered[int(rank) - 1]
