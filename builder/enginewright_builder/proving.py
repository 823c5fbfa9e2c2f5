"""The proof of a finished plan: its goldens replayed by the engine that will serve it, and every gate of the recipe."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from enginewright_builder import gates, measuring
from enginewright_builder.calibration import samples as calibration
from enginewright_builder.calibration.samples import Samples
from enginewright_builder.measuring import Accuracy, Latency
from enginewright_builder.planning import Built
from enginewright_builder.tuning.inputs import Reference
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.errors import UsageError
from enginewright_runtime.plan.manifest import Binding
from enginewright_runtime.plan.recipe import AccuracyGate, Gates
from enginewright_runtime.plan.request import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What was measured: one latency a schedule (None where no input could be made up), and each gate's verdict."""

    latencies: tuple[Latency | None, ...]
    accuracy: Accuracy | None
    verdicts: tuple[Verdict, ...]


def prove(
    plan: Path,
    built: Sequence[Built],
    wanted: Gates,
    *,
    data: Path | None,
    right: Reference,
    step: Callable[[str], None],
) -> Proven:
    """Load the plan, replay, measure, judge. Raises GoldenMismatchError, and UsageError for a gate that cannot be."""
    verdicts: list[Verdict] = []
    with Engine(plan, allow_plugins=True) as engine:
        step("golden inputs")
        engine.replay_goldens()
        step("latency")
        latencies = tuple(
            measuring.latency(engine, each.proof.feeds[0]) if each.proof.feeds else None for each in built
        )
        accuracy = None
        if wanted.accuracy is not None and data is not None:
            step("accuracy")
            accuracy = _accuracy(engine, built, wanted.accuracy, data, right)
            verdicts.append(
                gates.accuracy(wanted.accuracy, model=accuracy.model, plan=accuracy.plan, samples=accuracy.samples)
            )
    if wanted.latency is not None:
        schedules = [each.schedule.inputs for each in built]
        latency = latencies[measuring.schedule_for_batch(schedules, wanted.latency.batch)]
        if latency is None:
            raise UsageError("The latency gate cannot be judged: no input could be made up; give calibration samples.")
        verdicts.append(gates.latency(wanted.latency, p99_ms=latency.p99, samples=latency.samples))
    if wanted.memory:
        step("memory")
        verdicts.append(gates.memory(wanted.memory, resident=measuring.resident(plan)))
    return Proven(latencies=latencies, accuracy=accuracy, verdicts=tuple(verdicts))


def require_judgeable(wanted: Gates, schedules: Sequence[Sequence[Binding]], data: Path | None) -> None:
    """Refuse a gate that could never be judged before anything is built: a batch or data that do not fit.

    `schedules` are the inputs of each. Raises UsageError or InputError.
    """
    if wanted.latency is not None:
        measuring.schedule_for_batch(schedules, wanted.latency.batch)
    if data is not None:
        _data(data, max(schedules, key=measuring.batch_of))


def _data(data: Path, taken: Sequence[Binding]) -> Samples:
    return calibration.read(data, taken, what=f"The accuracy gate's data {data}")


def _accuracy(engine: Engine, built: Sequence[Built], gate: AccuracyGate, data: Path, right: Reference) -> Accuracy:
    """On the largest batch: the data are many samples, and every schedule was checked against the model already."""
    schedule = max((each.schedule for each in built), key=lambda each: measuring.batch_of(each.inputs))
    samples = _data(data, schedule.inputs)
    return measuring.accuracy(engine, right, schedule, samples, gate)
