"""Choosing how to run one schedule: every candidate is checked, the right ones are timed, the fastest wins.

Two rounds, so that many candidates of a large model need not be in memory at once: each alone for the check and a
rough time, then the best few side by side. The untouched model's best is always among those, so the choice is never
slower than ONNX Runtime with its best settings.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from enginewright_builder.emit import Blobs
from enginewright_builder.tactics.table import Candidate
from enginewright_builder.tactics.variant import Variant
from enginewright_builder.tuning import bounds, timer, trial
from enginewright_builder.tuning.allowance import NO_TIME, Deadline
from enginewright_builder.tuning.bounds import Arithmetic
from enginewright_builder.tuning.choose import choose
from enginewright_builder.tuning.inputs import Proof
from enginewright_builder.tuning.timer import Budget
from enginewright_runtime.engine.executor import ExecutionError
from enginewright_runtime.engine.values import Value
from enginewright_runtime.errors import InputError, PlanError
from enginewright_runtime.plan.manifest import Binding, Segment
from enginewright_runtime.plan.recipe import Effort

FINALISTS = 6
UNDECIDED = "not tried: rounding decides what the model says of the inputs"
_ROUGH = Budget(seconds=0.03, least=3, most=50, turn=3, pause=0, patience=1)  # of the first round
_ENDLESS = Deadline()
_FIRST = 0.6  # of a deadline: what is after it is for the finalists
_TURNS = 4  # runs of a finalist at least: its first of a turn is thrown away, and loading it costs some
BUDGETS: Mapping[Effort, Budget] = {
    Effort.FAST: Budget(seconds=1.2, least=8, patience=10),
    Effort.BALANCED: Budget(seconds=3.0, patience=30),
    Effort.THOROUGH: Budget(seconds=12.0, least=10, patience=120),
}
UNCHECKED = {"graph_optimization": "all", "bound": True}  # the library's defaults, where nothing could be checked
REFERENCE = {"graph_optimization": "disabled"}  # what every candidate is checked against


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of a candidate. `error` is relative to each output's largest value, times are in milliseconds."""

    name: str
    reason: str
    error: float = 0.0
    rough_ms: float = 0.0
    median_ms: float = 0.0
    p99_ms: float = 0.0
    samples: int = 0
    dropped: str = ""
    chosen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """The chosen segment, why, and every candidate's trial."""

    segment: Segment
    variant: Variant
    tactic: str
    why: str
    trials: tuple[Trial, ...]

    @property
    def none_right(self) -> bool:
        """Whether candidates were tried and all dropped."""
        return bool(self.trials) and all(each.dropped for each in self.trials)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One schedule to tune: its bindings, the segment of each variant, and what to check against.

    `reference` is the segment that the proof's results are from, its shapes as free as they were imported.
    """

    inputs: Sequence[Binding]
    outputs: Sequence[Binding]
    segments: Mapping[Variant, Segment]
    reference: Segment
    proof: Proof
    arithmetic: Arithmetic
    blobs: Blobs


def tune(
    task: Task,
    candidates: Sequence[Candidate],
    budget: Budget,
    step: Callable[[str], None],
    deadline: Deadline = _ENDLESS,
    undecided: Callable[[], bool] = lambda: False,
) -> Tuned:
    """Choose among `candidates`, which are in the table's order. `step` hears the name of each before its trial.

    Where every variant was wrong, `undecided` is asked whether that says anything; the others are not tried if not.
    When the deadline's first part is over and something is right, the others are not tried; the rest of it is for the
    finalists, of whom as many are measured as fit.
    """
    if task.proof.reason:
        return _unchecked(task, task.proof.reason)
    trials: dict[str, Trial] = {}
    first, asked, pointless = deadline.share(_FIRST), False, False
    for candidate in candidates:
        if not asked and _every_variant_wrong(candidates, trials):
            asked, pointless = True, undecided()
        if pointless:
            trials[candidate.name] = Trial(name=candidate.name, reason=candidate.tactic.reason, dropped=UNDECIDED)
            continue
        if not first.left and any(not each.dropped for each in trials.values()):
            trials[candidate.name] = Trial(name=candidate.name, reason=candidate.tactic.reason, dropped=NO_TIME)
            continue
        step(candidate.name)
        trials[candidate.name] = _qualify(task, candidate)
    right = [candidate for candidate in candidates if not trials[candidate.name].dropped]
    if not right:
        return _reference(task, tuple(trials.values()))
    finalists = _finalists(right, trials)
    if deadline.unless_over_in(_race_seconds(finalists, trials, budget)).is_set:
        finalists = _affordable(finalists, trials, deadline.left)
        if len(finalists) < 2:
            return _by_rough_time(task, finalists[0], trials)
        budget = replace(budget, seconds=min(budget.seconds, deadline.left), least=1, turn=1)
    step("the best side by side")
    samples = _race(task, finalists, budget)
    choice = choose(samples)
    for name, taken in samples.items():
        trials[name] = replace(
            trials[name],
            median_ms=statistics.median(taken) * 1000,
            p99_ms=timer.percentile(taken, 0.99) * 1000,
            samples=len(taken),
            chosen=name == choice.name,
        )
    winner = next(candidate for candidate in finalists if candidate.name == choice.name)
    return Tuned(
        segment=_segment(task, winner),
        variant=winner.variant,
        tactic=winner.tactic.name,
        why=choice.reason,
        trials=tuple(trials.values()),
    )


def _qualify(task: Task, candidate: Candidate) -> Trial:
    result = Trial(name=candidate.name, reason=candidate.tactic.reason)
    try:
        with trial.loaded(_segment(task, candidate), task.inputs, task.outputs, task.blobs) as run:
            got, wrong = _answers(task, run)
            rough = 0.0 if wrong else _rough(lambda: run(task.proof.feeds[0]))
    except (PlanError, ExecutionError, InputError) as error:
        return replace(result, dropped=f"fails: {error.message}")
    error_size = bounds.worst(got, task.proof.expected[: len(got)])
    if wrong:
        return replace(result, error=error_size, dropped=f"wrong: {wrong}")
    return replace(result, error=error_size, rough_ms=rough * 1000)


def _answers(task: Task, run: trial.Run) -> tuple[list[dict[str, Value]], str]:
    """What it gives for the proof's inputs, up to the first that is wrong, and why that is; empty where none is."""
    got: list[dict[str, Value]] = []
    for feed, wanted in zip(task.proof.feeds, task.proof.expected, strict=True):
        got.append(run(feed))
        if wrong := bounds.disagreement(got[-1], wanted, task.arithmetic):
            return got, wrong
    return got, ""


