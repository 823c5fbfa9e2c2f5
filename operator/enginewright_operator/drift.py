"""How the plan that serves differs from what is asked for now, in words, and whether that is a reason to build. Pure.

The condition Stale says it. What changed by itself (a version, an image, a newer driver) is built only where the
engine's rebuildOn says so; what a person changed, or what would keep pods from starting, always.
"""

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from enginewright_operator import api
from enginewright_operator.conditions import Reason, State, Verdict, condition
from enginewright_runtime.plan import records
from enginewright_runtime.plan.recipe import Recipe
from enginewright_runtime.plan.target import TargetRequirement, driver_branch

TYPE = "Stale"

_WORDS: Mapping[str, str] = {
    "model": "the model",
    "companion": "the prototxt",
    "batch_sizes": "the batch sizes",
    "calibration": "the calibration data",
    "builder": "the version of Enginewright",
    "builder_image": "the builder's image",
}


def why_rebuilt(before: Recipe | None, after: Recipe) -> str:
    """What changed from one recipe to the next, in words; where there was none before, that it is the first."""
    if before is None:
        return "It is the first plan of this target."
    changes = [
        *_changes(before, after, lambda name: _WORDS.get(name, f"the {name.replace('_', ' ')}"), apart=("target",)),
        *_changes(before.target, after.target, lambda name: f"the target's {name.replace('_', ' ')}"),
    ]
    return f"Changed: {', '.join(changes)}." if changes else "Nothing in the recipe changed."


Part = TypeVar("Part", Recipe, TargetRequirement)


def _changes(before: Part, after: Part, word: Callable[[str], str], *, apart: Sequence[str] = ()) -> list[str]:
    """Each field in which two of a kind differ, in words."""
    pairs = [
        (field.name, getattr(before, field.name), getattr(after, field.name))
        for field in fields(before)
        if field.name not in apart
    ]
    return [f"{word(name)} (was {_short(old)}, is {_short(new)})" for name, old, new in pairs if old != new]


def as_far_as_known(serves: Recipe | None, now: Recipe) -> Recipe:
    """The recipe of now; of what serves where all that differs is a driver that no node tells any more."""
    if serves is None or now.target.driver:
        return now
    return serves if replace(now, target=replace(now.target, driver=serves.target.driver)) == serves else now


def wanted(before: Recipe | None, now: Recipe, policy: api.RebuildOn) -> Recipe:
    """The recipe to have: of `now`, unless it differs from what serves only in what the policy is to leave alone."""
    if before is None or policy is api.RebuildOn.UPGRADE:
        return now
    older = 0 < driver_branch(now.target.driver) < driver_branch(before.target.driver)
    left_alone = replace(
        now,
        builder=before.builder,
        builder_image=before.builder_image,
        target=now.target if older else replace(now.target, driver=before.target.driver),
    )
    return before if left_alone == before else now


def verdict(serves: Recipe | None, now: Recipe, policy: api.RebuildOn) -> Verdict | None:
    """Whether the plan that serves is stale (then not READY), and what comes of it; None where nothing serves."""
    if serves is None:
        return None
    if serves == now:
        return Verdict(state=State.READY, reason=Reason.UP_TO_DATE, message="What serves is what is asked for now.")
    why = why_rebuilt(serves, now)
    if wanted(serves, now, policy) == now:
        return Verdict(state=State.WORKING, reason=Reason.REBUILDING, message=f"{why} It is built anew.")
    return Verdict(
        state=State.WORKING,
        reason=Reason.REBUILD_HELD,
        message=f"{why} It is left as it is: set spec.build.rebuildOn to Upgrade to have it built anew.",
    )


def of_engine(verdicts: Sequence[tuple[str, Verdict | None]]) -> Verdict | None:
    """Of all targets, each with its GPU class: the sentences of those that are stale, else that none is."""
    known = [(name, each) for name, each in verdicts if each is not None]
    found = [(name, each) for name, each in known if each.state is not State.READY]
    if not found:
        return known[0][1] if known else None
    reasons = {each.reason for _, each in found}
    return Verdict(
        state=State.WORKING,
        reason=Reason.REBUILDING if Reason.REBUILDING in reasons else Reason.REBUILD_HELD,
        message=" ".join(f"{name}: {each.message}" if len(verdicts) > 1 else each.message for name, each in found),
    )


def conditions(
    told: Verdict | None, *, generation: int, before: Iterable[api.Condition], now: datetime.datetime
) -> tuple[api.Condition, ...]:
    """The condition; as it was where there is nothing to tell: the store may be out of reach."""
    known = next((each for each in before if each.type == TYPE), None)
    if told is None:
        return () if known is None else (known,)
    status = str(told.state is not State.READY)
    return (condition(TYPE, status, told, generation=generation, before=known, now=now),)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else records.canonical(value).decode()
    return (text if len(text) <= 60 else text[:57] + "...") or "none"
