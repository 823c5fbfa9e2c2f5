"""What no event tells is asked for once in every period, whatever the wall clock does meanwhile."""

import asyncio
import datetime
from types import SimpleNamespace
from typing import Any

from virtual_time import virtually

from enginewright_operator import resync
from enginewright_operator.errors import ClusterError

PERIOD = 20.0


class World:
    """A scope whose wall clock goes back a day whenever the stores are asked."""

    def __init__(self, *refused: int) -> None:
        self.lists, self.polls, self._refused = 0, 0, refused
        self.gatherer, self.settings = self, SimpleNamespace(resync_seconds=PERIOD)

    def now(self) -> datetime.datetime:
        return datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC) - datetime.timedelta(days=self.polls)

    async def relist(self) -> int:
        self.lists += 1
        if self.lists in self._refused:
            raise ClusterError("down")
        return 0

    async def poll_nodes(self, put: Any) -> int:
        return 0

    async def poll_inputs(self, put: Any, *, within: float) -> int:
        self.polls += 1
        return 0


async def run(world: World, until: Any) -> None:
    begin = asyncio.Event()
    running = asyncio.create_task(
        resync.run(world, lambda *_: None, asyncio.Event(), begin=begin)  # type: ignore[arg-type]
    )
    async with asyncio.timeout(PERIOD * 20):
        while not until():
            await asyncio.sleep(PERIOD / 4)
    assert begin.is_set()
    running.cancel()


@virtually
async def test_a_clock_that_is_set_back_does_not_put_off_the_next_round() -> None:
    world = World()
    await run(world, lambda: world.polls >= 3)


@virtually
async def test_a_list_that_is_refused_later_on_does_not_end_the_rounds() -> None:
    world = World(2, 3)
    await run(world, lambda: world.lists >= 4)
