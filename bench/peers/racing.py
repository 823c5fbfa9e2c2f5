"""One race: everyone made ready and held against float32, then all take turns, then each runs alone without a pause."""

import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from enginewright_runtime.engine.cuda.nvml import Watch
from peers.contenders import MAKERS, Contender, Orders, ours
from peers.networks import Subject
from peers.record import OURS, PEERS, Declined, Race, Result

BURST = 20  # runs in a turn
ALONE = 0.05  # seconds of a burst while power is watched
LEAST = 5.0  # seconds: no peer is begun with less left

Meter = Callable[[Watch], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """A contender that is ready, with what is known of it before the race."""

    contender: Contender
    error: float
    top1: float | None
    ready_s: float


def race(
    each: Subject, peers: Sequence[str], orders: Orders, *, conditions: int, seconds: float, until: float, meter: Meter
) -> Race:
    """Everyone of `peers` (words of PEERS) against ours; who is not ready at `until` (monotonic) is cut off."""
    told: dict[str, Any] = {}
    makers: dict[str, Callable[[], Any]] = {OURS: lambda: ours(each, orders, told)}
    makers |= {PEERS[word]: lambda word=word: MAKERS[word](each, orders) for word in PEERS if word in peers}
    ready: dict[str, Entered] = {}
    declined: dict[str, Declined] = {}
    with ExitStack() as stack:
        for name, make in makers.items():
            left = math.inf if name == OURS else until - time.monotonic()
            found = _enter(stack, make, each, left)
            if isinstance(found, Declined):
                declined[name] = found
            else:
                ready[name] = found
        contenders = {name: entered.contender for name, entered in ready.items()}
        medians = {name: statistics.median(taken) for name, taken in turns(contenders, seconds).items()}
        results = {
            name: Result(ms=medians[name], error=entered.error, top1=entered.top1, ready_s=entered.ready_s)
            for name, entered in ready.items()
        }
        for name, contender in contenders.items():
            results[name] = alone(contender, results[name], seconds, meter)
    return Race(
        network=each.name,
        batch=len(each.inputs),
        conditions=conditions,
        layers=told.get("layers", ""),
        pictures=0 if each.pictures is None else len(each.pictures),
        classes=0 if each.classes is None else len(each.classes.unique()),
        results=results,
        declined=declined,
    )


def turns(contenders: Mapping[str, Contender], seconds: float) -> dict[str, list[float]]:
    """Milliseconds of bursts that take turns, for `seconds` a contender; the first turn warms up and does not count."""
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for contender in contenders.values():
        contender.milliseconds(BURST)
    until = time.monotonic() + seconds * len(contenders)
    while True:
        for name, contender in contenders.items():
            samples[name] += contender.milliseconds(BURST)
        if time.monotonic() >= until:
            return samples


def alone(contender: Contender, result: Result, seconds: float, meter: Meter) -> Result:
    """The result with power, clocks and throttling while the contender runs without a pause."""
    count = max(BURST, math.ceil(ALONE * 1e3 / max(result.ms, 1e-3)))
    watch, taken, until = Watch(), list[float](), time.monotonic() + seconds
    with meter(watch):
        while time.monotonic() < until:
            taken += contender.milliseconds(count)
    joules = watch.energy()
    return replace(
        result,
        sustained_ms=statistics.median(taken),
        joules=None if joules is None else joules / len(taken),
        mhz=watch.clocks(),
        throttled=watch.throttled(),
    )


def unwatched(watch: Watch) -> AbstractContextManager[None]:
    """The meter of a machine whose power nobody tells."""
    return nullcontext()


def _enter(stack: ExitStack, make: Callable[[], Any], each: Subject, left: float) -> Entered | Declined:
    if left < LEAST:
        return Declined(reason="no time was left", late_after=0.0)
    started = time.monotonic()
    try:
        with limited(left):
            contender = stack.enter_context(make())
            ready_s = time.monotonic() - started
            error = _error(contender.answer(each.inputs), each.right)
            return Entered(contender=contender, error=error, top1=_top1(contender, each), ready_s=round(ready_s, 1))
    except Exception as error:  # one that cannot take part is a line of the report that says why
        took = time.monotonic() - started
        if took >= left:
            return Declined(reason=f"not ready within {took:.0f} s", late_after=round(took, 1))
        return Declined(reason=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the block when it takes longer; not in the middle of a call into C."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not ready within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 0 if math.isinf(seconds) else seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _error(given: torch.Tensor, right: torch.Tensor) -> float:
    """The largest difference over the largest value of float32; infinite for anything that is no number."""
    worst = float((given.to(right.device) - right).abs().max() / right.abs().max())
    return worst if math.isfinite(worst) else math.inf


def _top1(contender: Contender, each: Subject) -> float | None:
    """The share of the pictures whose largest output is float32's, in whole batches; None of a text."""
    if each.pictures is None or each.classes is None:
        return None
    batch = len(each.inputs)
    whole = len(each.pictures) // batch * batch
    parts = each.pictures[:whole].split(batch)
    given = torch.cat([contender.answer(part).argmax(1) for part in parts]).to(each.classes.device)
    return float((given == each.classes[:whole]).float().mean())
