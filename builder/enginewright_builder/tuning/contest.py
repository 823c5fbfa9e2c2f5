"""Trying one problem's candidates in heats (tuning/heats.py): each is checked against the reference, then timed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from enginewright_builder.device import checking, trial
from enginewright_builder.device.checking import UncheckableError
from enginewright_builder.device.implementation import Candidate
from enginewright_builder.device.layout import Place
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.trial import Bench, Rehearsing
from enginewright_builder.rehearsal import probe
from enginewright_builder.tuning import heats, suspects
from enginewright_builder.tuning.ahead import Ahead
from enginewright_builder.tuning.allowance import NO_TIME
from enginewright_builder.tuning.timings import Entry, Timed, Timings
from enginewright_runtime.errors import EnginewrightError
from enginewright_runtime.plan.recipe import Effort

_SECOND = 2  # times that others are asked for: first guesses that come late may bring their tactic's others
_HELD = 2 << 30  # bytes of inputs and references that are kept from one round to the next; more is computed again


@dataclass(slots=True, kw_only=True)
class Contest:
    """A problem between its heats: its key, its candidates, what became of them, and what they are checked with."""

    problem: str
    layer: DeviceLayer
    candidates: Sequence[Candidate]
    results: list[Timed] = field(default_factory=list)
    subject: trial.Subject | None = None
    kept: int = 0  # bytes of the subject that are counted as kept between the heats
    unchecked: str = ""  # why nothing can be checked

    @property
    def cut(self) -> bool:
        """Whether no time was left for some of its candidates."""
        return any(each.dropped == NO_TIME for each in self.results)

    @property
    def best(self) -> float:
        """Microseconds of the fastest that is right; 0 where nothing is yet."""
        return min((each.microseconds for each in self.results if not each.dropped), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chains:
    """What chains of a network's layers are like: where operands lie, and the size in bytes of an L2 cache that its
    weights leave from one inference to the next (device/cold.py); 0 where they do not."""

    places: Mapping[str, Place]
    leaves: int


@dataclass(slots=True, kw_only=True)
class Jury:
    """Who runs contests: the bench, what a candidate may take, and whom to rehearse."""

    bench: Bench
    chains: Chains
    timings: Timings
    effort: Effort
    workspace: int
    clock: Callable[[], float]
    rehearsals: Rehearsing | None
    ahead: Ahead
    held: int = 0  # bytes

    def prepare(self, contest: Contest) -> None:
        """Make what candidates are checked with, which is nobody's share of the time: some references take seconds."""
        self._subject(contest)

    def first(self, contest: Contest, until: float) -> None:
        """The first heat."""
        self._run(contest, heats.first(contest.candidates, self.effort), until)

    def rest(self, contest: Contest) -> None:
        """Between its heats a contest keeps what it is checked with, if there is room."""
        self._forget(contest)
        size = contest.subject.bytes if contest.subject is not None else 0
        if self.held + size > _HELD:
            contest.subject = None
        else:
            contest.kept = size
            self.held += size

    def others(self, contest: Contest) -> list[Candidate]:
        """Who runs in the second heat."""
        return heats.second(contest.candidates, self.effort, contest.results)

    def second(self, contest: Contest, until: float) -> None:
        """The second heat; where time runs out another one may go on with what was not tried."""
        for _ in range(_SECOND):
            heat = self.others(contest)
            contest.results = [each for each in contest.results if each.dropped != NO_TIME]
            self._run(contest, heat, until)

    def ended(self, contest: Contest, until: float) -> Entry:
        """After its heats: the last resorts, where nothing is right. Everything is named in the entry."""
        self._run(contest, heats.last(contest.candidates, contest.results), until)
        contest.results += heats.spared(contest.candidates, contest.results)
        self._forget(contest)
        contest.subject = None
        return Entry(timed=tuple(sorted(contest.results, key=lambda each: (bool(each.dropped), each.microseconds))))

    def check(self, problem: str, layer: DeviceLayer, candidate: Candidate) -> str:
        """Why one candidate is wrong; "" where it is right."""
        try:
            tried = trial.subject(layer, self.chains.places, checking.check(layer))
            made = self.ahead.built(candidate)
            return trial.check(tried, made, self.bench, self._rehearsals(problem, candidate))[0]
        except EnginewrightError as failure:
            return failure.message

    def _forget(self, contest: Contest) -> None:
        self.held -= contest.kept
        contest.kept = 0

    def _run(self, contest: Contest, heat: Sequence[Candidate], until: float) -> None:
        """When the time is over, candidates are tried until one is right."""
        for candidate in heat:
            if self.clock() > until and any(not each.dropped for each in contest.results):
                contest.results.append(Timed(tactic=candidate.tactic, name=candidate.name, dropped=NO_TIME))
            else:
                contest.results.append(self._try(contest, candidate))

    def _try(self, contest: Contest, candidate: Candidate) -> Timed:
        named = Timed(tactic=candidate.tactic, name=candidate.name)
        tried = self._subject(contest)
        if tried is None:
            return replace(named, dropped=contest.unchecked)
        try:
            made = self.ahead.built(candidate)
            if made.workspace_bytes > self.workspace and not candidate.last_resort:
                greedy = f"takes {made.workspace_bytes} bytes of workspace, and {self.workspace} are allowed"
                return replace(named, dropped=greedy)
            rehearsals = self._rehearsals(contest.problem, candidate)
            judged = trial.judge(tried, made, self.bench, rehearsals, leaves=self.chains.leaves)
        except EnginewrightError as failure:
            if probe.stuck(self.bench, failure):
                raise suspects.accuse(
                    self.timings, contest.problem, candidate, contest.layer.name, failure
                ) from failure
            return replace(named, dropped=f"fails: {failure.message}")
        return replace(
            named,
            error=_finite(judged.error),
            microseconds=round(judged.microseconds, 3),
            dropped=f"wrong: {judged.wrong}" if judged.wrong else "",
        )

    def _subject(self, contest: Contest) -> trial.Subject | None:
        """What candidates are checked with; None where there is no reference."""
        if contest.subject is None and not contest.unchecked:
            try:
                contest.subject = trial.subject(contest.layer, self.chains.places, checking.check(contest.layer))
            except UncheckableError as error:
                contest.unchecked = error.message
        return contest.subject

    def _rehearsals(self, problem: str, candidate: Candidate) -> Rehearsing | None:
        """Where a candidate is run first; None where here is good enough."""
        if self.rehearsals is None:
            return None
        bad = candidate.risky or self.rehearsals.wary or suspects.suspected(self.timings, problem, candidate)
        return self.rehearsals if bad else None


def _finite(error: float) -> float:
    return float(f"{min(error, 1e30):.3g}")
