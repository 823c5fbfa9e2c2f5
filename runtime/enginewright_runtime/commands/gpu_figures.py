"""What `bench` says about the GPU beside the times: joules an inference, clocks, and whether it slowed itself down."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from enginewright_runtime.commands.timing import Timing
from enginewright_runtime.engine.cuda import nvml
from enginewright_runtime.plan.target import Target, TargetKind

Watched = Callable[[int], AbstractContextManager[object]]


@contextmanager
def watching(built_for: Target, watches: Sequence[nvml.Watch]) -> Iterator[Watched | None]:
    """What `timing.measure` runs each round in, so that the GPU is watched; None for a plan that uses no GPU."""
    if built_for.kind is not TargetKind.CUDA:
        yield None
        return
    from enginewright_runtime.engine.cuda.driver import gpu  # the engine has loaded it already

    with nvml.metering(gpu().bus()) as meter:
        yield lambda index: meter(watches[index])


def to_json(watch: nvml.Watch, timing: Timing) -> dict[str, Any]:
    """Plain values with the unit in their names; nothing for what the GPU did not tell."""
    told: dict[str, Any] = {}
    if (joules := watch.energy()) is not None:
        told["joules_per_inference"] = joules / timing.samples
    if (clocks := watch.clocks()) is not None:
        told["clocks_mhz"] = {"lowest": clocks[0], "highest": clocks[1]}
    if watch.samples:
        told["throttled"] = watch.throttled()
    return told


def lines(watches: Sequence[nvml.Watch], timings: Sequence[Timing]) -> Iterator[str]:
    """One line a schedule, and one more for each that was timed while the GPU slowed itself down."""
    for watch, timing in zip(watches, timings, strict=True):
        words = []
        if (joules := watch.energy()) is not None:
            words.append(f"{joules / timing.samples:.4g} J an inference")
        if (clocks := watch.clocks()) is not None:
            words.append(f"clocks {clocks[0]} to {clocks[1]} MHz")
        if words:
            yield f"{timing.shapes}: {', '.join(words)}"
        if throttled := watch.throttled():
            reasons = ", ".join(f"{words} in {share:.0%} of the samples" for words, share in throttled.items())
            yield f"{timing.shapes}: timed while the GPU was throttled ({reasons}), so it can be faster."
