"""A stand-in for the kubelet: registers Nodes and runs the Pods bound to them as processes of this machine.

A program of its own (`python -m controlplane.node_agent`), so that it dies apart from the tests and forks from one
thread only. `nodes.NodeAgent` starts it. README.md lists what it fakes. It must never run a Pod of another's node, nor
leave a process when it ends: on SIGTERM, or when its parent dies, it ends them all.
"""

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import random
import signal
import socket
import sys
import traceback
from pathlib import Path

from aiohttp import ClientError
from controlplane.kube_json import STRATEGIC, KubeJson
from controlplane.kubelet_server import serve_logs
from controlplane.pod_process import PodProcess
from controlplane.pod_volumes import Address, Json, NotYet, decoded
from kubernetes.aio.client import ApiException

NOT_FOUND, CONFLICT = 404, 409
LEASE_SECONDS, RENEW_EVERY = 40, 10
LOCK_PORT = 19999  # below the ports that the system gives to whoever asks for any


class Addresses:
    """Hands out 198.18.<block>.n; the process binds 127.18.<block>.n. A socket on .255 keeps the block ours."""

    def __init__(self) -> None:
        self._lock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for block in random.sample(range(256), 256):
            with contextlib.suppress(OSError):
                self._lock.bind((f"127.18.{block}.255", LOCK_PORT))
                self.block = block
                break
        else:
            raise OSError("all 256 blocks of Pod addresses are taken by other node agents of this machine")
        self._free = list(range(1, 255))

    def take(self) -> Address:
        number = self._free.pop(0)
        return Address(reported=f"198.18.{self.block}.{number}", bound=f"127.18.{self.block}.{number}")

    def give_back(self, address: Address) -> None:
        self._free.append(int(address.bound.rpartition(".")[2]))


class ClusterLookup:
    """What Pods read from the cluster, with the agent's credentials."""

    def __init__(self, cluster: KubeJson) -> None:
        self._cluster = cluster

    async def data(self, kind: str, namespace: str, name: str) -> dict[str, bytes] | None:
        try:
            item = await self._cluster.request("GET", f"/api/v1/namespaces/{namespace}/{kind}/{name}")
        except ApiException as refused:
            if refused.status == NOT_FOUND:
                return None
            raise
        return decoded(item, kind)

    async def token(self, pod: Json, seconds: int, audience: str | None) -> str:
        metadata = pod["metadata"]
        account = pod["spec"].get("serviceAccountName") or "default"
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        spec = {"expirationSeconds": seconds, "boundObjectRef": bound, "audiences": [audience] if audience else []}
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        try:
            return (await self._cluster.request("POST", path, body))["status"]["token"]
        except ApiException as refused:
            raise NotYet(f"no token for service account {account}: {refused.body}") from refused


