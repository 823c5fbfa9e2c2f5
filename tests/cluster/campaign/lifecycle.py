"""An engine's whole life under one fault: made, served, its model replaced, served again, deleted.

Whatever the fault was, the same state is reached at each station, each plan is built once, and nothing is left.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campaign.faults import Fault, FaultyKube, FaultyStores, Kind
from campaign.watches import WatchProxy
from controlplane.cluster import ControlPlane, restricted_namespace
from controlplane.kube_json import KubeJson
from kubernetes.aio import client, config
from kubernetes.aio.client import ApiException

from enginewright_operator.__main__ import Parts, work
from enginewright_operator.controller import SOON, Key
from enginewright_operator.errors import WatchError
from enginewright_operator.paths import path_of
from enginewright_operator.settings import Settings
from enginewright_operator.watched import Watched
from enginewright_operator.workqueue import Backoff, WorkQueue

KINDS = ("InferenceEngine", "EnginePlan", "Job", "Deployment", "Service", "Pod")
PATIENCE = 600.0
BETWEEN_PROCESSES = 0.2
ENDS_THE_PROCESS = (Kind.WATCH_REFUSED, Kind.WATCH_BROKEN)  # a Deployment begins another
State = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StubPlane:
    """A control plane whose pods are ready, and whose builds are done, at once."""

    plane: ControlPlane
    builds: Path  # notes the builds
    watches: WatchProxy  # where kopf watches


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a life was like: the states at its stations, and how many processes and writes it took."""

    states: tuple[State, ...]
    writes: tuple[str, ...]
    processes: int
    builds: tuple[str, ...]


