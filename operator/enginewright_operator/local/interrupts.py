"""Ctrl-C and SIGTERM: both end what runs, and neither may come between two steps that belong together.

Python raises KeyboardInterrupt wherever it happens to be: between the start of a process and the note that it is to be
ended, which leaves it behind; or inside Popen.poll and Popen.wait with their lock taken, after which they hang.
"""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Within it SIGTERM is what Ctrl-C is, so that everything that was started is ended on both."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def held() -> Iterator[list[int]]:
    """Within it a signal is only noted, in the list that this gives, and does what it does at the end.

    For the main thread, and for what takes no time. Whatever is started meanwhile has the signals as ever, which it
    had not if they were blocked. One that is ignored is ignored.
    """
    came: list[int] = []
    before = {number: handler for number in ENDING if callable(handler := signal.getsignal(number))}
    try:
        for number in before:
            signal.signal(number, lambda which, _frame: came.append(which))
        yield came
    finally:
        _restore(before)
        for first in came[:1]:
            before[signal.Signals(first)](first, None)


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    """All of them, even if a signal comes once the first is back."""
    for number, handler in handlers.items():
        try:
            signal.signal(number, handler)
        except KeyboardInterrupt:
            _restore(handlers)
            raise
