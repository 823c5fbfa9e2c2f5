"""The proof of a finished plan: its goldens replayed by the engine that will serve it, and every gate of the recipe."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from enginewright_builder import causes, gates, measuring
from enginewright_builder.calibration import samples as calibration
from enginewright_builder.calibration.samples import Samples
from enginewright_builder.measuring import Accuracy, Latency
from enginewright_builder.network import specialize
from enginewright_builder.network.network import Network
from enginewright_builder.planning import Built
from enginewright_builder.tuning.inputs import Reference
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.errors import UsageError
from enginewright_runtime.plan.manifest import Binding
from enginewright_runtime.plan.recipe import Gates
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
    network: Network,
    *,
    data: Path | None,
    right: Reference,
    step: Callable[[str], None],
) -> Proven:
    """Load the plan of `network`, replay, measure, judge. Raises GoldenMismatchError, and UsageError for a gate that
    cannot be judged."""
    verdicts: list[Verdict] = []
    with Engine(plan, allow_plugins=True) as engine:
        manifest = engine.manifest
        wanted = manifest.recipe.gates
        step("golden inputs")
        engine.replay_goldens()
        step("latency")
        latencies = tuple(
            measuring.latency(engine, each.proof.feeds[0]) if each.proof.feeds else None for each in built
        )
        accuracy = None
        if wanted.accuracy is not None and data is not None:
            step("accuracy")
            accuracy, verdict = _accuracy(engine, built, network, data, right, step)
            verdicts.append(verdict)
    if wanted.latency is not None:
        which = measuring.schedule_for_batch([each.schedule.inputs for each in built], wanted.latency.batch)
        latency = latencies[which]
        if latency is None:
            raise UsageError("The latency gate cannot be judged: no input could be made up; give calibration samples.")
        cause = causes.slowest(built[which].facts.chosen)
        verdicts.append(gates.latency(wanted.latency, p99_ms=latency.p99, samples=latency.samples, cause=cause))
    if wanted.memory:
        step("memory")
        sizes = {name: blob.bytes for name, blob in manifest.blobs.items()}
        # On the CPU ONNX Runtime places the tensors itself, and an arena only informs.
        cause = causes.largest([each.schedule.arena for each in built if each.facts.chosen], sizes)
        verdicts.append(gates.memory(wanted.memory, resident=measuring.resident(plan), cause=cause))
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


def _accuracy(
    engine: Engine,
    built: Sequence[Built],
    network: Network,
    data: Path,
    right: Reference,
    step: Callable[[str], None],
) -> tuple[Accuracy, Verdict]:
    """On the largest batch: the data are many samples, and every schedule was checked against the model already."""
    recipe = engine.manifest.recipe
    gate = recipe.gates.accuracy
    assert gate is not None, "asked only where there is one"
    schedule = max((each.schedule for each in built), key=lambda each: measuring.batch_of(each.inputs))
    samples = _data(data, schedule.inputs)

    def judged(run: Reference) -> tuple[Accuracy, Verdict]:
        found = measuring.accuracy(run, right, schedule, samples, gate)
        return found, gates.accuracy(gate, model=found.model, plan=found.plan, samples=found.samples)

    found, verdict = judged(engine.infer)
    if verdict.passed:
        return found, verdict
    step("what lost the accuracy")
    fixed = specialize.with_shapes(network, {each.name: each.shape for each in schedule.inputs if each.shape})
    feed = samples.batch(0, schedule.inputs)
    cause = causes.find(fixed, recipe, feed, lambda run: judged(run)[1].passed)
    return found, gates.accuracy(gate, model=found.model, plan=found.plan, samples=found.samples, cause=cause)
