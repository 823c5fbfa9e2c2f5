"""A kubelet that runs nothing: builds end at once with a result, serving pods are ready at once.

For what is about the operator and not about builds: benchmarks with thousands of engines, and campaigns of hundreds of
faults. A program of its own, so that its processor time is not counted as anybody else's. With --builds it notes each
build there and writes its plan, which then is the name of its digest, where that is to go; a build runs for as long as
there is a file of its namespace's name beside that one.

    python -m controlplane.stub_kubelet KUBECONFIG [--builds FILE]
"""

import argparse
import asyncio
import contextlib
import datetime
import sys
from pathlib import Path

from controlplane.kube_json import STRATEGIC, Json, KubeJson
from kubernetes.aio.client import ApiException

from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.request import REQUEST_VARIABLE, BuildRequest, BuildResult

NODES = ("stub-0", "stub-1")
CAPACITY = {"cpu": "100000", "memory": "1000Ti", "pods": "20000", "ephemeral-storage": "10000Ti"}
WORKERS = 16
RENEW_EVERY = 10.0
HELD_FOR = 0.5  # seconds between two looks at whether a build may end
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def register(cluster: KubeJson, name: str) -> None:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    await cluster.request("POST", "/api/v1/nodes", node)
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Stub",
        "lastHeartbeatTime": now(),
        "lastTransitionTime": now(),
    }
    status = {"capacity": CAPACITY, "allocatable": CAPACITY, "conditions": [ready]}
    await cluster.request("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, STRATEGIC)


async def renew(cluster: KubeJson, name: str) -> None:
    """The node's heartbeat: without it the node counts as lost after a while."""
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}}
    while True:
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now()}
        with contextlib.suppress(ApiException):
            try:
                await cluster.request("PATCH", f"{LEASES}/{name}", {"spec": spec}, "application/merge-patch+json")
            except ApiException as refused:
                if refused.status != 404:
                    raise
                await cluster.request("POST", LEASES, body | {"spec": spec})
        await asyncio.sleep(RENEW_EVERY)


def container(pod: Json, state: Json, *, ready: bool) -> Json:
    """What the status says of the pod's one container."""
    spec = pod["spec"]["containers"][0]
    row = {"name": spec["name"], "image": spec["image"], "imageID": "", "restartCount": 0}
    return row | {"ready": ready, "state": state}


def building(pod: Json) -> Json:
    """The status of a build's pod that has not ended."""
    running = {"running": {"startedAt": now()[:19] + "Z"}}
    return {"phase": "Running", "containerStatuses": [container(pod, running, ready=True)]}


def ended(pod: Json) -> Json:
    """The status of a build's pod that built its plan in no time."""
    result = BuildResult(outcome=Outcome.DONE.name, message="Built by the stub.", plan_bytes=1, seconds=0.001)
    state = {"exitCode": 0, "reason": "Completed", "message": result.to_termination_message()}
    state |= {"startedAt": now()[:19] + "Z", "finishedAt": now()[:19] + "Z"}
    return {"phase": "Succeeded", "containerStatuses": [container(pod, {"terminated": state}, ready=False)]}


def serving(pod: Json) -> Json:
    """The status of a serving pod that is ready."""
    running = {"running": {"startedAt": now()[:19] + "Z"}}
    kinds = ("Initialized", "ContainersReady", "Ready")
    return {
        "phase": "Running",
        "startTime": now()[:19] + "Z",
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": now()[:19] + "Z"} for kind in kinds],
        "containerStatuses": [container(pod, running, ready=True)],
    }


def build(pod: Json, builds: Path) -> None:
    """Note a build, and leave its plan, if nobody was first, as a builder would."""
    variables = {row["name"]: row.get("value", "") for row in pod["spec"]["containers"][0]["env"]}
    request = BuildRequest.from_json(variables[REQUEST_VARIABLE].replace("$$", "$"))
    with builds.open("a") as log:
        log.write(f"{pod['metadata']['namespace']} {request.recipe.digest}\n")
    destination = Path(request.destination.removeprefix("file://"))
    destination.parent.mkdir(parents=True, exist_ok=True)
    destination.write_text(request.recipe.digest)


async def attend(cluster: KubeJson, pod: Json, builds: Path | None) -> bool:
    """What a kubelet would do next for this pod; whether to look at it again."""
    metadata = pod["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
    with contextlib.suppress(ApiException):  # gone meanwhile
        if metadata.get("deletionTimestamp"):
            options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
            await cluster.request("DELETE", path, options)
        elif pod["status"].get("phase") == "Pending":
            job = any(owner["kind"] == "Job" for owner in metadata.get("ownerReferences") or ())
            held = job and builds is not None and (builds.parent / metadata["namespace"]).exists()
            if job and builds and not held:
                await cluster.request("GET", path)  # its node may be gone meanwhile, and it with that
                build(pod, builds)
            status = building(pod) if held else ended(pod) if job else serving(pod)
            await cluster.request("PATCH", f"{path}/status", {"status": status}, STRATEGIC)
            return held
    return False


async def main(kubeconfig: Path, builds: Path | None) -> None:
    pods: asyncio.Queue[Json] = asyncio.Queue()

    async def work() -> None:
        while True:
            pod = await pods.get()
            if await attend(cluster, pod, builds):
                asyncio.get_running_loop().call_later(HELD_FOR, pods.put_nowait, pod)

    async with await KubeJson.connect(kubeconfig) as cluster, asyncio.TaskGroup() as group:
        for name in NODES:
            await register(cluster, name)
            group.create_task(renew(cluster, name))
        for _ in range(WORKERS):
            group.create_task(work())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        async for kind, item in cluster.list_then_watch("/api/v1/pods", [("fieldSelector", "spec.nodeName!=")]):
            found = item["items"] if kind == "LISTED" else [item] if kind != "DELETED" else []
            for pod in found:
                pods.put_nowait(pod)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Registers two Nodes and ends or readies their Pods at once.")
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("--builds", type=Path, help="note each build in this file, and write its plan")
    options = parser.parse_args()
    asyncio.run(main(options.kubeconfig, options.builds))
