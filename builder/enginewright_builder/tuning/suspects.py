"""Candidates that left the GPU unusable for the builder's own process: remembered, and run in a child from then on.

An error that sticks to a process ends the build that met it. The timing cache keeps whose it was, so that the next
build, which a Job begins by itself, drops that candidate by name and gets further. Such a mark costs a rehearsal and
nothing else: whoever writes a false one into a shared cache has only slowed a build down.
"""

from enginewright_builder.device.implementation import Candidate
from enginewright_builder.tuning import timings
from enginewright_builder.tuning.timings import Entry, Timed, Timings
from enginewright_runtime.errors import EnginewrightError


class LostGpuError(EnginewrightError):
    """A candidate's error sticks to this process: nothing more can be run on the GPU here. Another try helps."""


def suspected(cache: Timings, problem: str, candidate: Candidate) -> bool:
    """Whether a candidate of the problem of this key was accused by a build before."""
    return cache.get(_key(problem, candidate)) is not None


def accuse(cache: Timings, problem: str, candidate: Candidate, layer: str, failure: EnginewrightError) -> LostGpuError:
    """Remember a candidate, and say so."""
    fault = Timed(tactic=candidate.tactic, name=candidate.name, dropped=failure.message)
    cache.put(_key(problem, candidate), Entry(timed=(fault,)))
    return LostGpuError(
        f"The candidate {candidate.name!r} of the tactic {candidate.tactic!r} for the layer {layer!r} left the GPU "
        f"unusable for this process ({failure.message.rstrip('.')}): build again; it then runs in a process of its own "
        "first, and is dropped there."
    )


def _key(problem: str, candidate: Candidate) -> str:
    return timings.key("suspect", problem, candidate.tactic, candidate.name)
