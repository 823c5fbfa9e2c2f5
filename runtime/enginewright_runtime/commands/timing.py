"""Latency and throughput of a callable: warm-up, rounds that take turns, and plain percentiles of single calls."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

WARM_UP = 10  # calls at least, and
WARM_UP_SHARE = 0.1  # of the measuring time: caches, arenas and clocks settle
ROUNDS = 10

Call = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What was measured on one set of input shapes. Times are milliseconds, `throughput` inferences a second."""

    shapes: str
    p50: float
    p90: float
    p99: float
    mean: float
    throughput: float
    samples: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the unit in the names."""
        return {
            "shapes": self.shapes,
            "p50_ms": self.p50,
            "p90_ms": self.p90,
            "p99_ms": self.p99,
            "mean_ms": self.mean,
            "throughput_per_second": self.throughput,
            "samples": self.samples,
        }


def measure(
    call: Call,
    feeds: Sequence[Mapping[str, Any]],
    *,
    seconds: float,
    concurrency: int = 1,
    watched: Callable[[int], AbstractContextManager[object]] = nullcontext,
) -> tuple[Timing, ...]:
    """Time `call` on each feed for `seconds`, with `concurrency` threads calling at once.

    Every round of the feed with number n runs inside `watched(n)`.
    """
    for feed in feeds:
        _run_for(call, feed, seconds * WARM_UP_SHARE, at_least=WARM_UP)
    samples: list[list[float]] = [[] for _ in feeds]
    spent = [0.0] * len(feeds)
    for _ in range(ROUNDS):
        for index, feed in enumerate(feeds):
            with watched(index):
                started = time.perf_counter()
                samples[index] += _round(call, feed, seconds / ROUNDS, concurrency)
                spent[index] += time.perf_counter() - started
    return tuple(_timing(feed, taken, wall) for feed, taken, wall in zip(feeds, samples, spent, strict=True))


def table(results: Sequence[Timing]) -> Iterator[str]:
    """The figures in columns."""
    width = max(len("shapes"), *(len(result.shapes) for result in results))
    yield f"{'shapes':{width}}{'p50 ms':>10}{'p90 ms':>10}{'p99 ms':>10}{'inferences/s':>14}{'samples':>9}"
    for r in results:
        yield f"{r.shapes:{width}}{r.p50:>10.3f}{r.p90:>10.3f}{r.p99:>10.3f}{r.throughput:>14.1f}{r.samples:>9}"


def _round(call: Call, feed: Mapping[str, Any], seconds: float, concurrency: int) -> list[float]:
    if concurrency == 1:
        return _run_for(call, feed, seconds, at_least=1)
    taken: list[list[float]] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            taken.append(_run_for(call, feed, seconds, at_least=1))
        except BaseException as error:
            failed.append(error)
            raise

    workers = [threading.Thread(target=work, name=f"bench-{number}") for number in range(concurrency)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failed:
        raise failed[0]
    return [sample for samples in taken for sample in samples]


def _run_for(call: Call, feed: Mapping[str, Any], seconds: float, *, at_least: int) -> list[float]:
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while True:
        started = time.perf_counter()
        if started >= end and len(samples) >= at_least:
            return samples
        call(feed)
        samples.append(time.perf_counter() - started)


def _timing(feed: Mapping[str, Any], samples: Sequence[float], wall: float) -> Timing:
    times = np.asarray(samples) * 1e3
    p50, p90, p99 = (float(each) for each in np.percentile(times, [50, 90, 99]))
    shapes = ", ".join(f"{name} {list(np.shape(value))}" for name, value in feed.items()) or "no inputs"
    return Timing(
        shapes=shapes,
        p50=p50,
        p90=p90,
        p99=p99,
        mean=float(times.mean()),
        throughput=len(samples) / wall,
        samples=len(samples),
    )
