"""Candidates loaded and run just as a serving engine would: the same executors, contexts and limits, from memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from enginewright_builder.emit import Blobs
from enginewright_runtime.engine import available, loader
from enginewright_runtime.engine.executor import Limits
from enginewright_runtime.engine.values import Value
from enginewright_runtime.plan.manifest import Binding, Schedule, Segment

Run = Callable[[Mapping[str, Value]], dict[str, Value]]


def with_options(segment: Segment, options: Mapping[str, Any]) -> Segment:
    """The segment with these options beside its weights."""
    return replace(segment, options={**segment.options, **options})


@contextmanager
def loaded(segment: Segment, inputs: Sequence[Binding], outputs: Sequence[Binding], blobs: Blobs) -> Iterator[Run]:
    """The segment as a schedule of its own, ready to run. Raises PlanError where the executor does not take it."""
    with schedule_loaded(Schedule(inputs=tuple(inputs), outputs=tuple(outputs), segments=(segment,)), blobs) as run:
        yield run


@contextmanager
def schedule_loaded(schedule: Schedule, blobs: Blobs) -> Iterator[Run]:
    """A schedule of any segments, ready to run. Raises PlanError where an executor does not take its segment."""
    # Whoever builds has named the plugins.
    limits = Limits(threads=available.processors(), cores=available.cores(), plugins=True)
    context = loader.load_schedule(schedule, blobs, limits, plan="in the making")
    try:
        yield context.run
    finally:
        context.close()
