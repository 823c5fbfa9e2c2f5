"""What every reconciliation is given: the reader, the writer, the stores and the settings; and what it gives back."""

import asyncio
import datetime
from collections.abc import Callable
from dataclasses import dataclass, field

from enginewright_operator import stamps
from enginewright_operator.cluster import Cluster
from enginewright_operator.gather import Gatherer
from enginewright_operator.scrape import Scraper
from enginewright_operator.settings import Settings
from enginewright_operator.stores import Stores


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The seams of a reconciliation. `now` is the wall clock, for timestamps."""

    gatherer: Gatherer
    cluster: Cluster
    scraper: Scraper
    stores: Stores
    settings: Settings
    now: Callable[[], datetime.datetime]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # for counting what runs and adding to it

    def stamp(self) -> str:
        """Now, as Kubernetes writes times."""
        return stamps.stamp(self.now())


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """When to look again though no event may come: in so many seconds; `failed`: with growing delays, if not before."""

    seconds: float | None = None
    failed: bool = False

    def at_the_latest(self, seconds: float | None) -> "Again":
        """The same, but no later than in so many seconds; None says nothing. One that failed has its own delays."""
        if seconds is None or self.failed:
            return self
        return Again(seconds=seconds if self.seconds is None else min(seconds, self.seconds))


DONE = Again()
