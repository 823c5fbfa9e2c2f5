"""Choosing a tactic for every layer of a network on a GPU.

Equal layers are one problem, tuned once. Each problem's candidates are checked against the reference and then timed in
chains of themselves (contest.py), with weights that come from memory each time if those of the network do not stay in
the L2 cache (device/cold.py); what is wrong or fails is dropped and named. The first heats of all problems come
before the second heat of any, and those in the order of what there is to gain, so that where time runs out it is the
later guesses of cheap layers that were not tried. Chains of one layer mislead where layers overlap (programmatic
dependent launch) or share a cache, so the fastest few of each problem are tried inside the whole network (race.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from enginewright_builder.device import cold
from enginewright_builder.device.couples import Couple
from enginewright_builder.device.implementation import Candidate, Device
from enginewright_builder.device.layout import Place
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.trial import Bench, Rehearsing
from enginewright_builder.device.whole import Line, Whole
from enginewright_builder.tuning import heats, timings
from enginewright_builder.tuning.ahead import Ahead
from enginewright_builder.tuning.allowance import NO_TIME, Deadline
from enginewright_builder.tuning.contest import Chains, Contest, Jury
from enginewright_builder.tuning.lineup import APART, Lineup
from enginewright_builder.tuning.problems import Chosen, Problem
from enginewright_builder.tuning.race import FINALISTS, Race
from enginewright_builder.tuning.timings import Entry, Timed, Timings
from enginewright_runtime.errors import UnsupportedError
from enginewright_runtime.plan.recipe import Effort

Offer = Callable[[DeviceLayer, str], Sequence[Candidate]]  # of one tactic by its name, or of all ("")

SECONDS: Mapping[Effort, float] = {Effort.FAST: 10.0, Effort.BALANCED: 46.0, Effort.THOROUGH: 900.0}
_INSIDE = 0.26  # of the time, for trying the fastest inside the network, where there is more than one finalist
_AT_ONCE = 0.6  # of that time, for changing many choices at once
_AHEAD = 1.3  # times its even share that a problem may take: most take less, and the last must not be starved
_NOTHING = 1e-9  # microseconds


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
        self, layers: Sequence[DeviceLayer], places: Mapping[str, Place], whole: Whole, couples: Sequence[Couple] = ()
    ) -> tuple[Line, tuple[Chosen, ...]]:
        """The layers as they run, some as couples if they are the faster for it, and what was chosen. Raises
        UnsupportedError naming every layer that no tactic runs right."""
        clock = self.deadline.clock
        until = self.deadline.at if self.deadline.is_set else clock() + SECONDS[self.effort]
        least = 0.0 if self.deadline.is_set else 0.2
        couples = couples if FINALISTS[self.effort] > 1 else ()  # only the race lets one stand
        chains = Chains(places=places, leaves=self.device.l2_bytes if cold.leaves(layers, self.device.l2_bytes) else 0)
        layers = [*layers, *(couple.layer for couple in couples)]
        problems = self._problems(layers, chains.leaves)
        lineup = Lineup(layers=layers, couples=couples, problems=problems)
        if self._settled(lineup):
            return lineup.line(), lineup.chosen()
        with Ahead() as ahead:
            jury = self._jury(chains, ahead)
            inside = _INSIDE if FINALISTS[self.effort] > 1 else 0.0
            measured = clock() + (until - clock()) * (1 - inside)
            self._measure(problems, layers, jury, measured, least)
        self._require_all(lineup)
        lineup.add_apart()
        name = self._refine(lineup, whole, until)
        if all([self._proven(problem, layers, chains, until) for problem in problems]):
            self.timings.prove(name)
        else:
            self.timings.forget(name)
            self._require_all(lineup)
            lineup.add_apart()
        keep = not any(self._cut(problem.timed) for problem in problems) and self.deadline.left > 0
        self.timings.put(name, Entry(timed=tuple(problem.right[problem.choice] for problem in problems)), keep=keep)
        return lineup.line(), lineup.chosen()

    def _cut(self, timed: Sequence[Timed]) -> bool:
        """Whether a budget that somebody set left candidates untried: nothing to be kept for builds with more time."""
        return self.deadline.is_set and any(each.dropped == NO_TIME for each in timed)

    def _problems(self, layers: Sequence[DeviceLayer], leaves: int) -> list[Problem]:
        found: dict[str, Problem] = {}
        everywhere = (self.device, self.builder, self.effort, self.workspace, leaves)
        for number, layer in enumerate(layers):
            name = timings.key(layer.problem, sorted(layer.constants), *everywhere)
            found.setdefault(name, Problem(layers=[], key=name)).layers.append(number)
        return list(found.values())

    def _settled(self, lineup: Lineup) -> bool:
        """Whether all was decided before, here: then only the chosen tactics are asked for their candidates, which
        takes the vendors' libraries a while."""
        problems = lineup.problems
        name = self._name(problems)
        decided = self.timings.get(name)
        entries = [self.timings.get(problem.key) for problem in problems]
        if decided is None or any(self.timings.unproven(each) for each in (name, *(p.key for p in problems))):
            return False
        for problem, entry in zip(problems, entries, strict=True):
            problem.timed = entry.timed if entry is not None else ()
        if all(problem.right for problem in lineup.alone):
            lineup.add_apart()
        settled = self._recall(problems, decided) and all(
            self._has(problem, lineup.layers) for problem in problems if lineup.matters(problem)
        )
        if not settled:
            for problem in problems:
                problem.timed, problem.offered, problem.choice = (), {}, 0
        return settled

    def _has(self, problem: Problem, layers: Sequence[DeviceLayer]) -> bool:
        """Whether the chosen tactic still offers the choice."""
        if problem.chosen == APART:
            return True
        tactic, _ = problem.chosen
        problem.offered = {(each.tactic, each.name): each for each in self.offer(layers[problem.layers[0]], tactic)}
        return problem.chosen in problem.offered

    def _name(self, problems: Sequence[Problem]) -> str:
        """The key of what was decided inside the network."""
        return timings.key([each.key for each in problems], [each.layers for each in problems], FINALISTS[self.effort])

    def _jury(self, chains: Chains, ahead: Ahead) -> Jury:
        return Jury(
            bench=self.bench,
            chains=chains,
            timings=self.timings,
            effort=self.effort,
            workspace=self.workspace,
            clock=self.deadline.clock,
            rehearsals=self.rehearsals,
            ahead=ahead,
        )

    def _measure(
        self, problems: Sequence[Problem], layers: Sequence[DeviceLayer], jury: Jury, until: float, least: float
    ) -> None:
        """Both heats of what is not known yet. `least` seconds are everybody's, whatever the time. What others left of
        their shares goes to those that were cut short, the heaviest first."""
        unknown = {problem.key: problem for problem in problems if not self._known(problem, layers)}
        contests = [self._contest(problem, layers) for problem in unknown.values()]
        for contest in contests:
            jury.ahead.begin(heats.first(contest.candidates, self.effort))
        waiting: list[Contest] = []
        for number, contest in enumerate(contests):
            self.step(contest.layer.name)
            jury.prepare(contest)
            share = max(least, (until - jury.clock()) / (len(contests) - number) * _AHEAD)
            jury.first(contest, min(jury.clock() + share, until + least))
            others = jury.others(contest)
            jury.ahead.begin(others)
            if others:
                jury.rest(contest)
                waiting.append(contest)
            else:
                self._decide(unknown[contest.problem], contest, jury, until)
        left = {each.problem: each.best * len(unknown[each.problem].layers) for each in waiting}
        heaviest = sorted(waiting, key=lambda each: -left[each.problem])
        for contest in heaviest:
            jury.prepare(contest)
            share = (until - jury.clock()) * left[contest.problem] / max(sum(left.values()), _NOTHING) * _AHEAD
            jury.second(contest, jury.clock() + share)
            del left[contest.problem]
            if contest.cut:
                jury.rest(contest)
            else:
                self._decide(unknown[contest.problem], contest, jury, until)
        for contest in (each for each in heaviest if not unknown[each.problem].timed):
            if jury.clock() < until:
                jury.second(contest, until)
            self._decide(unknown[contest.problem], contest, jury, until)

    def _decide(self, problem: Problem, contest: Contest, jury: Jury, until: float) -> None:
        """The end of its heats, and what is known from now on."""
        found = jury.ended(contest, until)
        problem.timed = _offered(problem, self.timings.put(problem.key, found, keep=not self._cut(found.timed)))

    def _known(self, problem: Problem, layers: Sequence[DeviceLayer]) -> bool:
        """Whether the cache says how a problem's candidates did; they are asked for in any case."""
        problem.offered = {(each.tactic, each.name): each for each in self.offer(layers[problem.layers[0]], "")}
        known = self.timings.get(problem.key)
        problem.timed = _offered(problem, known) if known is not None else ()
        if known is not None and not problem.right and self.timings.unproven(problem.key):
            self.timings.forget(problem.key)  # nothing is right, says somebody else: we look for ourselves
            known = None
        return known is not None

    def _contest(self, problem: Problem, layers: Sequence[DeviceLayer]) -> Contest:
        return Contest(problem=problem.key, layer=layers[problem.layers[0]], candidates=list(problem.offered.values()))

    def _proven(self, problem: Problem, layers: Sequence[DeviceLayer], chains: Chains, until: float) -> bool:
        """Check a choice that rests on another builder's entry. False where it was wrong: then it is measured here."""
        if not self.timings.unproven(problem.key) or problem.chosen == APART:
            return True
        layer = layers[problem.layers[0]]
        with Ahead() as ahead:
            jury = self._jury(chains, ahead)
            wrong = jury.check(problem.key, layer, problem.offered[problem.chosen])
            if not wrong:
                self.timings.prove(problem.key)
                return True
            self.step(f"{layer.name}: what the timing cache says is wrong here ({wrong})")
            self.timings.forget(problem.key)
            problem.choice = 0
            self._measure([problem], layers, jury, until, 0.0)
        return False

    def _require_all(self, lineup: Lineup) -> None:
        lost = [problem for problem in lineup.alone if not problem.right]
        if lost:
            names = {each.key: lineup.layers[each.layers[0]].name for each in lost}
            reasons = "; ".join(
                f"{names[each.key]!r} ({each.timed[0].dropped if each.timed else 'no tactic takes it'})"
                for each in lost
            )
            raise UnsupportedError(
                f"No tactic of this GPU runs these layers right: {reasons}. Build with --allow-host to run them on the "
                "CPU, or with --precision fp32."
            )

    def _refine(self, lineup: Lineup, whole: Whole, until: float) -> str:
        """Decide inside the network, or as it was decided before; the key of that decision."""
        problems = lineup.problems
        name = self._name(problems)
        known = self.timings.get(name)
        if known is not None and self._recall(problems, known):
            return name
        self.timings.forget(name)
        if FINALISTS[self.effort] > 1:
            self.step("the best inside the network")
            clock = self.deadline.clock
            soon = clock() + (until - clock()) * _AT_ONCE
            Race(
                problems=problems,
                finalists=FINALISTS[self.effort],
                whole=lambda: whole(lineup.line()),
                over=lambda: clock() > until,
                soon=lambda: clock() > soon,
                matters=lineup.matters,
                free=lineup.free,
            ).run()
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


def _offered(problem: Problem, entry: Entry) -> tuple[Timed, ...]:
    return tuple(each for each in entry.timed if (each.tactic, each.name) in problem.offered)
