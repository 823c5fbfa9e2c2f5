"""Every reconciliation asks for the nodes, which are many: the API server is asked once in ten seconds.

Their devices are as the watch told last, where there is one.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from enginewright_operator.cached_kube import CachedKube
from enginewright_operator.gather.machines import NODES_FRESH_FOR, Machines
from enginewright_operator.settings import Settings

CLAIMS = {
    "apiVersion": "enginewright.dev/v1alpha1",
    "kind": "GPUClass",
    "metadata": {"name": "c"},
    "spec": {"kind": "cuda", "product": "H200", "resources": "DynamicResourceAllocation"},
}


class OneNode:
    """An API server with a node, devices and a class that claims one; it takes its time, and notes what is asked."""

    def __init__(self, *, changes: int | None = None) -> None:
        self._changes = changes
        self.products: list[str] = []
        self.asked: list[str] = []

    def publish(self, *products: str) -> None:
        self.products = [*products]
        if self._changes is not None:
            self._changes += 1

    def changes(self, kind: str) -> int | None:
        assert kind == "ResourceSlice"
        return self._changes

    async def discover(self, _: str) -> set[str]:
        return {"resourceslices"}

    async def find(self, kind: str) -> list[dict[str, Any]]:
        if kind == "GPUClass":
            return [CLAIMS]
        self.asked.append(kind)
        attributes = [{"type": {"string": "gpu"}, "productName": {"string": name}} for name in self.products]
        devices = [{"name": "gpu", "attributes": each} for each in attributes]
        pool = {"name": "a", "generation": 1}
        return [{"spec": {"driver": "gpu.nvidia.com", "nodeName": "a", "pool": pool, "devices": devices}}]

    async def list(self, kind: str) -> list[dict[str, Any]]:
        self.asked.append(kind)
        await asyncio.sleep(0)
        return [{"metadata": {"name": "a"}}]


def machines_of(server: OneNode, clock: Callable[[], float] = lambda: 0.0) -> Machines:
    return Machines(cast(CachedKube, server), Settings(), clock=clock)


async def labels(machines: Machines) -> list[str]:
    (node,) = await machines.nodes() or ()
    return [device.label for device in node.devices]


async def test_workers_that_ask_at_the_same_time_share_one_answer() -> None:
    server, now = OneNode(), 0.0
    machines = machines_of(server, lambda: now)
    answers = await asyncio.gather(*(machines.nodes() for _ in range(16)))
    assert [[node.name for node in answer or ()] for answer in answers] == [["a"]] * 16
    assert server.asked == ["Node", "ResourceSlice"]
    now = NODES_FRESH_FOR
    await machines.nodes()
    assert server.asked == ["Node", "ResourceSlice"] * 2


async def test_devices_that_are_watched_are_known_at_once_and_the_nodes_not_asked_for_again() -> None:
    server = OneNode(changes=0)
    machines = machines_of(server)
    assert await labels(machines) == []
    server.publish("NVIDIA H200")
    assert await labels(machines) == ["NVIDIA-H200"]
    await machines.nodes()
    server.publish()
    assert await labels(machines) == []
    assert server.asked == ["Node", *["ResourceSlice"] * 3]


async def test_devices_that_are_watched_are_not_read_anew_with_the_nodes() -> None:
    server, now = OneNode(changes=0), 0.0
    machines = machines_of(server, lambda: now)
    server.publish("NVIDIA H200")
    await machines.nodes()
    now = NODES_FRESH_FOR
    assert await labels(machines) == ["NVIDIA-H200"]
    assert server.asked == ["Node", "ResourceSlice", "Node"]


async def test_devices_that_are_not_watched_are_as_old_as_the_nodes() -> None:
    server, now = OneNode(), 0.0
    machines = machines_of(server, lambda: now)
    await machines.nodes()
    server.publish("NVIDIA H200")
    assert await labels(machines) == []
    now = NODES_FRESH_FOR
    assert await labels(machines) == ["NVIDIA-H200"]
