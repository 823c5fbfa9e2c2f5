"""Operators as processes, several where one is to take over from another, in a namespace of their own."""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from controlplane.cluster import ControlPlane, restricted_namespace
from controlplane.tethered import tethered

LEASE_SECONDS = 10.0  # the default
KINDS = "inferenceengines,engineplans,jobs,deployments,services"


class Replicas:
    """Operators as processes of their own, for one namespace and with a Lease of that name."""

    def __init__(self, plane: ControlPlane, folder: Path, *, builds: Path) -> None:
        self.plane, self.folder, self._builds = plane, folder, builds
        self.namespace = f"leaders-{secrets.token_hex(4)}"
        self.processes: list[subprocess.Popen[bytes]] = []
        plane.apply(restricted_namespace(self.namespace))
        (folder / "model.onnx").write_text("a model")

    def start(self, *, kubeconfig: Path | None = None, **more: str) -> int:
        """Another replica, with another way to the API server or more settings where they are given; its number."""
        number = len(self.processes)
        settings = {
            "OPERATOR_NAMESPACE": self.namespace,
            "WATCH_NAMESPACES": json.dumps([self.namespace]),
            "ALLOW_FILE_URIS": "true",
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "METRICS_PORT": "0",
            "HEALTH_PORT": "0",
        } | more
        environment = os.environ | {f"ENGINEWRIGHT_OPERATOR_{name}": value for name, value in settings.items()}
        environment["KUBECONFIG"] = str(kubeconfig or self.plane.kubeconfig)
        with (self.folder / f"{number}.log").open("w") as log:
            command = tethered([sys.executable, "-m", "enginewright_operator"])
            self.processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return number

    @property
    def held(self) -> Path:
        """While there is this file, builds that begin do not end."""
        return self._builds.parent / self.namespace

    def built(self) -> list[str]:
        """The digest of each build that ended, in order."""
        noted = [line.split() for line in self._builds.read_text().splitlines()]
        return [digest for namespace, digest in noted if namespace == self.namespace]

    def log(self, number: int) -> str:
        """What it said so far."""
        return (self.folder / f"{number}.log").read_text()

    def apply(self, name: str, *, gpu_class: str = "cpu", model: str = "model.onnx", **more: Any) -> None:
        """An engine of that class, with more in its spec where it is given; of another model it is another plan."""
        spec = {
            "model": {"uri": f"file://{self.folder}/{model}"},
            "targets": [{"gpuClass": gpu_class}],
            "storage": {"uri": f"file://{self.folder}/store"},
        } | more
        manifest = {"apiVersion": "enginewright.dev/v1alpha1", "kind": "InferenceEngine", "metadata": {"name": name}}
        self.plane.apply(manifest | {"spec": spec}, self.namespace)

    def seen(self, name: str) -> bool:
        """Whether an operator has looked at the engine."""
        return bool(self.status(name).get("observedGeneration", -1) > 0)

    def status(self, name: str) -> dict[str, Any]:
        """The engine's status."""
        engine: Any = self.plane.get("inferenceengine", name, self.namespace) or {}
        return engine.get("status") or {}

    def ready(self, name: str) -> bool:
        """Whether it is ready."""
        return bool(self.condition(name, "Ready", "True"))

    def condition(self, name: str, kind: str, status: str) -> dict[str, Any]:
        """The engine's condition of this type where it has this status; else nothing."""
        rows = self.status(name).get("conditions", ())
        return next((row for row in rows if (row["type"], row["status"]) == (kind, status)), {})

    def versions(self) -> dict[str, str]:
        """The resourceVersion of each object: another one tells of a write."""
        listed = json.loads(self.plane.kubectl("get", KINDS, "--namespace", self.namespace, "--output=json"))
        return {
            f"{each['kind']}/{each['metadata']['name']}": each["metadata"]["resourceVersion"]
            for each in listed["items"]
        }
