"""A problem while it is tuned: the layers that pose it, its candidates, how they did, and which one was chosen."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from enginewright_builder.device.implementation import Candidate, Implementation
from enginewright_builder.tuning.timings import Timed


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The tactic of one problem, with the layers that it runs and what its rivals did."""

    layers: tuple[str, ...]
    tactic: str
    name: str
    microseconds: float
    error: float
    rivals: tuple[Timed, ...] = ()


@dataclass(slots=True, kw_only=True)
class Problem:
    """One problem while it is tuned: the layers that pose it, its candidates by name, and how they did."""

    layers: list[int]
    key: str
    offered: dict[tuple[str, str], Candidate] = field(default_factory=dict)
    built: dict[tuple[str, str], Implementation] = field(default_factory=dict)
    timed: tuple[Timed, ...] = ()
    choice: int = 0

    @property
    def right(self) -> list[Timed]:
        return [each for each in self.timed if not each.dropped]

    @property
    def chosen(self) -> tuple[str, str]:
        return self.right[self.choice].tactic, self.right[self.choice].name

    def implementation(self) -> Implementation:
        """Of the choice; built once."""
        if self.chosen not in self.built:
            self.built[self.chosen] = self.offered[self.chosen].build()
        return self.built[self.chosen]


def chosen(problem: Problem, layers: Sequence[str]) -> Chosen:
    """What the report says of a problem, of which these layers run."""
    winner = problem.right[problem.choice]
    return Chosen(
        layers=tuple(layers),
        tactic=winner.tactic,
        name=winner.name,
        microseconds=winner.microseconds,
        error=winner.error,
        rivals=tuple(each for each in problem.timed if each is not winner),
    )
