"""A control plane of the campaign's own: the operators here run inside the test, and no other one may be about."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from campaign.lifecycle import StubPlane
from campaign.replicas import Replicas
from campaign.watches import WatchProxy
from controlplane.cluster import ControlPlane
from controlplane.tethered import tethered

TESTS = Path(__file__).resolve().parents[2]
CRDS = TESTS.parent / "crds"
CPU = {
    "apiVersion": "enginewright.dev/v1alpha1",
    "kind": "GPUClass",
    "metadata": {"name": "cpu"},
    "spec": {"kind": "cpu"},
}


@pytest.fixture(scope="session")
def stub_plane(programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubPlane]:
    """A control plane whose pods are ready, and whose builds are done, at once."""
    builds = tmp_path_factory.mktemp("campaign") / "builds"
    builds.touch()
    with ControlPlane(programs=programs, crds=sorted(CRDS.glob("*.yaml"))) as plane:
        plane.apply(CPU)
        command = [sys.executable, "-m", "controlplane.stub_kubelet", str(plane.kubeconfig), "--builds", str(builds)]
        environment = os.environ | {"PYTHONPATH": str(TESTS)}
        with subprocess.Popen(tethered(command), stdout=subprocess.PIPE, env=environment) as kubelet:
            try:
                assert kubelet.stdout
                assert kubelet.stdout.readline() == b"ready\n"
                folder = tmp_path_factory.mktemp("watches")
                with WatchProxy(plane, folder) as watches, pytest.MonkeyPatch.context() as patch:
                    patch.setenv("KUBECONFIG", str(watches.kubeconfig))  # where kopf looks for its credentials
                    yield StubPlane(plane=plane, builds=builds, watches=watches)
            finally:  # else leaving would wait for it for ever
                kubelet.kill()


@pytest.fixture
def replicas(stub_plane: StubPlane, tmp_path: Path) -> Iterator[Replicas]:
    """None running yet."""
    made = Replicas(stub_plane.plane, tmp_path, builds=stub_plane.builds)
    yield made
    for process in made.processes:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()
    made.plane.kubectl("delete", "namespace", made.namespace, "--wait=false")