def _every_variant_wrong(candidates: Sequence[Candidate], trials: Mapping[str, Trial]) -> bool:
    tried = {each.variant for each in candidates if each.name in trials}
    return all(each.dropped for each in trials.values()) and tried == {each.variant for each in candidates}


def _rough(run: timer.Run) -> float:
    return statistics.median(timer.measure({"": run}, _ROUGH)[""])


def _finalists(right: Sequence[Candidate], trials: Mapping[str, Trial]) -> list[Candidate]:
    """The best few by rough time, each variant's best among them, in the table's order."""
    ranked = sorted(right, key=lambda candidate: trials[candidate.name].rough_ms)
    best = {candidate.variant: candidate for candidate in reversed(ranked)}
    names = {candidate.name for candidate in (*ranked[:FINALISTS], *best.values())}
    return [candidate for candidate in right if candidate.name in names]


def _race_seconds(finalists: Sequence[Candidate], trials: Mapping[str, Trial], budget: Budget) -> float:
    """More than the last round takes where nobody hurries it."""
    once = sum(trials[each.name].rough_ms for each in finalists) / 1000
    return 2 * max(budget.seconds, once * (budget.least + 2 * budget.turn))


def _affordable(finalists: Sequence[Candidate], trials: Mapping[str, Trial], seconds: float) -> list[Candidate]:
    """The fastest, and of the others as many as can take two turns in so many seconds."""
    ranked = sorted(finalists, key=lambda candidate: trials[candidate.name].rough_ms)
    kept = [ranked[0]]
    needed = _TURNS * trials[ranked[0].name].rough_ms / 1000
    for candidate in ranked[1:]:
        needed += _TURNS * trials[candidate.name].rough_ms / 1000
        if needed <= seconds:
            kept.append(candidate)
    return [candidate for candidate in finalists if candidate in kept]


def _by_rough_time(task: Task, winner: Candidate, trials: Mapping[str, Trial]) -> Tuned:
    known = {**trials, winner.name: replace(trials[winner.name], chosen=True)}
    return Tuned(
        segment=_segment(task, winner),
        variant=winner.variant,
        tactic=winner.tactic.name,
        why="the fastest that is right among those that the time budget allowed to try, by a rough measure",
        trials=tuple(known.values()),
    )


def _race(task: Task, finalists: Sequence[Candidate], budget: Budget) -> dict[str, list[float]]:
    feed = task.proof.feeds[0]
    with ExitStack() as stack:
        runs: dict[str, timer.Run] = {}
        for candidate in finalists:
            run = stack.enter_context(trial.loaded(_segment(task, candidate), task.inputs, task.outputs, task.blobs))
            runs[candidate.name] = lambda run=run: run(feed)  # type: ignore[misc]  # bound now, not at the call
        return timer.measure(runs, budget)


def _segment(task: Task, candidate: Candidate) -> Segment:
    return trial.with_options(task.segments[candidate.variant], candidate.options)


def _unchecked(task: Task, reason: str) -> Tuned:
    return Tuned(
        segment=trial.with_options(task.segments[Variant.UNTOUCHED], UNCHECKED),
        variant=Variant.UNTOUCHED,
        tactic="the library's defaults",
        why=f"nothing could be checked, so the model stays untouched: {reason}",
        trials=(),
    )


def _reference(task: Task, trials: tuple[Trial, ...]) -> Tuned:
    return Tuned(
        segment=trial.with_options(task.reference, REFERENCE),
        variant=Variant.UNTOUCHED,
        tactic="no optimization",
        why="every candidate was wrong or failed, so the model runs as it is checked: untouched and unoptimized",
        trials=trials,
    )
