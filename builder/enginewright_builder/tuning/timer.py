"""Samples of how long candidates take, interleaved so that the machine's moods hit all alike.

Each turn runs one candidate a few times. Before it there is a pause, because the threads of the candidate before may
still be spinning, and its first run is thrown away, because its weights have to come back into the cache. The order is
drawn anew for each round, so that nobody always follows the one that leaves the machine worst.
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Run = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How long to measure: until `seconds` are over, but between `least` and `most` samples a candidate."""

    seconds: float
    least: int = 5
    most: int = 200
    turn: int = 4
    pause: float = 0.003


def measure(
    runs: Mapping[str, Run],
    budget: Budget,
    *,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, list[float]]:
    """Seconds of each run by candidate, taken in turns; every candidate gets equally many."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    shuffle = random.Random(0).shuffle
    end = clock() + budget.seconds
    taken = 0
    while runs and taken < budget.most and (taken < budget.least or clock() < end):
        turn = budget.turn
        shuffle(order)
        for name in order:
            run = runs[name]
            sleep(budget.pause)
            run()
            for _ in range(turn):
                start = clock()
                run()
                samples[name].append(clock() - start)
        taken += turn
    return samples


def percentile(samples: list[float], share: float) -> float:
    """The smallest sample that at least `share` of all samples do not exceed (nearest rank)."""
    ordered = sorted(samples)
    rank = max(1, -(-len(ordered) * share // 1))
    return ordered[int(rank) - 1]
