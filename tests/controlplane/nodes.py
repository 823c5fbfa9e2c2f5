"""Starts the node agent and describes the Nodes it registers."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from controlplane.kubelet_server import log_files
from controlplane.tethered import tethered

TESTS = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Labels and capacity as a cluster with GPU Feature Discovery and the NVIDIA device plugin shows them."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    capacity: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()

    def manifest(self) -> dict[str, object]:
        usual = {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
        capacity = {"cpu": "64", "memory": "256Gi", "pods": "110", "ephemeral-storage": "1Ti"}
        return {
            "metadata": {"name": self.name, "labels": {**usual, **self.labels}},
            "spec": {"taints": [dict(taint) for taint in self.taints]},
            "status": {"capacity": {**capacity, **self.capacity}},
        }


def gpu_node(name: str, *, product: str, compute: str, memory_mib: int, count: int) -> Node:
    """A node with `count` whole GPUs, labelled as GPU Feature Discovery does; `compute` is like "9.0"."""
    major, _, minor = compute.partition(".")
    labels = {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.count": str(count),
        "nvidia.com/gpu.memory": str(memory_mib),
        "nvidia.com/gpu.compute.major": major,
        "nvidia.com/gpu.compute.minor": minor,
        "nvidia.com/mig.strategy": "single",
    }
    return Node(name=name, labels=labels, capacity={"nvidia.com/gpu": str(count)})


class NodeAgent:
    """Context manager: inside it the nodes are registered and their Pods run; leaving it ends all of them.

    Logs and volumes stay in `folder`; without one a temporary folder is used and removed.
    """

    def __init__(self, *, kubeconfig: Path, nodes: Sequence[Node], folder: Path | None = None) -> None:
        self._kept = folder is not None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="enginewright-nodes-"))
        self._kubeconfig, self._nodes = kubeconfig, nodes
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "NodeAgent":
        self.folder.mkdir(parents=True, exist_ok=True)
        nodes = self.folder / "nodes.json"
        nodes.write_text(json.dumps([node.manifest() for node in self._nodes]))
        files = ["--kubeconfig", str(self._kubeconfig), "--nodes", str(nodes), "--folder", str(self.folder)]
        # SIGTERM, not SIGKILL, when we die: the agent then ends what its Pods have started.
        command = [sys.executable, "-m", "controlplane.node_agent", *files]
        with (self.folder / "agent.log").open("w") as log:
            self._process = subprocess.Popen(
                tethered(command, on_parent_death=15), cwd=TESTS, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdout
        if self._process.stdout.readline() != "ready\n":
            self._end()
            raise RuntimeError(f"the node agent did not start: {self.agent_log()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        if not self._kept:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self) -> None:
        if self._process and self._process.stdout:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()

    def agent_log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def logs(self, namespace: str, pod: str, container: str | None = None) -> str:
        """What the Pod's containers (or the named one) wrote, all runs, oldest first; "" where there is none."""
        return "".join(
            path.read_text(errors="replace") for path in log_files(self.folder, namespace, pod, container or "*")
        )

    def all_logs(self, namespace: str = "*", characters: int = 3000) -> str:
        """The tail of every Pod's log, for a failed test's report."""
        logs = sorted(self.folder.glob(f"pods/{namespace}_*/*/*.log"))
        return "\n".join(
            f"--- {log.relative_to(self.folder)}\n{log.read_text(errors='replace')[-characters:]}" for log in logs
        )
