"""`make demo-cluster`: the digits example through a real control plane, as a person would do it with helm and kubectl.

The API server, the scheduler, the controllers, the operator, the build Job and the serving Deployment are the real
ones; the node is the tests' agent, which runs containers as processes of this machine, and the object store is moto's.
"""

import base64
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import yaml
from controlplane import binaries
from controlplane.cluster import ControlPlane
from controlplane.nodes import Node, NodeAgent
from controlplane.service_proxy import ServiceProxy
from moto.server import ThreadedMotoServer
from rich.console import Console

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "examples" / "digits"
BUCKET, NAMESPACE, SYSTEM = "enginewright", "demo", "enginewright-system"
KEYS = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo-secret"}
READY_WITHIN = 120.0

console = Console()


def main() -> None:
    """Everything a person would do, said as it is done; exit code 0 only if the served answers came."""
    os.environ.update(KEYS, AWS_DEFAULT_REGION="us-east-1")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # moto's line for every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        say("starting etcd, kube-apiserver, kube-controller-manager and kube-scheduler")
        with ControlPlane(programs=binaries.build_missing()) as cluster:
            agent = NodeAgent(kubeconfig=cluster.kubeconfig, nodes=[Node(name="cpu-0")])
            with agent:
                try:
                    demonstrate(cluster, "http://{}:{}".format(*server.get_host_and_port()))
                except BaseException:
                    console.print(agent.all_logs(), markup=False, highlight=False)
                    raise
    finally:
        server.stop()


def demonstrate(cluster: ControlPlane, endpoint: str) -> None:
    """From an empty cluster and an empty bucket to served answers."""
    say("putting model.onnx and test.npz into the bucket")
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket=BUCKET)
    for name in ("model.onnx", "test.npz"):
        client.upload_file(str(EXAMPLE / name), BUCKET, f"digits/{name}")

    command("helm install enginewright charts/enginewright --namespace enginewright-system --create-namespace")
    cluster.helm(
        "install",
        "enginewright",
        str(REPOSITORY / "charts" / "enginewright"),
        "--namespace",
        SYSTEM,
        "--create-namespace",
    )

    command("kubectl apply -f credentials.yaml -f digits.yaml")
    for manifest in manifests(endpoint):
        cluster.apply(manifest)
    story(cluster)

    command(f"kubectl get ie,eplan,job,deployment,service,pod --namespace {NAMESPACE}")
    console.print(
        cluster.kubectl("get", "ie,eplan,job,deployment,service,pod", "--namespace", NAMESPACE),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    with ServiceProxy(kubeconfig=cluster.kubeconfig, namespace=NAMESPACE, service="digits") as proxy:
        say("asking the Service for the test images")
        subprocess.run(
            [sys.executable, str(EXAMPLE / "ask.py")], env=os.environ | {"ENGINEWRIGHT_URL": proxy.url}, check=True
        )
    command(f"kubectl delete ie digits --namespace {NAMESPACE}")
    cluster.kubectl("delete", "ie", "digits", "--namespace", NAMESPACE)
    wait_for_nothing(cluster, client)
    client.close()


def manifests(endpoint: str) -> list[dict[str, object]]:
    """The namespace, the Secret, and the example's own manifest with its files and its plans in the bucket."""
    engine = yaml.safe_load((EXAMPLE / "manifest.yaml").read_text())
    engine["metadata"]["namespace"] = NAMESPACE
    spec = engine["spec"]
    spec["model"]["uri"] = f"s3://{BUCKET}/digits/model.onnx"
    spec["gates"]["accuracy"]["data"] = f"s3://{BUCKET}/digits/test.npz"
    spec["storage"] = {"uri": f"s3://{BUCKET}", "endpoint": endpoint, "region": "us-east-1"}
    spec["storage"] |= {"pathStyle": True, "credentialsSecret": "store"}
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    encoded = {name: base64.b64encode(value.encode()).decode() for name, value in KEYS.items()}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store", "namespace": NAMESPACE}, "data": encoded},
        engine,
    ]


def story(cluster: ControlPlane) -> None:
    """Print the engine's Ready condition as it changes, until it is true."""
    deadline, last = time.monotonic() + READY_WITHIN, ""
    while time.monotonic() < deadline:
        status = (cluster.get("inferenceengine", "digits", NAMESPACE) or {}).get("status") or {}
        conditions = {row["type"]: row for row in status.get("conditions", [])}  # type: ignore[attr-defined]
        ready = conditions.get("Ready", {})
        line = f"{ready.get('reason', 'waiting for the operator')}: {ready.get('message', '')}".rstrip(": ")
        if line != last:
            console.print(f"  Ready={ready.get('status', 'Unknown'):7} {line}", markup=False, highlight=False)
            last = line
        if ready.get("status") == "True":
            return
        time.sleep(0.2)
    raise SystemExit(f"the engine was not ready within {READY_WITHIN:.0f} s:\n{json.dumps(status, indent=1)}")


def wait_for_nothing(cluster: ControlPlane, client: Any) -> None:
    """Wait until neither an object nor a plan file is left."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        left = cluster.kubectl("get", "eplan,deployment,job", "--namespace", NAMESPACE, "--output=name").split()
        listing = client.list_objects_v2(Bucket=BUCKET, Prefix="plans/")
        left += [entry["Key"] for entry in listing.get("Contents", [])]
        if not left:
            say("nothing is left: no plan, no Job, no Deployment, no file")
            return
        time.sleep(0.2)
    raise SystemExit(f"still there a minute after the engine was deleted: {', '.join(left)}")


def say(line: str) -> None:
    """One step, as it begins."""
    console.print(f"[bold]->[/bold] {line}")


def command(line: str) -> None:
    """The command that a person would type for what comes next."""
    console.print(f"[bold]$[/bold] {line}", highlight=False)


if __name__ == "__main__":
    main()
