"""Runs the segments of one schedule, one after the other, over values by name.

What no later segment and no output needs is let go at once, so that a long schedule holds only what is alive.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from enginewright_runtime.engine.executor import Executor
from enginewright_runtime.engine.values import Value
from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan.manifest import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One segment: what it takes, and which values nobody needs after it."""

    executor: Executor
    inputs: tuple[str, ...]
    finished: tuple[str, ...]


class Context:
    """A schedule that can run. Holds nothing of a single run, so threads may share it."""

    run: Callable[[Mapping[str, Value]], dict[str, Value]]
    run_device: Callable[[Mapping[str, Value]], Mapping[str, Any]] | None
    """The same with arrays of a GPU in and out, where one segment on a GPU is all of the schedule; else None."""
    reserve: Callable[[], Any] | None
    """A context for one caller alone (engine/cuda/reservation.py), where `run_device` is not None."""

    def __init__(self, schedule: Schedule, executors: Sequence[Executor]) -> None:
        """Raises PlanError where a segment takes what none before it gives."""
        self._inputs = tuple(binding.name for binding in schedule.inputs)
        self._outputs = tuple(binding.name for binding in schedule.outputs)
        self._steps = _steps(schedule, executors)
        # The usual plan has one segment that takes and gives just what the engine does: it needs no walk.
        sole = len(executors) == 1 and set(schedule.segments[0].inputs) == set(self._inputs)
        direct = sole and schedule.segments[0].outputs == self._outputs
        self.run = executors[0].run if direct else self._walk
        self.run_device = getattr(executors[0], "run_device", None) if direct else None
        self.reserve = getattr(executors[0], "reserve", None) if direct else None

    def close(self) -> None:
        """Close every executor."""
        for step in self._steps:
            step.executor.close()

    def _walk(self, tensors: Mapping[str, Value]) -> dict[str, Value]:
        values = dict(tensors)
        for step in self._steps:
            values.update(step.executor.run({name: values[name] for name in step.inputs}))
            for name in step.finished:
                del values[name]
        return {name: values[name] for name in self._outputs}


def _steps(schedule: Schedule, executors: Sequence[Executor]) -> tuple[Step, ...]:
    alive = {binding.name for binding in schedule.inputs}
    kept = {binding.name for binding in schedule.outputs}
    steps: list[Step] = []
    for index, (segment, executor) in enumerate(zip(schedule.segments, executors, strict=True)):
        if missing := sorted(set(segment.inputs) - alive):
            raise PlanError(
                f"The segment {segment.blob!r} takes {missing[0]!r}, which no input and no segment before it gives: "
                "build the plan again."
            )
        alive |= set(segment.outputs)
        needed = kept.union(*(later.inputs for later in schedule.segments[index + 1 :]))
        steps.append(Step(executor=executor, inputs=segment.inputs, finished=tuple(sorted(alive - needed))))
        alive &= needed
    if missing := sorted(kept - alive):
        raise PlanError(f"No segment gives the output {missing[0]!r}: build the plan again.")
    return tuple(steps)
