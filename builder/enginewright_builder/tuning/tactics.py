"""Choosing a tactic for every layer of a network on a GPU.

Equal layers are one problem, tuned once. Each problem's candidates are checked against the reference and then timed in
chains of themselves; what is wrong or fails is dropped and named. Chains of one layer mislead where layers overlap
(programmatic dependent launch) or share a cache, so the fastest few of each problem are then tried inside the whole
network, one problem at a time, the most expensive first, and what makes the network faster stays.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from enginewright_builder.device import checking, trial
from enginewright_builder.device.checking import UncheckableError
from enginewright_builder.device.implementation import Candidate, Device, Implementation
from enginewright_builder.device.layout import Place
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.trial import Bench, Rehearsing
from enginewright_builder.rehearsal import probe
from enginewright_builder.tuning import heats, suspects, timings
from enginewright_builder.tuning.allowance import NO_TIME, Deadline
from enginewright_builder.tuning.problems import Chosen, Problem, chosen
from enginewright_builder.tuning.timings import Entry, Timed, Timings
from enginewright_runtime.engine import available
from enginewright_runtime.errors import EnginewrightError, UnsupportedError
from enginewright_runtime.plan.recipe import Effort

Offer = Callable[[DeviceLayer, str], Sequence[Candidate]]  # of one tactic by its name, or of all ("")
Whole = Callable[[Sequence[Implementation]], float]  # microseconds of the whole network, so implemented

FINALISTS: Mapping[Effort, int] = {Effort.FAST: 1, Effort.BALANCED: 4, Effort.THOROUGH: 8}
SECONDS: Mapping[Effort, float] = {Effort.FAST: 10.0, Effort.BALANCED: 40.0, Effort.THOROUGH: 900.0}
_INSIDE = 0.15  # of the time, for trying the fastest inside the network
_AHEAD = 1.3  # times its even share that a problem may take: most take less, and the last must not be starved
_GAIN = 0.003  # of the network's time: less is noise
_NEAR = 1.6  # times the fastest: what is slower by itself is not tried in the network


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuner:
    """What tuning needs besides the layers: who offers candidates, who runs them, what is known, how long to look."""

    offer: Offer
    bench: Bench
    device: Device
    timings: Timings
    effort: Effort
    workspace: int  # bytes that one tactic may use; a last resort takes what it needs
    builder: str
    step: Callable[[str], None]
    deadline: Deadline = field(default_factory=Deadline)
    rehearsals: Rehearsing | None = None

    def tune(
        self, layers: Sequence[DeviceLayer], places: Mapping[str, Place], whole: Whole
    ) -> tuple[list[Implementation], tuple[Chosen, ...]]:
        """An implementation for each layer, and what was chosen. Raises UnsupportedError naming every layer that no
        tactic runs right."""
        clock = self.deadline.clock
        until = self.deadline.at if self.deadline.is_set else clock() + SECONDS[self.effort]
        least = 0.0 if self.deadline.is_set else 0.2
        problems = self._problems(layers)
        if self._settled(problems, layers):
            return self._implementations(problems, layers), tuple(chosen(problem, layers) for problem in problems)
        left = len(problems)
        measured = clock() + (until - clock()) * (1 - _INSIDE)
        for problem in problems:
            share = max(least, (measured - clock()) / left * _AHEAD)
            self._measure(problem, layers[problem.layers[0]], places, min(clock() + share, measured + least))
            left -= 1
        self._require_all(problems, layers)
        name = self._refine(problems, layers, whole, until)
        if all([self._proven(problem, layers[problem.layers[0]], places, until) for problem in problems]):
            self.timings.prove(name)
        else:
            self.timings.forget(name)
            self._require_all(problems, layers)
        keep = not any(self._cut(problem.timed) for problem in problems) and self.deadline.left > 0
        self.timings.put(name, Entry(timed=tuple(problem.right[problem.choice] for problem in problems)), keep=keep)
        made = self._implementations(problems, layers)
        return made, tuple(chosen(problem, layers) for problem in problems)

    def _cut(self, timed: Sequence[Timed]) -> bool:
        """Whether a budget that somebody set left candidates untried: nothing to be kept for builds with more time."""
        return self.deadline.is_set and any(each.dropped == NO_TIME for each in timed)

    def _problems(self, layers: Sequence[DeviceLayer]) -> list[Problem]:
        found: dict[str, Problem] = {}
        for number, layer in enumerate(layers):
            name = timings.key(
                layer.problem, sorted(layer.constants), self.device, self.builder, self.effort, self.workspace
            )
            found.setdefault(name, Problem(layers=[], key=name)).layers.append(number)
        return list(found.values())

    def _settled(self, problems: Sequence[Problem], layers: Sequence[DeviceLayer]) -> bool:
        """Whether all was decided before, here: then only the chosen tactics are asked for their candidates, which
        takes the vendors' libraries a while."""
        name = self._name(problems)
        decided = self.timings.get(name)
        entries = [self.timings.get(problem.key) for problem in problems]
        if decided is None or any(self.timings.unproven(each) for each in (name, *(p.key for p in problems))):
            return False
        for problem, entry in zip(problems, entries, strict=True):
            problem.timed = entry.timed if entry is not None else ()
        settled = self._recall(problems, decided) and all(self._has(problem, layers) for problem in problems)
        if not settled:
            for problem in problems:
                problem.timed, problem.offered, problem.choice = (), {}, 0
        return settled

    def _has(self, problem: Problem, layers: Sequence[DeviceLayer]) -> bool:
        """Whether the chosen tactic still offers the choice."""
        tactic, _ = problem.chosen
        problem.offered = {(each.tactic, each.name): each for each in self.offer(layers[problem.layers[0]], tactic)}
        return problem.chosen in problem.offered

    def _name(self, problems: Sequence[Problem]) -> str:
        """The key of what was decided inside the network."""
        return timings.key([each.key for each in problems], [each.layers for each in problems], FINALISTS[self.effort])

    def _measure(self, problem: Problem, layer: DeviceLayer, places: Mapping[str, Place], until: float) -> None:
        self.step(layer.name)
        problem.offered = {(each.tactic, each.name): each for each in self.offer(layer, "")}
        known = self.timings.get(problem.key)
        problem.timed = _offered(problem, known) if known is not None else ()
        if known is not None and not problem.right and self.timings.unproven(problem.key):
            self.timings.forget(problem.key)  # nothing is right, says somebody else: we look for ourselves
            known = None
        if known is None:
            found = self._tried(problem, layer, places, until)
            known = self.timings.put(problem.key, found, keep=not self._cut(found.timed))
            problem.timed = _offered(problem, known)

    def _tried(self, problem: Problem, layer: DeviceLayer, places: Mapping[str, Place], until: float) -> Entry:
        candidates = list(problem.offered.values())
        try:
            tried = trial.subject(layer, places, checking.check(layer))
        except UncheckableError as error:
            return Entry(timed=tuple(Timed(tactic=c.tactic, name=c.name, dropped=error.message) for c in candidates))
        results: list[Timed] = []
        self._run(problem.key, heats.first(candidates, self.effort), tried, until, results)
        self._run(problem.key, heats.second(candidates, self.effort, results), tried, until, results)
        self._run(problem.key, heats.last(candidates, results), tried, until, results)
        results += heats.outclassed(candidates, results)
        return Entry(timed=tuple(sorted(results, key=lambda each: (bool(each.dropped), each.microseconds))))

    def _run(
        self, problem: str, heat: Sequence[Candidate], tried: trial.Subject, until: float, results: list[Timed]
    ) -> None:
        """One heat. When the time is over, candidates are tried until one is right, and none is compiled ahead."""
        self._prepare(heat if self.deadline.clock() <= until else [])
        for candidate in heat:
            if self.deadline.clock() > until and any(not each.dropped for each in results):
                results.append(Timed(tactic=candidate.tactic, name=candidate.name, dropped=NO_TIME))
            else:
                results.append(self._try(problem, candidate, tried))

    def _prepare(self, candidates: Sequence[Candidate]) -> None:
        """Compile what needs compiling on all processors; what fails says so when its turn comes."""
        waiting = [each for each in candidates if not each.serial]
        if len(waiting) < 2:
            return
        with ThreadPoolExecutor(available.processors()) as pool:
            for future in [pool.submit(each.build) for each in waiting]:
                future.exception()

    def _try(self, problem: str, candidate: Candidate, tried: trial.Subject) -> Timed:
        try:
            made = candidate.build()
            if made.workspace_bytes > self.workspace and not candidate.last_resort:
                return Timed(
                    tactic=candidate.tactic,
                    name=candidate.name,
                    dropped=f"takes {made.workspace_bytes} bytes of workspace, and {self.workspace} are allowed",
                )
            judged = trial.judge(tried, made, self.bench, self._rehearsals(problem, candidate))
        except EnginewrightError as failure:
            if probe.stuck(self.bench, failure):
                raise suspects.accuse(self.timings, problem, candidate, tried.layer.name, failure) from failure
            return Timed(tactic=candidate.tactic, name=candidate.name, dropped=f"fails: {failure.message}")
        return Timed(
            tactic=candidate.tactic,
            name=candidate.name,
            error=_finite(judged.error),
            microseconds=round(judged.microseconds, 3),
            dropped=f"wrong: {judged.wrong}" if judged.wrong else "",
        )

    def _rehearsals(self, problem: str, candidate: Candidate) -> Rehearsing | None:
        """Where a candidate is run first; None where here is good enough."""
        if self.rehearsals is None:
            return None
        bad = candidate.risky or self.rehearsals.wary or suspects.suspected(self.timings, problem, candidate)
        return self.rehearsals if bad else None

    def _proven(self, problem: Problem, layer: DeviceLayer, places: Mapping[str, Place], until: float) -> bool:
        """Check a choice that rests on another builder's entry. False where it was wrong: then it is measured here."""
        if not self.timings.unproven(problem.key):
            return True
        try:
            tried = trial.subject(layer, places, checking.check(layer))
            first = self._rehearsals(problem.key, problem.offered[problem.chosen])
            wrong, _ = trial.check(tried, problem.implementation(), self.bench, first)
        except EnginewrightError as failure:
            wrong = failure.message
        if not wrong:
            self.timings.prove(problem.key)
            return True
        self.step(f"{layer.name}: what the timing cache says is wrong here ({wrong})")
        self.timings.forget(problem.key)
        problem.choice = 0
        self._measure(problem, layer, places, until)
        return False

    def _require_all(self, problems: Sequence[Problem], layers: Sequence[DeviceLayer]) -> None:
        lost = [problem for problem in problems if not problem.right]
        if lost:
            reasons = "; ".join(
                f"{layers[each.layers[0]].name!r} ({each.timed[0].dropped if each.timed else 'no tactic takes it'})"
                for each in lost
            )
            raise UnsupportedError(
                f"No tactic of this GPU runs these layers right: {reasons}. Build with --allow-host to run them on the "
                "CPU, or with --precision fp32."
            )

    def _refine(self, problems: Sequence[Problem], layers: Sequence[DeviceLayer], whole: Whole, until: float) -> str:
        """Decide inside the network, or as it was decided before; the key of that decision."""
        name = self._name(problems)
        known = self.timings.get(name)
        if known is not None and self._recall(problems, known):
            return name
        self.timings.forget(name)
        if FINALISTS[self.effort] > 1:
            self._race(problems, layers, whole, until)
        return name

    def _recall(self, problems: Sequence[Problem], known: Entry) -> bool:
        places = [
            next((i for i, each in enumerate(p.right) if (each.tactic, each.name) == (kept.tactic, kept.name)), -1)
            for p, kept in zip(problems, known.timed, strict=False)
        ]
        if len(places) != len(problems) or -1 in places:
            return False
        for problem, place in zip(problems, places, strict=True):
            problem.choice = place
        return True

    def _race(self, problems: Sequence[Problem], layers: Sequence[DeviceLayer], whole: Whole, until: float) -> None:
        self.step("the best inside the network")
        best = whole(self._implementations(problems, layers))
        heaviest = sorted(problems, key=lambda each: -each.right[0].microseconds * len(each.layers))
        for problem in heaviest:
            near = problem.right[0].microseconds * _NEAR
            for number, rival in enumerate(problem.right[: FINALISTS[self.effort]]):
                if number == problem.choice or rival.microseconds > near or self.deadline.clock() > until:
                    continue
                before, problem.choice = problem.choice, number
                taken = whole(self._implementations(problems, layers))
                if taken < best * (1 - _GAIN):
                    best = taken
                else:
                    problem.choice = before

    def _implementations(self, problems: Sequence[Problem], layers: Sequence[DeviceLayer]) -> list[Implementation]:
        made: dict[int, Implementation] = {}
        for problem in problems:
            made |= dict.fromkeys(problem.layers, problem.implementation())
        return [made[number] for number in range(len(layers))]


def _offered(problem: Problem, entry: Entry) -> tuple[Timed, ...]:
    return tuple(each for each in entry.timed if (each.tactic, each.name) in problem.offered)


def _finite(error: float) -> float:
    return float(f"{min(error, 1e30):.3g}")
