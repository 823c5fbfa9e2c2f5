"""A build's progress as moving bars, for a person at a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from enginewright_builder.progress import Step


class Live:
    """Moving bars, for a terminal; a finished phase stays as a line with its time."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    @contextmanager
    def phase(self, name: str, total: int = 0) -> Iterator[Step]:
        """A bar where the number of steps is known, a spinner where it is not."""
        columns = [SpinnerColumn(finished_text="[green]✓[/]"), TextColumn("{task.description:<28}", markup=False)]
        counts = [BarColumn(bar_width=24), MofNCompleteColumn()] if total else []
        tail = [TimeElapsedColumn(), TextColumn("[dim]{task.fields[step]}[/]")]
        with Bars(*columns, *counts, *tail, console=self._console) as bars:
            task = bars.add_task(name, total=total or None, step="")
            done = 0

            def step(what: str) -> None:
                nonlocal done
                bars.update(task, completed=done, step=what)
                done += 1

            yield step
            bars.update(task, total=max(total, done, 1), completed=max(total, done, 1), step="")

    def note(self, sentence: str) -> None:
        """A line of its own."""
        self._console.print(f"note: {sentence}", highlight=False, markup=False)
