"""Which layers run, and how, as the choices of all problems stand: alone, or two or three in one launch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from enginewright_builder.device.couples import Couple
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.whole import Line
from enginewright_builder.tuning.problems import Chosen, Problem, chosen
from enginewright_builder.tuning.timings import Timed

APART = ("apart", "its layers in launches of their own")  # a couple's tactic and name where it does not run


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineup:
    """`layers` are the network's, then the couples' own; `problems` number them so. Of couples that share layers the
    last that is chosen runs: triples stand behind."""

    layers: Sequence[DeviceLayer]
    couples: Sequence[Couple]
    problems: Sequence[Problem]

    @property
    def alone(self) -> list[Problem]:
        """The problems of the network's own layers, which must all be solved."""
        return [each for each in self.problems if each.layers[0] < self._own]

    @property
    def free(self) -> list[Problem]:
        """The problems all of whose layers run by themselves, as the couples' choices stand."""
        running = set(self._running())
        return [each for each in self.alone if running.issuperset(each.layers)]

    def add_apart(self) -> None:
        """Let every couple's problem have its layers run without it, which takes what their best take."""
        of = self._problem_of()
        for number, couple in enumerate(self.couples, self._own):
            problem = of[number]
            if all((each.tactic, each.name) != APART for each in problem.timed):
                inside = [n for n, other in enumerate(self.couples, self._own) if set(other.parts) < set(couple.parts)]
                left = set(couple.parts).difference(*(self.couples[n - self._own].parts for n in inside))
                taken = sum(of[part].right[0].microseconds for part in (*inside, *left))
                apart = Timed(tactic=APART[0], name=APART[1], microseconds=round(taken, 3))
                problem.timed = tuple(sorted((apart, *problem.timed), key=_fastest_first))

    def line(self) -> Line:
        """What runs, in order."""
        of = self._problem_of()
        return [(self.layers[number], of[number].implementation()) for number in self._running()]

    def matters(self, problem: Problem) -> bool:
        """Whether another choice of a problem changes what runs: not where all its layers run as parts of couples."""
        running = set(self._running())
        return any(n in running if n < self._own else not self._hidden(n, running) for n in problem.layers)

    def chosen(self) -> tuple[Chosen, ...]:
        """What the report says of every problem of which something runs."""
        running = set(self._running())
        standing = [(problem, [n for n in problem.layers if n in running]) for problem in self.problems]
        return tuple(
            chosen(problem, [self.layers[n].name for n in numbers]) for problem, numbers in standing if numbers
        )

    @property
    def _own(self) -> int:
        return len(self.layers) - len(self.couples)

    def _problem_of(self) -> dict[int, Problem]:
        return {number: problem for problem in self.problems for number in problem.layers}

    def _hidden(self, number: int, running: set[int]) -> bool:
        """Whether a couple behind this one has some of its layers."""
        parts = set(self.couples[number - self._own].parts)
        return any(n > number and not parts.isdisjoint(self.couples[n - self._own].parts) for n in running)

    def _running(self) -> Iterator[int]:
        """The numbers of the layers that run."""
        of = self._problem_of()
        together: dict[int, int] = {}
        gone: set[int] = set()
        for number, couple in reversed(list(enumerate(self.couples, self._own))):
            if of[number].chosen != APART and gone.isdisjoint(couple.parts):
                together[couple.place] = number
                gone.update(couple.parts)
        for number in range(self._own):
            if number in together:
                yield together[number]
            elif number not in gone:
                yield number


def _fastest_first(timed: Timed) -> tuple[bool, float]:
    return bool(timed.dropped), timed.microseconds