class NodeAgentProgram:
    """All Nodes of one agent, and a task for each Pod bound to them."""

    def __init__(self, cluster: KubeJson, nodes: list[Json], folder: Path, search_path: str, delay: float) -> None:
        self._cluster, self._nodes, self._folder = cluster, nodes, folder
        self._names = {node["metadata"]["name"] for node in nodes}
        self._search_path, self._delay = search_path, delay
        self._addresses = Addresses()
        self._lookup = ClusterLookup(cluster)
        self._pods: dict[str, PodProcess] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Registers the nodes, says so on standard output, then works until cancelled."""
        port = await serve_logs(self._folder)
        for node in self._nodes:
            await self._register(node, port)
            group.create_task(self._renew_lease(node["metadata"]["name"]))
        group.create_task(self._watch_pods(group))
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    async def _register(self, node: Json, port: int) -> None:
        name = node["metadata"]["name"]
        with contextlib.suppress(ApiException):  # it is there already when an agent comes back
            await self._cluster.request("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", **node})
        moment = datetime.datetime.now(datetime.UTC).isoformat()
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "processes of this machine"}
        nothing = ("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "kubeProxyVersion")
        status = {
            "capacity": node["status"]["capacity"],
            "allocatable": node["status"]["capacity"],
            "conditions": [{**ready, "lastHeartbeatTime": moment, "lastTransitionTime": moment}],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "nodeInfo": {
                **dict.fromkeys(nothing, ""),
                "containerRuntimeVersion": "process://1",
                "kubeletVersion": "v1.34.2",
                "operatingSystem": "linux",
                "architecture": "amd64",
            },
        }
        await self._cluster.request("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, STRATEGIC)

    async def _renew_lease(self, name: str) -> None:
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        while True:
            moment = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            spec = {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": moment}
            metadata = {"name": name, "namespace": "kube-node-lease"}
            try:
                await self._cluster.request("PATCH", f"{path}/{name}", {"spec": spec}, STRATEGIC)
            except ApiException as refused:
                if refused.status == NOT_FOUND:
                    await self._cluster.request("POST", path, {"metadata": metadata, "spec": spec})
            except ClientError:  # an API server that is away for a moment; the lease outlives three missed renewals
                traceback.print_exc()
            await asyncio.sleep(RENEW_EVERY)

    async def _watch_pods(self, group: asyncio.TaskGroup) -> None:
        query = [("fieldSelector", "spec.nodeName!=")]
        async for event, item in self._cluster.list_then_watch("/api/v1/pods", query):
            if event == "LISTED":
                there = {pod["metadata"]["uid"] for pod in item["items"]}
                for uid in self._pods.keys() - there:
                    self._pods[uid].stop(0)
                for pod in item["items"]:
                    self._consider(pod, group)
            elif event == "DELETED":
                if running := self._pods.get(item["metadata"]["uid"]):
                    running.stop(0)
            else:
                self._consider(item, group)

    def _consider(self, pod: Json, group: asyncio.TaskGroup) -> None:
        """Starts a Pod that is new, stops one that is to be deleted. Called for every event; a repeat does nothing."""
        uid = pod["metadata"]["uid"]
        if pod["spec"].get("nodeName") not in self._names:
            return
        if uid not in self._tasks:
            self._tasks[uid] = group.create_task(self._live_or_say_why(pod))
        if pod["metadata"].get("deletionTimestamp") and (running := self._pods.get(uid)):
            running.stop(pod["metadata"].get("deletionGracePeriodSeconds") or 0)

    async def _live_or_say_why(self, pod: Json) -> None:
        """One Pod's trouble with the API server must not end the others; the agent's log tells it."""
        try:
            await self._live(pod)
        except (ApiException, ClientError):
            sys.stderr.write(f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']} was given up:\n")
            traceback.print_exc()

    async def _live(self, pod: Json) -> None:
        """One Pod from its binding to its removal."""
        metadata = pod["metadata"]
        uid, path = metadata["uid"], f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        ended = (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}  # under an agent before this one
        if not ended and not metadata.get("deletionTimestamp"):
            changed = asyncio.Event()
            address = self._addresses.take()
            process = PodProcess(
                pod=pod,
                folder=pod_folder(self._folder, metadata["namespace"], metadata["name"], uid),
                address=address,
                lookup=self._lookup,
                search_path=self._search_path,
                server=self._cluster.server,
                changed=changed.set,
                restart_delay=self._delay,
            )
            self._pods[uid] = process
            changed.set()
            running = asyncio.create_task(process.run())
            try:
                await self._report_until_end(path, process, changed, running)
            finally:
                if not running.done():
                    process.stop(0)
                    await running
                del self._pods[uid]
                self._addresses.give_back(address)
        await self._remove_when_deleted(path, uid)

    async def _report_until_end(
        self, path: str, process: PodProcess, changed: asyncio.Event, running: "asyncio.Task[None]"
    ) -> None:
        """Writes each new status; several changes while one is written become one."""
        uid = process.pod["metadata"]["uid"]
        while not running.done() or changed.is_set():
            await changed.wait()
            changed.clear()
            body = {"metadata": {"uid": uid}, "status": process.status()}
            try:
                await self._cluster.request("PATCH", f"{path}/status", body, STRATEGIC)
            except ApiException as refused:
                if refused.status not in {NOT_FOUND, CONFLICT}:  # gone, or another Pod of that name: nobody to tell
                    raise
            await asyncio.sleep(0)  # lets `running` be done when the last change came from its end
        await running

    async def _remove_when_deleted(self, path: str, uid: str) -> None:
        """An ended Pod stays until somebody deletes it; then its kubelet has the last word."""
        while True:
            try:
                pod = await self._cluster.request("GET", path)
                if pod["metadata"]["uid"] != uid:
                    return
                if pod["metadata"].get("deletionTimestamp"):
                    options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
                    await self._cluster.request(
                        "DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", **options}
                    )
                    return
            except ApiException as refused:
                if refused.status in {NOT_FOUND, CONFLICT}:
                    return
                raise
            await asyncio.sleep(0.5)


def pod_folder(folder: Path, namespace: str, name: str, uid: str) -> Path:
    return folder / "pods" / f"{namespace}_{name}_{uid}"


async def main() -> None:
    parser = argparse.ArgumentParser(description="Registers Nodes and runs their Pods as processes of this machine.")
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--nodes", type=Path, required=True, help="a JSON list of Node objects with status.capacity")
    parser.add_argument("--folder", type=Path, required=True, help="logs and volumes of the Pods")
    parser.add_argument(
        "--restart-delay", type=float, default=1.0, help="seconds before the second restart; it doubles"
    )
    options = parser.parse_args()
    search_path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"])
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    nodes = json.loads(options.nodes.read_text())
    async with await KubeJson.connect(options.kubeconfig) as cluster:
        program = NodeAgentProgram(cluster, nodes, options.folder, search_path, options.restart_delay)
        try:
            async with asyncio.TaskGroup() as group:
                await program.run(group)
                await stopped.wait()
                raise asyncio.CancelledError
        except asyncio.CancelledError:
            pass


if __name__ == "__main__":
    asyncio.run(main())
