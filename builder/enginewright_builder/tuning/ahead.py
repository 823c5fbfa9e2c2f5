"""Candidates built before their turn, on the processors that wait for the GPU: compiling is most of a cold build."""

import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Self

from enginewright_builder.device.implementation import Candidate, Implementation
from enginewright_runtime.engine import available

_NICENESS = 10  # a tenth of an ordinary thread's share


class Ahead:
    """First asked, first built. What has not begun when its turn comes is built by who asks for it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(available.processors(), initializer=_step_back)
        self._begun: dict[Candidate, Future[Implementation]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def begin(self, candidates: Iterable[Candidate]) -> None:
        """Have these built, but for those that must be built one at a time."""
        for each in candidates:
            if not each.serial and each not in self._begun:
                self._begun[each] = self._pool.submit(each.build)

    def built(self, candidate: Candidate) -> Implementation:
        """The candidate's implementation. Raises what building it raises."""
        future = self._begun.pop(candidate, None)
        return candidate.build() if future is None or future.cancel() else future.result()


def _step_back() -> None:
    """Whoever checks and times candidates meanwhile comes first: on Linux each thread has a priority of its own."""
    with suppress(OSError):  # elsewhere a thread has no priority, and all are alike
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
