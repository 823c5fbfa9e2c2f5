"""A real Kubernetes control plane as four local processes, for tests and the demo.

etcd, kube-apiserver (RBAC, Pod Security, CEL), kube-controller-manager and kube-scheduler are the real programs; what
is not here is a node: `node_agent.py` stands in for that. It must never leave a process behind (all four are tethered
to the one that started them) and never touch a kubeconfig of the person who runs it.
"""

import base64
import json
import os
import secrets
import shutil
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType

import yaml
from controlplane.binaries import find
from controlplane.certificates import Certificates, write_certificates
from controlplane.ports import free_ports
from controlplane.tethered import tethered

READY_WITHIN = 300.0  # seconds; 2 to 4 are usual, the rest is for a busy machine
PORT_ATTEMPTS = 3
RESOURCES = {  # that `get` knows: the group's path, and the plural
    "pod": ("api/v1", "pods"),
    "service": ("api/v1", "services"),
    "serviceaccount": ("api/v1", "serviceaccounts"),
    "job": ("apis/batch/v1", "jobs"),
    "deployment": ("apis/apps/v1", "deployments"),
    "poddisruptionbudget": ("apis/policy/v1", "poddisruptionbudgets"),
    "resourceclaimtemplate": ("apis/resource.k8s.io/v1", "resourceclaimtemplates"),
    "httproute": ("apis/gateway.networking.k8s.io/v1", "httproutes"),
    "inferenceengine": ("apis/enginewright.dev/v1alpha1", "inferenceengines"),
    "engineplan": ("apis/enginewright.dev/v1alpha1", "engineplans"),
}


