"""A node that goes while it builds: the build begins anew on another one, or waits for one and says so."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from campaign.replicas import Replicas
from controlplane.kube_json import KubeJson
from controlplane.stub_kubelet import register, renew

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

POOL = "enginewright.dev/campaign-pool"
ORPHANS_LAST = 150  # seconds: Kubernetes looks for pods of nodes that are gone every 20 s, and waits 40 s more


class Pool:
    """Nodes and a GPU class of their own."""

    def __init__(self, replicas: Replicas, cluster: KubeJson, name: str, group: asyncio.TaskGroup) -> None:
        self.replicas, self.name = replicas, f"{replicas.namespace}-{name}"
        self._cluster, self._group, self._beats = cluster, group, []
        spec = {"kind": "cpu", "nodeSelector": {POOL: self.name}}
        gpu_class = {"apiVersion": "enginewright.dev/v1alpha1", "kind": "GPUClass", "metadata": {"name": self.name}}
        replicas.plane.apply(gpu_class | {"spec": spec})

    async def add(self, number: int) -> None:
        """Another node."""
        name = f"{self.name}-{number}"
        await register(self._cluster, name)
        self.replicas.plane.kubectl("label", "node", name, f"{POOL}={self.name}")
        self._beats.append(self._group.create_task(renew(self._cluster, name)))

    def building_on(self) -> str:
        """The node on which its build runs; empty where none does."""
        listed = json.loads(
            self.replicas.plane.kubectl("get", "pods", "--namespace", self.replicas.namespace, "--output=json")
        )
        nodes = [each["spec"].get("nodeName", "") for each in listed["items"] if each["status"]["phase"] == "Running"]
        return next((node for node in nodes if node.startswith(self.name)), "")

    def lose(self) -> str:
        """Delete the node on which its build runs; its name."""
        node = self.building_on()
        assert node
        self.replicas.plane.kubectl("delete", "node", node)
        return node

    def target(self) -> Any:
        """What the engine of the pool's name says of its target."""
        return self.replicas.status(self.name)["targets"][0]

    def end(self) -> None:
        """No heartbeats any more, and nothing left of it."""
        for beat in self._beats:
            beat.cancel()
        self.replicas.plane.kubectl("delete", "nodes", "--selector", f"{POOL}={self.name}")


async def test_a_build_whose_node_goes_is_built_on_another_or_waits_for_one_and_is_built_once(
    replicas: Replicas, eventually: Callable[..., Any]
) -> None:
    def wait(condition: Callable[[], Any], within: float) -> Any:
        return asyncio.to_thread(eventually, condition, within, every=1.0)

    replicas.held.touch()
    replicas.start()
    async with await KubeJson.connect(replicas.plane.kubeconfig) as cluster, asyncio.TaskGroup() as group:
        two, one = Pool(replicas, cluster, "two", group), Pool(replicas, cluster, "one", group)
        await two.add(0)
        await two.add(1)
        await one.add(0)
        for pool in (two, one):
            (replicas.folder / f"{pool.name}.onnx").write_text(pool.name)  # of one model they would share a plan
            replicas.apply(pool.name, gpu_class=pool.name, model=f"{pool.name}.onnx")
            await wait(pool.building_on, 60)
        lost = two.lose()
        one.lose()

        await wait(lambda: two.building_on() not in ("", lost), ORPHANS_LAST)
        await wait(lambda: one.target()["reason"] == "NoMatchingNode", ORPHANS_LAST)
        assert f"No node is of the GPUClass {one.name}" in one.target()["message"]
        await one.add(1)
        await wait(one.building_on, 60)
        assert replicas.built() == [], "neither was ended yet"

        replicas.held.unlink()
        for pool in (two, one):
            await wait(lambda name=pool.name: replicas.ready(name), 60)
        plans = json.loads(replicas.plane.kubectl("get", "engineplans", "-n", replicas.namespace, "--output=json"))[
            "items"
        ]
        assert sorted(replicas.built()) == sorted(plan["spec"]["digest"] for plan in plans)
        assert [plan["status"]["attempts"] for plan in plans] == [1, 1], "a node that goes counts as no try"
        for pool in (two, one):
            pool.end()
