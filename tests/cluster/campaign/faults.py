"""Faults between the operator and its surroundings: at its k-th write, in what it is told, in its storage, in time.

All of them sit in the seams that the operator has anyway: its connection, its stores, its clock. What goes wrong with
its watches is done to them by a proxy, in watches.py.
"""

import asyncio
import datetime
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from enginewright_operator.cached_kube import CachedKube
from enginewright_operator.errors import ClusterError, ConflictError
from enginewright_operator.stores import Access, Stores
from enginewright_operator.watched import Watched
from enginewright_runtime.errors import StorageError

OUTAGE = 2.0  # seconds that what fails for a while fails
SLOW = 0.25


class Kind(StrEnum):
    """What happens at a write; `before`: it never reached the API server, `after`: it did, and nobody heard of it."""

    NONE = "none"
    KILLED_BEFORE = "killed before"
    KILLED_AFTER = "killed after"
    CONFLICT = "409"
    TOO_MANY = "429"
    INTERNAL = "500"
    GONE = "410"  # and so are all reads for a while
    ANSWER_LOST = "answer lost"
    SLOW_SERVER = "every request slow"
    EVENTS_DROPPED = "events dropped"
    EVENTS_STALE = "events late and out of order"
    EVENTS_TWICE = "events twice and once more late"
    WATCH_CUT = "watches cut off"
    WATCH_EXPIRED = "watches ended by 410 in the stream"
    WATCH_REFUSED = "watches refused with 410"  # ends the process, as the next one does
    WATCH_BROKEN = "watches ended by 500 in the stream"
    STORAGE_DOWN = "storage down"
    CLOCK_AHEAD = "clock a day ahead"
    CLOCK_BACK = "clock a day back"


@dataclass
class Fault:
    """One fault at one write; `writes` counts those of all processes of the run, `heard` are told when it begins."""

    kind: Kind = Kind.NONE
    at: int = 0
    writes: list[str] = field(default_factory=list)
    begun: float = -1.0
    died: asyncio.Event = field(default_factory=asyncio.Event)
    heard: list[Callable[[], object]] = field(default_factory=list)

    def begin(self) -> None:
        """The write came."""
        self.begun = time.monotonic()
        for tell in self.heard:
            tell()

    @property
    def reached(self) -> bool:
        """Whether the write at which it happens came."""
        return self.begun >= 0

    def lasts(self) -> bool:
        """Whether what fails for a while fails now."""
        return self.reached and time.monotonic() - self.begun < OUTAGE

    def now(self) -> datetime.datetime:
        """The wall clock as the operator sees it."""
        jump = {Kind.CLOCK_AHEAD: 1, Kind.CLOCK_BACK: -1}.get(self.kind, 0) if self.reached else 0
        return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=jump)


class FaultyKube(CachedKube):
    """The connection of one process, which the fault may kill."""

    def __init__(self, api: Any, watched: Watched, fault: Fault) -> None:
        super().__init__(api, watched)
        self._fault = fault
        self._dead = False

    async def send(self, method: str, path: str, body: Any = None, **how: Any) -> Any:
        async def really() -> Any:
            return await super(FaultyKube, self).send(method, path, body, **how)

        if self._dead:
            await asyncio.Event().wait()
        if self._fault.kind is Kind.SLOW_SERVER:
            await asyncio.sleep(SLOW)
        if method == "GET":
            if self._fault.kind is Kind.GONE and self._fault.lasts():
                raise ClusterError(f"The API server refused GET {path} with status 410: too old.")
            return await really()
        self._fault.writes.append(f"{method} {path}")
        if len(self._fault.writes) != self._fault.at:
            return await really()
        self._fault.begin()
        return await self._happens(really)

    async def _happens(self, really: Callable[[], Awaitable[Any]]) -> Any:
        kind = self._fault.kind
        if kind in (Kind.KILLED_BEFORE, Kind.KILLED_AFTER):
            if kind is Kind.KILLED_AFTER:
                await really()
            self._dead = True
            self._fault.died.set()
            await asyncio.Event().wait()
        if kind is Kind.CONFLICT:
            raise ConflictError("refused with status 409")
        if kind in (Kind.TOO_MANY, Kind.INTERNAL, Kind.GONE):
            raise ClusterError(f"refused with status {kind}")
        answer = await really()
        if kind is Kind.ANSWER_LOST:
            raise ClusterError("The API server did not answer.")
        return answer


class FaultyStores(Stores):
    """Stores that are out of reach for a while."""

    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self._fault = fault

    def _up(self) -> None:
        if self._fault.kind is Kind.STORAGE_DOWN and self._fault.lasts():
            raise StorageError("The storage is out of reach.")

    async def identity(self, uri: str, access: Access) -> str:
        self._up()
        return await super().identity(uri, access)

    async def delete_folder(self, folder: str, access: Access) -> int:
        self._up()
        return await super().delete_folder(folder, access)
