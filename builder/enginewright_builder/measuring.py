"""What the gates judge, measured on the finished plan through the engine that will serve it."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from enginewright_builder.calibration.samples import Samples
from enginewright_builder.tuning import timer
from enginewright_builder.tuning.inputs import Feed, Reference
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.engine.values import Array
from enginewright_runtime.errors import PlanError, UsageError
from enginewright_runtime.plan.manifest import Binding, Schedule
from enginewright_runtime.plan.recipe import AccuracyGate, Metric

_LATENCY_SECONDS = 2.0
_LATENCY_LEAST, _LATENCY_MOST = 20, 1000
_LATENCY_PATIENCE = 20.0  # seconds, after which fewer than the least have to do
_PROBE_SECONDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Of single inferences, one after the other, in milliseconds."""

    p50: float
    p90: float
    p99: float
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """A metric's value for the model and for the plan, on as many samples."""

    model: float
    plan: float
    samples: int


def latency(engine: Engine, feed: Feed, *, seconds: float = _LATENCY_SECONDS) -> Latency:
    """Time `Engine.infer` for `seconds` (20 to 1,000 inferences, fewer where they take 20 s), after one not counted."""
    inputs = dict(feed)
    engine.infer(inputs)
    taken: list[float] = []
    begun = time.perf_counter()
    while not taken or (len(taken) < _LATENCY_MOST and time.perf_counter() - begun < _patience(len(taken), seconds)):
        start = time.perf_counter()
        engine.infer(inputs)
        taken.append((time.perf_counter() - start) * 1000)
    p50, p90, p99 = (timer.percentile(taken, share) for share in (0.5, 0.9, 0.99))
    return Latency(p50=p50, p90=p90, p99=p99, samples=len(taken))


def _patience(taken: int, seconds: float) -> float:
    return seconds if taken >= _LATENCY_LEAST else max(seconds, _LATENCY_PATIENCE)


def batch_of(taken: Sequence[Binding]) -> int:
    """The first dimension of the first input; 1 for an input without one."""
    shape = taken[0].shape if taken else None
    return shape[0] if shape else 1


def schedule_for_batch(schedules: Sequence[Sequence[Binding]], batch: int) -> int:
    """The index of the schedule, given by its inputs, of that batch. Raises UsageError with those that are built."""
    sizes = [batch_of(taken) for taken in schedules]
    if batch not in sizes:
        built = ", ".join(str(size) for size in sizes)
        raise UsageError(
            f"The latency gate is for batch {batch}, and the plan is built for {built}: build that batch too."
        )
    return sizes.index(batch)


def accuracy(
    run: Reference, reference: Reference, schedule: Schedule, samples: Samples, gate: AccuracyGate
) -> Accuracy:
    """Give all samples to `run`, which is the plan, and to the untouched model and compare the first output.

    top1: against the labels, or, without them, against the model's own largest value. cosine: mean cosine of the plan's
    output to the model's, so the model's own value is 1.
    """
    name = schedule.outputs[0].name
    ours, theirs = [], []
    for start, size in _spans(samples.count, batch_of(schedule.inputs)):
        feed = samples.batch(start, schedule.inputs)
        ours.append(_rows(run(feed), name, batch_of(schedule.inputs))[:size])
        theirs.append(_rows(reference(feed), name, batch_of(schedule.inputs))[:size])
    plan, model = np.concatenate(ours), np.concatenate(theirs)
    if gate.metric is Metric.COSINE:
        return Accuracy(model=1.0, plan=cosine(plan, model), samples=samples.count)
    labels = model.argmax(axis=1) if samples.labels is None else samples.labels
    return Accuracy(
        model=float(np.mean(model.argmax(axis=1) == labels)),
        plan=float(np.mean(plan.argmax(axis=1) == labels)),
        samples=samples.count,
    )


def cosine(left: Array, right: Array) -> float:
    """Mean cosine similarity of the rows of two matrices [samples, values]; two rows of zeroes are alike."""
    left, right = left.astype(np.float64), right.astype(np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    products = np.einsum("ij,ij->i", left, right)
    alike = (np.linalg.norm(left, axis=1) == 0) & (np.linalg.norm(right, axis=1) == 0)
    return float(np.mean(np.where(lengths > 0, products / np.where(lengths > 0, lengths, 1.0), alike)))


def resident(plan: Path) -> int:
    """Bytes that loading `plan` and replaying its goldens adds to the resident memory of a fresh process.

    Libraries are loaded before the first reading, so they do not count; pages of the mapped plan that were read do.
    """
    command = [sys.executable, "-m", "enginewright_builder.residency", str(plan)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise PlanError(f"The plan's memory could not be measured, the process that loaded it ended badly: {reason}.")
    return int(json.loads(done.stdout)["bytes"])


def _spans(count: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(size, count - start)) for start in range(0, count, size)]


def _rows(outputs: Mapping[str, object], name: str, batch: int) -> Array:
    value = outputs[name]
    if not isinstance(value, np.ndarray) or value.ndim < 1 or len(value) != batch or value.dtype.kind not in "fiu":
        shape = list(value.shape) if isinstance(value, np.ndarray) else type(value).__name__
        raise UsageError(
            f"The accuracy gate compares the first output, and {name!r} ({shape}) is no row of numbers a sample: "
            "choose another first output with --output (in a manifest: spec.model.outputs)."
        )
    return value.reshape(batch, -1)
