"""The queue between events and reconciliation: keys only, since what happened is read fresh when a key's turn comes.

A key waits at most once, however many events named it; it is never handed to two workers at once; one that failed
comes back after a delay that doubles, with jitter so that a thousand failures do not return together. This is
client-go's workqueue with asyncio's single thread in place of its locks.
"""

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Seconds until the nth try after n failures in a row: base * 2^(n-1), at most `limit`, less up to a third."""

    base: float = 0.5
    limit: float = 300.0

    def delay(self, failures: int, chance: float) -> float:
        """`failures` counts from 1; `chance` lies in [0, 1)."""
        whole = min(self.limit, self.base * 2.0 ** min(failures - 1, 30))
        return whole * (1 - chance / 3)


class WorkQueue(Generic[Key]):
    """Keys that wait for a worker. Use from one event loop only."""

    def __init__(
        self,
        *,
        backoff: Backoff | None = None,
        clock: Callable[[], float] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._backoff = backoff or Backoff()
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._chance = chance
        self._ready: deque[Key] = deque()
        self._waiting: set[Key] = set()  # in _ready, or to be put there when its worker is done
        self._working: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._due: dict[Key, float] = {}  # the earliest time that anybody asked for
        self._heap: list[tuple[float, int, Key]] = []  # of _due; entries that no longer match it are skipped
        self._sequence = 0
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """How many keys wait for a worker now (those that wait for their time are not counted)."""
        return len(self._ready)

    def put(self, key: Key) -> None:
        """Ask for a reconciliation of `key` as soon as a worker is free and no other one holds it."""
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._working:
            self._ready.append(key)
            self._changed.set()

    def put_after(self, key: Key, seconds: float) -> None:
        """Ask for one in so many seconds; of several such wishes for a key the earliest counts."""
        due = self._clock() + seconds
        if due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, key))
        self._changed.set()

    async def get(self) -> Key:
        """The next key, which is this worker's until it calls done or failed. Waits for one."""
        while True:
            self._promote()
            if self._ready:
                key = self._ready.popleft()
                self._waiting.discard(key)
                self._working.add(key)
                return key
            self._changed.clear()
            timeout = self._heap[0][0] - self._clock() if self._heap else None
            try:
                async with asyncio.timeout(timeout):  # Python 3.11's wait_for may swallow a cancellation
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: Key) -> None:
        """The worker has finished with `key`, well: its failures are forgotten."""
        self._failures.pop(key, None)
        self._release(key)

    def failed(self, key: Key) -> float:
        """The worker could not finish: the key comes back by itself, in the number of seconds that is returned."""
        self._failures[key] = self._failures.get(key, 0) + 1
        delay = self._backoff.delay(self._failures[key], self._chance())
        self._release(key)
        self.put_after(key, delay)
        return delay

    def _release(self, key: Key) -> None:
        self._working.discard(key)
        if key in self._waiting:
            self._ready.append(key)
            self._changed.set()

    def _promote(self) -> None:
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self.put(key)
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
