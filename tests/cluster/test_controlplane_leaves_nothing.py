"""Even a test run that is killed with SIGKILL leaves no process of the control plane, the agent or its Pods."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

HOLDER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from controlplane.cluster import ControlPlane
    from controlplane.nodes import Node, NodeAgent
    folder = Path(sys.argv[1])
    with ControlPlane(folder=folder) as cluster:
        with NodeAgent(kubeconfig=cluster.kubeconfig, nodes=[Node(name="one")], folder=folder / "nodes"):
            command = ["sh", "-c", "sleep 86399 & echo up; wait"]
            spec = {"containers": [{"name": "main", "image": "none", "command": command}]}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sleeper"}, "spec": spec}
            cluster.apply(pod, "default")
            print("started", flush=True)
            time.sleep(600)
    """
)


def processes_of(folder):
    """Ids of the processes that name the folder in their command line or work below it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            belongs = str(folder) in (entry / "cmdline").read_text() or str(folder) in str((entry / "cwd").readlink())
        except OSError:
            continue
        if belongs and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


@pytest.mark.usefixtures("control_plane")  # for its rule of skipping and failing
def test_sigkill_of_the_owner_ends_every_process(tmp_path, eventually):
    tests = Path(__file__).resolve().parent.parent
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        cwd=tests,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tests)},
    )
    try:
        assert owner.stdout.readline() == "started\n"
        eventually(lambda: any("up" in log.read_text() for log in tmp_path.glob("nodes/pods/*/main/*.log")))
        assert len(processes_of(tmp_path)) >= 7, "owner, four servers, agent, pod with its child"
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        owner.stdout.close()

    eventually(lambda: not processes_of(tmp_path), 15)
