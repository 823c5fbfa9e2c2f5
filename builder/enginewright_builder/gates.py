"""Gates: what a plan must pass before it serves. Pure: what was measured and a limit give a verdict with a sentence."""

from collections.abc import Sequence

from enginewright_runtime.errors import GateError
from enginewright_runtime.plan.recipe import AccuracyGate, LatencyGate
from enginewright_runtime.plan.request import BuildResult, Verdict


class GatesFailedError(GateError):
    """At least one gate did not let the plan pass; `result` holds every verdict and what was measured."""

    def __init__(self, result: BuildResult) -> None:
        super().__init__(result.message)
        self.result = result


def accuracy(gate: AccuracyGate, *, model: float, plan: float, samples: int, cause: str = "") -> Verdict:
    """`model` and `plan` are the metric's values on the gate's data, of `samples` samples; `cause` is what lost it."""
    drop = model - plan
    passed = drop <= gate.max_drop
    metric = str(gate.metric)
    moved = "fell" if drop >= 0 else "rose"
    advice = cause or "allow more with maxDrop, keep layers in a finer precision, or give more calibration samples"
    ending = "" if passed else f"; {advice}"
    return Verdict(
        gate="accuracy",
        passed=passed,
        measured=drop,
        limit=gate.max_drop,
        unit=f"drop of {metric}",
        message=f"accuracy gate: {metric} {moved} by {abs(drop):.4g} ({model:.4g} -> {plan:.4g}) on {samples} samples, "
        f"the limit is {gate.max_drop:g}{ending}",
    )


def latency(gate: LatencyGate, *, p99_ms: float, samples: int, cause: str = "") -> Verdict:
    """`p99_ms` is the 99th percentile of `samples` inferences at the gate's batch; `cause` is what takes the time."""
    passed = p99_ms <= gate.p99_ms
    ending = (
        ""
        if passed
        else f"{_because(cause)}; try effort thorough, a lower precision, a faster GPU class, or a wider limit"
    )
    return Verdict(
        gate="latency",
        passed=passed,
        measured=p99_ms,
        limit=gate.p99_ms,
        unit="ms",
        message=f"latency gate: p99 at batch {gate.batch} is {p99_ms:.3g} ms over {samples} inferences, "
        f"the limit is {gate.p99_ms:g} ms{ending}",
    )


def memory(limit: int, *, resident: int, cause: str = "") -> Verdict:
    """`resident` is the bytes that loading the engine and running each golden adds to a process; `cause` is what of."""
    passed = resident <= limit
    ending = "" if passed else f"{_because(cause)}; build fewer shapes or smaller batches, or widen the limit"
    return Verdict(
        gate="memory",
        passed=passed,
        measured=float(resident),
        limit=float(limit),
        unit="bytes",
        message=f"memory gate: the loaded engine adds {resident / (1 << 20):.1f} MiB to its process, "
        f"the limit is {limit / (1 << 20):.1f} MiB{ending}",
    )


def failure(verdicts: Sequence[Verdict]) -> str:
    """One sentence with all that failed; empty if every gate let the plan pass."""
    failed = [verdict.message for verdict in verdicts if not verdict.passed]
    return f"The plan is right but did not pass: {'; '.join(failed)}." if failed else ""


def _because(cause: str) -> str:
    return f": {cause}" if cause else ""