class Life:
    """One engine in a namespace and a folder of its own, and the operator that serves only it."""

    def __init__(self, stub: StubPlane, cluster: KubeJson, folder: Path, name: str) -> None:
        self._stub, self._cluster = stub, cluster
        self._folder, self._namespace = folder / name, name
        self._processes = 0

    async def run(self, fault: Fault) -> Ended:
        """Live it. Raises AssertionError where a station is not reached."""
        await self._prepare()
        self._stub.watches.afflict(self._namespace, fault)
        operator = asyncio.create_task(self._operate(fault))
        states: list[State] = []
        try:
            await self._cluster.request("POST", path_of("InferenceEngine", self._namespace), self._engine())
            states.append(await self._until(self._serves))
            (self._folder / "model.onnx").write_text("second")
            states.append(await self._until(lambda: self._serves(other_than=states[0])))
            await self._cluster.request("DELETE", path_of("InferenceEngine", self._namespace, "e"))
            await self._until(self._nothing_left)
        finally:
            operator.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await operator
        noted = [line.split() for line in self._stub.builds.read_text().splitlines()]
        built = [digest for namespace, digest in noted if namespace == self._namespace]
        return Ended(states=tuple(states), writes=tuple(fault.writes), processes=self._processes, builds=tuple(built))

    async def _prepare(self) -> None:
        self._folder.mkdir(parents=True)
        (self._folder / "model.onnx").write_text("first")
        await self._cluster.request("POST", "/api/v1/namespaces", restricted_namespace(self._namespace))
        account = f"/api/v1/namespaces/{self._namespace}/serviceaccounts/default"
        while True:
            with contextlib.suppress(ApiException):
                await self._cluster.request("GET", account)
                return
            await asyncio.sleep(0.1)

    def _engine(self) -> State:
        return {
            "apiVersion": "enginewright.dev/v1alpha1",
            "kind": "InferenceEngine",
            "metadata": {"name": "e"},
            "spec": {
                "model": {"uri": f"file://{self._folder}/model.onnx"},
                "targets": [{"gpuClass": "cpu"}],
                "storage": {"uri": f"file://{self._folder}/store"},
                "rollout": {"keepLast": 0},
            },
        }

    async def _operate(self, fault: Fault) -> None:
        """One process after another: the next begins when one was killed, with nothing in its memory."""
        settings = Settings(
            watch_namespaces=(self._namespace,), allow_file_uris=True, resync_seconds=2.0, collect_after=0.0,
            metrics_port=0, health_port=0,
        )  # fmt: skip
        configuration = client.Configuration()
        await config.load_kube_config(str(self._stub.plane.kubeconfig), client_configuration=configuration)
        async with client.ApiClient(configuration) as api:
            while True:
                self._processes += 1
                process = asyncio.create_task(work(settings, self._parts(api, fault), asyncio.Event()))
                killed = asyncio.create_task(fault.died.wait())
                try:
                    done, _ = await asyncio.wait({process, killed}, return_when=asyncio.FIRST_COMPLETED)
                    if process in done and not (fault.kind in ENDS_THE_PROCESS and _cannot_watch(process)):
                        process.result()
                finally:
                    for task in (process, killed):
                        task.cancel()
                    await asyncio.wait({process, killed}, timeout=120)
                fault.died.clear()
                await asyncio.sleep(BETWEEN_PROCESSES)

    def _parts(self, api: client.ApiClient, fault: Fault) -> Parts:
        queue: WorkQueue[Key] = WorkQueue(backoff=Backoff(limit=2.0))
        watched = Watched(
            lambda kind, namespace, name: queue.put(Key(kind=kind, namespace=namespace, name=name)),
            lambda kind, namespace, name: queue.put_after(Key(kind=kind, namespace=namespace, name=name), SOON),
        )
        return Parts(
            queue=queue,
            watched=watched,
            kube=FaultyKube(api, watched, fault),
            stores=FaultyStores(fault),
            now=fault.now,
        )

    async def _until(self, reached: Callable[[], Awaitable[State | None]]) -> State:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while (found := await reached()) is None:
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"a station was not reached; there are {await self._told()}")
            await asyncio.sleep(0.25)
        return found

    async def _told(self) -> list[str]:
        """Each object with its status, for the one who looks for the reason."""
        objects = [(kind, each) for kind in KINDS for each in await self._list(kind)]
        return [f"{kind} {each['metadata']['name']}: {each['metadata'].get('deletionTimestamp')} {each.get('status')}"
                for kind, each in objects]  # fmt: skip

    async def _list(self, kind: str) -> list[State]:
        answer = await self._cluster.request("GET", path_of(kind, self._namespace))
        items: list[State] = answer["items"]
        return items

    async def _serves(self, other_than: State | None = None) -> State | None:
        """What is to be the same at a station where one plan, another than before, serves alone; None until then."""
        (engine,) = await self._list("InferenceEngine")
        plans, deployments = await self._list("EnginePlan"), await self._list("Deployment")
        status = engine.get("status") or {}
        ready = [row for row in status.get("conditions", ()) if (row["type"], row["status"]) == ("Ready", "True")]
        built = [plan for plan in plans if (plan.get("status") or {}).get("phase") == "Built"]
        served = {each["metadata"]["annotations"].get("enginewright.dev/plan") for each in deployments}
        row = next(iter(status.get("targets", ())), {})
        settled = {row.get("plan")} == {row.get("desiredPlan")} == served
        described = [(plan["spec"]["recipe"]["model"], plan["spec"]["why"]) for plan in plans]
        if not (ready and settled and len(plans) == len(built) == 1) or (other_than or {}).get("plans") == described:
            return None
        return {
            "plans": described,
            "owners": sorted(len(plan["metadata"]["ownerReferences"]) for plan in plans),
            "jobs": len(await self._list("Job")),
            "services": [each["metadata"]["name"] for each in await self._list("Service")],
            "deployments": [each["metadata"]["name"] for each in deployments],
            "files": len(self._files()),
            "reason": row["reason"],
        }

    async def _nothing_left(self) -> State | None:
        left = [each["metadata"]["name"] for kind in KINDS for each in await self._list(kind)]
        return {} if not left and not self._files() else None

    def _files(self) -> list[Path]:
        return [path for path in (self._folder / "store").rglob("*") if path.is_file()]


def _cannot_watch(process: "asyncio.Task[None]") -> bool:
    """Whether it is this that has ended a process."""
    return not process.cancelled() and isinstance(process.exception(), WatchError)
