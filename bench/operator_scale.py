"""The operator with hundreds and thousands of engines, on the real kube-apiserver and its controllers.

Engines are applied, and what is measured is the time until all are Ready, the operator's own processor time and memory,
how soon one change shows in its status, and how long a new process takes to be where the old one was. Builds and pods
are ended by tests/controlplane/stub_kubelet.py; kube-apiserver, etcd, the controllers and the scheduler are the real
programs, and share this machine's processors with the operator. Beside the tests' settings of them (etcd without
fsync, kube-controller-manager's --kube-api-qps=200) they run with GOGC=400, as a control plane with memory to spare
may: kube-apiserver then uses a fifth less processor time.

    PYTHONPATH=tests python bench/operator_scale.py 100 500 1000 5000 [--json]
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import boto3
from controlplane.cluster import ControlPlane
from controlplane.kube_json import Json, KubeJson
from controlplane.ports import free_ports
from controlplane.tethered import tethered

REPOSITORY = Path(__file__).resolve().parent.parent
ENGINES = "/apis/enginewright.dev/v1alpha1/inferenceengines"
KEYS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret"}
MERGE = "application/merge-patch+json"
BUCKET = "models"
CHANGES = 200
WRITERS = 16
WITHIN = 1800.0
CONTROL_PLANE = {"GOGC": "400"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One size's figures. Seconds unless the name says otherwise; the load averages are over the last minute."""

    engines: int
    recipes: int
    ready: float
    cpu_to_ready: float
    idle_cpu_percent: float
    memory_mb: float
    peak_mb: float
    change_p50_ms: float
    change_p99_ms: float
    change_max_ms: float
    restart: float
    restart_cpu: float
    requests: int
    cpu_by_program: dict[str, float]  # until all are ready
    load_before: float
    load_after: float


def processor_time(process: int) -> float:
    """Seconds that a process of this machine has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Operator:
    """The operator as a process of its own, with what the kernel and its own metrics say of it."""

    def __init__(self, cluster: ControlPlane, folder: Path, resync: float) -> None:
        self._port = free_ports(1)[0]
        environment = os.environ | {
            "KUBECONFIG": str(cluster.kubeconfig),
            "ENGINEWRIGHT_OPERATOR_OPERATOR_NAMESPACE": "default",
            "ENGINEWRIGHT_OPERATOR_METRICS_PORT": str(self._port),
            "ENGINEWRIGHT_OPERATOR_HEALTH_PORT": "0",
            "ENGINEWRIGHT_OPERATOR_HOST": "127.0.0.1",
            "ENGINEWRIGHT_OPERATOR_RESYNC_SECONDS": str(resync),
        }
        with (folder / "operator.log").open("a") as log:
            command = tethered([sys.executable, "-m", "enginewright_operator"])
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(60)

    async def lives(self) -> None:
        """Never returns; raises RuntimeError when the process ends, which nobody begins anew here."""
        while self._process.poll() is None:
            await asyncio.sleep(1)
        raise RuntimeError("the operator ended")

    def cpu(self) -> float:
        """Seconds of processor time since it began."""
        return processor_time(self._process.pid)

    def memory_mb(self, row: str = "VmRSS") -> float:
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(row))

    def metric(self, name: str, label: str = "") -> float:
        """The sum of a metric's samples; -1 while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return -1.0
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name) and label in line)


@contextlib.contextmanager
def stub(command: list[str], said: bytes) -> Iterator[None]:
    """A helper process, ready when it has said so."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "tests")}
    process = subprocess.Popen(tethered(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    assert process.stdout
    try:
        if said:
            assert said in process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def storage(models: int) -> Iterator[str]:
    """An S3 server with so many models; its endpoint."""
    port = free_ports(1)[0]
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-c", f"from moto.server import main; main(['-p', '{port}'])"]
    process = subprocess.Popen(tethered(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test-key",
                          aws_secret_access_key="test-secret")  # fmt: skip
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), urllib.request.urlopen(endpoint, timeout=2):
                break
            time.sleep(0.1)
        client.create_bucket(Bucket=BUCKET)
        for number in range(models):
            client.put_object(Bucket=BUCKET, Key=f"{number}.onnx", Body=b"%d" % number)
        yield endpoint
    finally:
        client.close()
        process.kill()
        process.wait()


def engine(number: int, recipes: int, endpoint: str) -> Json:
    spec = {
        "model": {"uri": f"s3://{BUCKET}/{number % recipes}.onnx"},
        "targets": [{"gpuClass": "cpu"}],
        "storage": {"uri": f"s3://{BUCKET}", "endpoint": endpoint, "region": "us-east-1", "pathStyle": True,
                    "credentialsSecret": "store"},
    }  # fmt: skip
    metadata = {"name": f"e{number}", "namespace": f"team-{number % recipes % 10}"}
    return {"apiVersion": "enginewright.dev/v1alpha1", "kind": "InferenceEngine", "metadata": metadata, "spec": spec}


def path_of(manifest: Json) -> str:
    where = manifest["metadata"]
    return f"/apis/enginewright.dev/v1alpha1/namespaces/{where['namespace']}/inferenceengines/{where['name']}"


async def prepare(cluster: KubeJson) -> None:
    cpu = {"apiVersion": "enginewright.dev/v1alpha1", "kind": "GPUClass", "metadata": {"name": "cpu"}}
    await cluster.request("POST", "/apis/enginewright.dev/v1alpha1/gpuclasses", cpu | {"spec": {"kind": "cpu"}})
    for number in range(10):
        name = f"team-{number}"
        await cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        secret = {"metadata": {"name": "store"}, "stringData": KEYS}
        await cluster.request("POST", f"/api/v1/namespaces/{name}/secrets", secret)


async def create(cluster: KubeJson, manifests: list[Json]) -> None:
    waiting = iter(manifests)

    async def write() -> None:
        for manifest in waiting:
            await cluster.request("POST", path_of(manifest).rsplit("/", 1)[0], manifest)

    await asyncio.gather(*(write() for _ in range(WRITERS)))


def ready(item: Json) -> bool:
    rows = (item.get("status") or {}).get("conditions", ())
    return any(row["type"] == "Ready" and row["status"] == "True" for row in rows)


async def events(cluster: KubeJson) -> AsyncIterator[Json]:
    async for kind, item in cluster.list_then_watch(ENGINES, [("limit", "0")]):
        for each in item["items"] if kind == "LISTED" else [item]:
            yield each


async def all_ready(cluster: KubeJson, count: int) -> None:
    seen: set[str] = set()
    async with asyncio.timeout(WITHIN):
        async for item in events(cluster):
            if ready(item):
                seen.add(item["metadata"]["uid"])
            if len(seen) == count:
                return


async def changes(cluster: KubeJson, manifests: list[Json]) -> list[float]:
    """Milliseconds from a change's request to the status that is of it, one change after another."""
    observed: dict[str, int] = {}
    news = asyncio.Event()

    async def follow() -> None:
        async for item in events(cluster):
            observed[path_of(item)] = (item.get("status") or {}).get("observedGeneration", 0)
            news.set()

    following = asyncio.create_task(follow())
    while len(observed) < len(manifests):
        await asyncio.sleep(0.1)
    took = []
    for number in range(CHANGES):
        path = path_of(manifests[number * 7 % len(manifests)])
        began = time.perf_counter()
        answer = await cluster.request("PATCH", path, {"spec": {"rollout": {"keepLast": 3 + number % 17}}}, MERGE)
        async with asyncio.timeout(60):
            while observed[path] < answer["metadata"]["generation"]:
                news.clear()
                await news.wait()
        took.append((time.perf_counter() - began) * 1e3)
    following.cancel()
    return took


