"""Every reconciliation asks for the nodes, which are many: the API server is asked once in ten seconds."""

import asyncio
from typing import Any, cast

from enginewright_operator.cached_kube import CachedKube
from enginewright_operator.gather.machines import NODES_FRESH_FOR, Machines
from enginewright_operator.settings import Settings


class OneNode:
    """An API server with a node and no GPU class, that takes its time, and how often it was asked for nodes."""

    def __init__(self) -> None:
        self.asked = 0

    async def find(self, *_: str) -> list[dict[str, Any]]:
        return []

    async def list(self, *_: str) -> list[dict[str, Any]]:
        self.asked += 1
        await asyncio.sleep(0)
        return [{"metadata": {"name": "a"}}]


async def test_workers_that_ask_at_the_same_time_share_one_answer() -> None:
    server, now = OneNode(), 0.0
    machines = Machines(cast(CachedKube, server), Settings(), clock=lambda: now)
    answers = await asyncio.gather(*(machines.nodes() for _ in range(16)))
    assert [[node.name for node in answer or ()] for answer in answers] == [["a"]] * 16
    assert server.asked == 1
    now = NODES_FRESH_FOR
    await machines.nodes()
    assert server.asked == 2