def restricted_namespace(name: str) -> dict[str, object]:
    """A Namespace that enforces the restricted Pod Security Standard."""
    mode = "pod-security.kubernetes.io/enforce"
    labels = {mode: "restricted", f"{mode}-version": "latest"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


class ControlPlaneFailed(Exception):
    """A part of the control plane ended or never became ready; the message ends with its log's tail."""


class ControlPlane:
    """Context manager. Inside it `kubeconfig` is an administrator's; outside it nothing is left but kept logs.

    `folder` keeps data and logs where you say (they stay there); without it a temporary folder is used and removed.
    `crds` are files of CustomResourceDefinitions that are there before the controller manager: it looks for new kinds
    only twice a minute, and until then nothing owned by such a kind is garbage collected. `environment` is what the
    programs get beside this process's own, as GOGC. `processes` are what runs, by name.
    """

    def __init__(
        self,
        *,
        folder: Path | None = None,
        programs: Mapping[str, Path] | None = None,
        crds: Sequence[Path] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.programs = dict(programs or find())
        self._crds = crds
        self._environment = os.environ | dict(environment)
        self._kept = folder is not None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="enginewright-controlplane-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kubeconfig = self.folder / "kubeconfig"
        self.server = ""
        self._token = secrets.token_hex(16)
        self._certificates: Certificates = write_certificates(self.folder)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._tls = ssl.create_default_context(cafile=str(self._certificates.authority))

    def __enter__(self) -> "ControlPlane":
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                self._start()
            except ControlPlaneFailed:
                self._stop()
                if attempt == PORT_ATTEMPTS or "address already in use" not in self.logs():
                    raise
            except BaseException:
                self._stop()
                raise
            else:
                return self
        raise AssertionError("unreachable: the last attempt returns or raises")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if not self._kept:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)
        etcd_port, peer_port, api_port = free_ports(3)
        self.server = f"https://127.0.0.1:{api_port}"
        (self.folder / "tokens.csv").write_text(f"{self._token},admin,admin,system:masters\n")
        self.kubeconfig.write_text(self._kubeconfig("admin", self._token))
        self._run("etcd", *self._etcd_flags(etcd_port, peer_port))
        self._run("kube-apiserver", *self._apiserver_flags(etcd_port, api_port))
        self._wait_for("/readyz", "kube-apiserver")
        if self._crds:
            files = [f"--filename={path}" for path in self._crds]
            self.kubectl("apply", "--server-side", *files)
            self.kubectl("wait", "--for=condition=Established", "--timeout=300s", *files)
        self._run("kube-controller-manager", *self._controller_manager_flags())
        self._run("kube-scheduler", f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0")
        # The controller manager has begun its work when it has given the first namespace its service account.
        self._wait_for("/api/v1/namespaces/default/serviceaccounts/default", "kube-controller-manager")

    def _etcd_flags(self, client: int, peer: int) -> list[str]:
        return [
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",  # its data need not survive the machine
        ]

    def _apiserver_flags(self, etcd: int, port: int) -> list[str]:
        keys = self._certificates
        return [
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={keys.server}",
            f"--tls-private-key-file={keys.server_key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={keys.token_key}",
            f"--service-account-signing-key-file={keys.token_key}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",  # as clusters have it: what refuses a privileged Pod is Pod Security
            "--service-cluster-ip-range=10.0.0.0/16",
            "--endpoint-reconciler-type=none",  # it would try to publish 127.0.0.1 again and again, which is refused
            "--kubelet-preferred-address-types=InternalIP",  # `kubectl logs` reaches the node agent
        ]

    def _controller_manager_flags(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig}",
            f"--service-account-private-key-file={self._certificates.token_key}",
            f"--root-ca-file={self._certificates.authority}",
            "--use-service-account-credentials=true",  # each controller acts with its own RBAC, as in a real cluster
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=200",  # 20 by default, which makes a test with many objects wait for nothing
            "--kube-api-burst=400",
            "--node-monitor-period=1s",
            "--horizontal-pod-autoscaler-sync-period=2s",  # 15 by default
        ]

    def _run(self, name: str, *flags: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            command = tethered([str(self.programs[name]), *flags])
            self.processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self._environment,
            )

    def _wait_for(self, path: str, whose: str) -> None:
        deadline = time.monotonic() + READY_WITHIN
        request = urllib.request.Request(self.server + path, headers={"Authorization": f"Bearer {self._token}"})
        while time.monotonic() < deadline:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise ControlPlaneFailed(
                        f"{name} ended with exit code {process.returncode} while starting:\n{self.log_tail(name)}"
                    )
            try:
                with urllib.request.urlopen(request, timeout=60, context=self._tls):
                    return
            except urllib.error.HTTPError as refused:
                refused.close()
            except OSError:
                pass
            time.sleep(0.05)
        raise ControlPlaneFailed(f"{whose} was not ready within {READY_WITHIN:.0f} s:\n{self.log_tail(whose)}")

    def _stop(self) -> None:
        """Ends them in the reverse order of their start; etcd and the API server get no time to be polite."""
        for process in reversed(self.processes.values()):
            process.kill()
            process.wait()
        self.processes.clear()

    def _kubeconfig(self, user: str, token: str) -> str:
        authority = base64.b64encode(self._certificates.authority.read_bytes()).decode()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": self.server, "certificate-authority-data": authority}}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "current-context": "test",
        }
        return yaml.safe_dump(config)

    def kubeconfig_for(self, service_account: str, namespace: str) -> Path:
        """A kubeconfig that may do exactly what the service account's RBAC allows (through a TokenRequest)."""
        token = self.kubectl("create", "token", service_account, "--namespace", namespace, "--duration=24h").strip()
        path = self.folder / f"kubeconfig-{namespace}-{service_account}"
        path.write_text(self._kubeconfig(f"{namespace}:{service_account}", token))
        return path

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """kubectl as administrator: its standard output. A failure raises subprocess.CalledProcessError."""
        # Its own cache: the one in the home folder is keyed by port and might be of an earlier control plane.
        ours = [f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.folder / 'kubectl'}"]
        command = [str(self.programs["kubectl"]), *ours, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if check and done.returncode:
            failure = subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
            failure.add_note(done.stderr.strip())
            raise failure
        return done.stdout

    def helm(self, *arguments: str, stdin: str | None = None) -> str:
        """helm as administrator, with an empty home of its own: its standard output."""
        home = self.folder / "helm"
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "KUBECONFIG": str(self.kubeconfig),
            **{f"HELM_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")},
        }
        command = [str(self.programs["helm"]), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            failure = subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
            failure.add_note(done.stderr.strip())
            raise failure
        return done.stdout

    def apply(self, manifest: str | dict[str, object], namespace: str | None = None) -> None:
        """Server-side apply of a YAML text (any number of documents) or of one object."""
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        where = ("--namespace", namespace) if namespace else ()
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", *where, stdin=text)

    def get(self, kind: str, name: str, namespace: str) -> dict[str, object] | None:
        """One object as plain JSON, or None where there is none of that name.

        A request of our own: tests ask many times a second, and each kubectl takes a tenth of a second of a processor.
        """
        group, plural = RESOURCES[kind]
        url = f"{self.server}/{group}/namespaces/{namespace}/{plural}/{name}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self._token}"})
        try:
            with urllib.request.urlopen(request, timeout=120, context=self._tls) as answer:
                found: dict[str, object] = json.load(answer)
        except urllib.error.HTTPError as refused:
            refused.close()
            if refused.code == 404:
                return None
            raise
        return found

    def log_tail(self, name: str, characters: int = 3000) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace")[-characters:] if path.exists() else "(no log)"

    def logs(self) -> str:
        """The tails of all four logs, for a failed test's report."""
        return "\n".join(f"--- {name}\n{self.log_tail(name, 1000)}" for name in self.processes or self.programs)
