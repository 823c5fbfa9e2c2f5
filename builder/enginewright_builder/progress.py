"""How a build tells a person what it is doing: phases with counts, on standard error only.

Standard output belongs to the result (with --json: to one JSON object), so nothing here may ever write there.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO

from enginewright_runtime import tracing

Step = Callable[[str], None]


class Progress(Protocol):
    """Where a build reports to."""

    def phase(self, name: str, total: int = 0) -> AbstractContextManager[Step]:
        """A phase of the build; call what it gives before each of its `total` steps, with the step's name."""

    def note(self, sentence: str) -> None:
        """Something that a person should know, such as a choice made for them."""


class Silent:
    """Reports to nobody."""

    @contextmanager
    def phase(self, name: str, total: int = 0) -> Iterator[Step]:
        """Nothing is shown."""
        yield lambda _step: None

    def note(self, sentence: str) -> None:
        """Nothing is shown."""


class Lines:
    """One line a phase and a step, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @contextmanager
    def phase(self, name: str, total: int = 0) -> Iterator[Step]:
        """A line at the start, and one a step with its count."""
        done = 0

        def step(what: str) -> None:
            nonlocal done
            done += 1
            self._print(f"  {done}/{total} {what}" if total else f"  {what}")

        self._print(f"{name} …")
        yield step

    def note(self, sentence: str) -> None:
        """A line of its own."""
        self._print(f"note: {sentence}")

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class Traced:
    """Reports to somebody else, and makes a span of each phase."""

    def __init__(self, told: Progress) -> None:
        self._told = told

    @contextmanager
    def phase(self, name: str, total: int = 0) -> Iterator[Step]:
        """A span, in which somebody else shows the phase."""
        with tracing.span(name), self._told.phase(name, total) as step:
            yield step

    def note(self, sentence: str) -> None:
        """Shown by somebody else."""
        self._told.note(sentence)


def on_standard_error() -> Progress:
    """Bars if standard error is a terminal, else plain lines."""
    if not sys.stderr.isatty():
        return Lines(sys.stderr)
    from enginewright_builder import bars  # here, because what draws them takes a while to import

    return bars.Live()