def settled(operator: Operator, count: int, within: float = WITHIN) -> None:
    """Wait until the process has looked at every engine and nothing waits for a worker."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        looked = operator.metric("enginewright_operator_reconciles_total", 'kind="InferenceEngine"')
        if looked >= count and operator.metric("enginewright_operator_queue_depth") == 0:
            return
        time.sleep(1.0)
    raise TimeoutError("the operator did not come to rest")


async def measure(count: int, *, idle: float, resync: float) -> Row:
    recipes = max(1, count // 10)
    crds = sorted((REPOSITORY / "crds").glob("*.yaml"))
    load_before = os.getloadavg()[0]
    with ControlPlane(crds=crds, environment=CONTROL_PLANE) as plane, storage(recipes) as endpoint:
        kubelet = [sys.executable, "-m", "controlplane.stub_kubelet", str(plane.kubeconfig)]
        with stub(kubelet, b"ready"):
            async with await KubeJson.connect(plane.kubeconfig) as cluster:
                await prepare(cluster)
                manifests = [engine(number, recipes, endpoint) for number in range(count)]
                operator = Operator(plane, plane.folder, resync)
                began = time.monotonic()
                guard = asyncio.create_task(operator.lives())
                applied = asyncio.gather(create(cluster, manifests), all_ready(cluster, count))
                await asyncio.wait({guard, applied}, return_when=asyncio.FIRST_COMPLETED)
                if guard.done():
                    applied.cancel()
                    guard.result()
                await applied
                guard.cancel()
                took, cpu = time.monotonic() - began, operator.cpu()
                programs = {name: processor_time(each.pid) for name, each in plane.processes.items()}
                programs["this program"] = time.process_time()
                peak = operator.memory_mb("VmHWM")
                await asyncio.sleep(15)  # the last events of the rollouts
                before = operator.cpu()
                await asyncio.sleep(idle)
                idle_percent = (operator.cpu() - before) / idle * 100
                times = sorted(await changes(cluster, manifests))
                memory = operator.memory_mb()
                requests = operator.metric("enginewright_operator_api_requests_total")
                operator.end()
                restarted = time.monotonic()
                operator = Operator(plane, plane.folder, resync)
                await asyncio.to_thread(settled, operator, count)
                restart, restart_cpu = time.monotonic() - restarted, operator.cpu()
                peak = max(peak, operator.memory_mb("VmHWM"))
                operator.end()
    return Row(
        engines=count, recipes=recipes, ready=took, cpu_to_ready=cpu, idle_cpu_percent=idle_percent, memory_mb=memory,
        peak_mb=peak, change_p50_ms=statistics.median(times), change_p99_ms=times[int(len(times) * 0.99) - 1],
        change_max_ms=times[-1], restart=restart, restart_cpu=restart_cpu, requests=int(requests),
        cpu_by_program=programs, load_before=load_before, load_after=os.getloadavg()[0],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the operator with so many engines.")
    parser.add_argument("sizes", nargs="+", type=int)
    parser.add_argument("--idle", type=float, default=60.0, help="seconds over which idle processor time is taken")
    parser.add_argument("--resync", type=float, default=300.0, help="the operator's resync period")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    rows = []
    for count in options.sizes:
        rows.append(asyncio.run(measure(count, idle=options.idle, resync=options.resync)))
        print(asdict(rows[-1]), file=sys.stderr, flush=True)
    machine = f"{os.cpu_count()} processors, {platform.platform()}, Python {platform.python_version()}"
    if options.json:
        print(json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    main()
