"""Who takes the time of a schedule, and the memory. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from enginewright_builder.causes.names import short
from enginewright_builder.tuning.problems import Chosen
from enginewright_runtime.plan.manifest import Arena

_MOST = 3


def slowest(chosen: Sequence[Chosen]) -> str:
    """The layers that take the most, each as it was timed by itself; empty where none was."""
    each = [(name, problem.microseconds, problem.name) for problem in chosen for name in problem.layers]
    whole = sum(time for _, time, _ in each)
    if not whole:
        return ""
    first = sorted(each, key=lambda row: -row[1])[:_MOST]
    told = ", ".join(f"{short(name)} {time / 1000:.3g} ms ({time / whole:.0%}, {how})" for name, time, how in first)
    return f"of the layers' times the largest are {told}"


def largest(arenas: Iterable[Arena | None], blobs: Mapping[str, int]) -> str:
    """What of the memory lies in the plan and what between its layers, and the largest of each.

    `arenas` are the schedules', `blobs` the plan's bytes by name.
    """
    parts = []
    if blobs:
        parts.append(f"the plan's weights and programs are {_mebibytes(sum(blobs.values()))} ({_first(blobs)})")
    arena = max((each for each in arenas if each is not None), key=lambda each: each.bytes, default=None)
    if arena is not None and arena.tensors:
        sizes = {name: place.bytes for name, place in arena.tensors.items()}
        parts.append(f"the tensors between layers {_mebibytes(arena.bytes)} at once ({_first(sizes)})")
    return " and ".join(parts)


def _first(sizes: Mapping[str, int]) -> str:
    rows = sorted(sizes.items(), key=lambda row: -row[1])[:_MOST]
    return ", ".join(f"{short(name)} {_mebibytes(size)}" for name, size in rows)


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.3g} MiB"
