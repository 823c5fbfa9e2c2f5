"""Two replicas: one writes. The other takes over within 15 s, and a leader that comes back writes nothing."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from controlplane.cluster import ControlPlane
from controlplane.tethered import tethered

pytestmark = pytest.mark.cluster

LEASE_SECONDS = 10.0  # the default
HAND_OVER = 15.0
KINDS = "inferenceengines,engineplans,jobs,deployments,services"


class Replicas:
    """Operators as processes of their own, for one namespace and with a Lease of that name."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane, self.folder = plane, folder
        self.namespace = f"leaders-{secrets.token_hex(4)}"
        self.processes: list[subprocess.Popen[bytes]] = []
        plane.kubectl("create", "namespace", self.namespace)
        (folder / "model.onnx").write_text("a model")

    def start(self) -> int:
        """Another replica; its number."""
        number = len(self.processes)
        settings = {
            "OPERATOR_NAMESPACE": self.namespace,
            "WATCH_NAMESPACES": json.dumps([self.namespace]),
            "ALLOW_FILE_URIS": "true",
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "METRICS_PORT": "0",
            "HEALTH_PORT": "0",
        }
        environment = os.environ | {f"ENGINEWRIGHT_OPERATOR_{name}": value for name, value in settings.items()}
        environment["KUBECONFIG"] = str(self.plane.kubeconfig)
        with (self.folder / f"{number}.log").open("w") as log:
            command = tethered([sys.executable, "-m", "enginewright_operator"])
            self.processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return number

    def log(self, number: int) -> str:
        return (self.folder / f"{number}.log").read_text()

    def apply(self, name: str) -> None:
        spec = {
            "model": {"uri": f"file://{self.folder}/model.onnx"},
            "targets": [{"gpuClass": "cpu"}],
            "storage": {"uri": f"file://{self.folder}/store"},
        }
        manifest = {"apiVersion": "enginewright.dev/v1alpha1", "kind": "InferenceEngine", "metadata": {"name": name}}
        self.plane.apply(manifest | {"spec": spec}, self.namespace)

    def seen(self, name: str) -> bool:
        engine: Any = self.plane.get("inferenceengine", name, self.namespace) or {}
        return bool((engine.get("status") or {}).get("observedGeneration", 0) > 0)

    def ready(self, name: str) -> bool:
        engine: Any = self.plane.get("inferenceengine", name, self.namespace) or {}
        rows = (engine.get("status") or {}).get("conditions", ())
        return any((row["type"], row["status"]) == ("Ready", "True") for row in rows)

    def versions(self) -> dict[str, str]:
        """The resourceVersion of each object: another one tells of a write."""
        listed = json.loads(self.plane.kubectl("get", KINDS, "--namespace", self.namespace, "--output=json"))
        return {
            f"{each['kind']}/{each['metadata']['name']}": each["metadata"]["resourceVersion"]
            for each in listed["items"]
        }


@pytest.fixture
def replicas(stub_plane: tuple[ControlPlane, Path], tmp_path: Path) -> Iterator[Replicas]:
    """None running yet."""
    made = Replicas(stub_plane[0], tmp_path)
    yield made
    for process in made.processes:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()
    made.plane.kubectl("delete", "namespace", made.namespace, "--wait=false")


def test_a_leader_that_is_stopped_is_replaced_in_time_and_writes_nothing_when_it_goes_on(
    replicas: Replicas, eventually: Callable[..., Any]
) -> None:
    zombie = replicas.start()
    eventually(lambda: "leads" in replicas.log(zombie), 30)
    replicas.start()
    replicas.apply("first")
    eventually(lambda: replicas.ready("first"), 60)
    time.sleep(2)  # the second replica has seen the Lease

    replicas.processes[zombie].send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    replicas.apply("second")
    eventually(lambda: replicas.seen("second"), 40)
    assert time.monotonic() - stopped <= HAND_OVER

    eventually(lambda: replicas.ready("second"), 60)
    time.sleep(2)
    before = replicas.versions()
    replicas.processes[zombie].send_signal(signal.SIGCONT)
    assert replicas.processes[zombie].wait(30) is not None, "it ends, for its Deployment to begin it anew"
    assert "leads no more" in replicas.log(zombie)
    time.sleep(1)
    assert replicas.versions() == before


def test_a_leader_that_ends_hands_over_at_once(replicas: Replicas, eventually: Callable[..., Any]) -> None:
    first = replicas.start()
    eventually(lambda: "leads" in replicas.log(first), 30)
    second = replicas.start()
    time.sleep(4)
    replicas.processes[first].send_signal(signal.SIGTERM)
    replicas.processes[first].wait(30)
    began = time.monotonic()
    replicas.apply("engine")
    eventually(lambda: replicas.seen("engine"), 30)
    assert time.monotonic() - began < LEASE_SECONDS, "the Lease was given up: nobody waits for its end"
    assert "leads" in replicas.log(second)
