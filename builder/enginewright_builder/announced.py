"""Progress that also says, in one line of the log now and then, how far the build is: the operator reads it there."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from enginewright_builder.progress import Progress, Step
from enginewright_runtime.plan.progress import BuildProgress

EVERY = 2.0  # seconds between two lines at the least


class Announced:
    """Hands everything on to another progress, and writes lines of BuildProgress."""

    def __init__(
        self, inner: Progress, write: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._inner, self._write, self._clock = inner, write, clock
        self._said = float("-inf")

    @contextmanager
    def phase(self, name: str, total: int = 0) -> Iterator[Step]:
        """A line at its start, and lines of its steps where the last one is long enough ago."""
        started, done = self._clock(), 0
        self._say(BuildProgress(phase=name, total=total))
        with self._inner.phase(name, total) as inner:

            def step(what: str) -> None:
                nonlocal done
                inner(what)
                if self._clock() - self._said >= EVERY:
                    spent = self._clock() - started
                    left = round(spent / done * max(total - done, 0)) if done and total else 0
                    self._say(BuildProgress(phase=name, done=done, total=total, seconds_left=left))
                done += 1

            yield step

    def note(self, sentence: str) -> None:
        """Handed on."""
        self._inner.note(sentence)

    def _say(self, progress: BuildProgress) -> None:
        self._said = self._clock()
        self._write(progress.to_line())
