"""What a network computes, chosen by name among all that its layers make."""

import difflib
from collections.abc import Collection, Sequence
from pathlib import Path

from enginewright_runtime.errors import UnsupportedError

_LISTED = 8


def choose(made: Collection[str], wanted: Sequence[str], own: Sequence[str], path: Path) -> tuple[str, ...]:
    """The names that are wanted, each once. `made` are all that there are, `own` those of the model's own outputs.

    Raises UnsupportedError naming the nearest names there are.
    """
    for name in wanted:
        if name not in made:
            raise UnsupportedError(
                f"The model {path} has no layer with the output {name!r}: name one of the {len(made)} there are, "
                f"{_candidates(name, list(made), own)}."
            )
    return tuple(dict.fromkeys(wanted))


def _candidates(name: str, names: Sequence[str], own: Sequence[str]) -> str:
    """The nearest names first, then the model's own outputs, a few in all."""
    near = difflib.get_close_matches(name, names, n=_LISTED, cutoff=0.4)
    listed = list(dict.fromkeys([*near, *own, *reversed(names)]))[:_LISTED]
    return "for example " + ", ".join(repr(candidate) for candidate in listed)
