"""Which of a problem's candidates are tried, and in which order. Pure.

A tactic offers its candidates best guess first, and its guesses are rarely far off. So all tactics run their first few
in turns, and only those whose best came near the problem's best run their others: on a GPU nearly all of a cold build
is compiling candidates and comparing their answers. What takes long to make (the vendors' engines, one at a time) comes
some turns later, so that where time runs out every tactic of ours has shown its best.
"""

from collections.abc import Iterator, Mapping, Sequence

from enginewright_builder.device.implementation import Candidate
from enginewright_builder.tuning.allowance import NO_TIME
from enginewright_builder.tuning.timings import Timed
from enginewright_runtime.plan.recipe import Effort

FIRST: Mapping[Effort, int] = {Effort.FAST: 2, Effort.BALANCED: 3, Effort.THOROUGH: 200}  # guesses of each tactic
NEAR = 1.5  # times the problem's best: a tactic whose first guesses are slower has no winner among its others
OUTCLASSED = f"its tactic's first guesses took more than {NEAR:g} times as long as the fastest"
NONE_RIGHT = "none of its tactic's first guesses is right"
_LATER = 2  # turns


def first(candidates: Sequence[Candidate], effort: Effort) -> list[Candidate]:
    """The first guesses of every tactic, in turns. No last resorts."""
    return [each for each, turn in _in_turns(candidates) if turn < FIRST[effort]]


def second(candidates: Sequence[Candidate], effort: Effort, results: Sequence[Timed]) -> list[Candidate]:
    """The others, in turns, of the tactics that came near the best of these results; of all where nothing was right.
    And the first guesses that no time was left for, unless their tactic is known to be far."""
    times: dict[str, float] = {}
    for each in results:
        if not each.dropped:
            times[each.tactic] = min(each.microseconds, times.get(each.tactic, each.microseconds))
    most = min(times.values()) * NEAR if times else 0.0
    near = {tactic for tactic, time in times.items() if time <= most} if times else {c.tactic for c in candidates}
    unseen = {c.tactic for c in candidates} - set(times)
    done = {(each.tactic, each.name) for each in results if each.dropped != NO_TIME}
    late = {(each.tactic, each.name) for each in results if each.dropped == NO_TIME and each.tactic in near | unseen}
    return [
        each
        for each, turn in _in_turns(candidates)
        if (each.tactic, each.name) in late
        or (turn >= FIRST[effort] and each.tactic in near and (each.tactic, each.name) not in done)
    ]


def last(candidates: Sequence[Candidate], results: Sequence[Timed]) -> list[Candidate]:
    """The last resorts, where nothing else is right."""
    return [] if any(not each.dropped for each in results) else [each for each in candidates if each.last_resort]


def spared(candidates: Sequence[Candidate], results: Sequence[Timed]) -> Iterator[Timed]:
    """What was not tried for its tactic's sake."""
    known = {(each.tactic, each.name) for each in results}
    for each in candidates:
        if (each.tactic, each.name) not in known and not each.last_resort:
            yield Timed(tactic=each.tactic, name=each.name, dropped=_why_spared(each.tactic, results))


def _why_spared(tactic: str, results: Sequence[Timed]) -> str:
    reasons = {each.dropped for each in results if each.tactic == tactic}
    if "" in reasons:
        return OUTCLASSED
    return NO_TIME if NO_TIME in reasons else NONE_RIGHT


def _in_turns(candidates: Sequence[Candidate]) -> list[tuple[Candidate, int]]:
    """Every tactic's best guess, then every second one; each with its place among its tactic's."""
    guesses: dict[str, int] = {}
    found: list[tuple[Candidate, int]] = []
    for each in candidates:
        if not each.last_resort:
            turn = guesses.setdefault(each.tactic, 0)
            guesses[each.tactic] = turn + 1
            found.append((each, turn))
    return sorted(found, key=lambda one: one[1] + (_LATER if one[0].serial else 0))
