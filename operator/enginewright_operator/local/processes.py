"""Rendered manifests as running processes: a Job to its end, a Deployment's pod until it is told to stop.

A build's own progress goes straight to standard error; a server's log goes to a file, whose end is shown if it fails.
Nothing started here may outlive the one who started it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import FrameType
from typing import Any

from enginewright_operator.local import containers
from enginewright_operator.local.containers import LOOPBACK
from enginewright_operator.local.manifests import Manifests
from enginewright_runtime import errors
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.request import BuildResult

LOG_TAIL = 2000
OWN_VARIABLES = "ENGINEWRIGHT_"  # a container starts without those of the one who typed the command

_ERRORS: Mapping[Outcome, type[errors.EnginewrightError]] = {
    Outcome.USAGE: errors.UsageError,
    Outcome.BAD_MODEL: errors.ModelError,
    Outcome.UNSUPPORTED: errors.UnsupportedError,
    Outcome.GATE_FAILED: errors.GateError,
    Outcome.WRONG_DEVICE: errors.TargetMismatchError,
    Outcome.BAD_PLAN: errors.PlanError,
    Outcome.STORAGE_DENIED: errors.StorageDeniedError,
    Outcome.MODEL_CHANGED: errors.ModelChangedError,
    Outcome.STORAGE: errors.StorageError,
}


class LocalProcessError(errors.EnginewrightError):
    """A process of the manifest ended, hung or never became ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A serving process that is ready. `grace` is how long it may take to end, in seconds."""

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path
    grace: float

    def stop(self) -> int:
        """SIGTERM, and SIGKILL after the grace period; returns the exit code."""
        return end(self.process, self.grace)


def run_job(job: Mapping[str, Any], folder: Path, manifests: Manifests) -> BuildResult:
    """Run a Job's container to its end. Raises the error that its outcome stands for, with the builder's sentence."""
    container = containers.words_of(job["spec"]["template"]["spec"], folder, manifests)
    deadline = float(job["spec"]["activeDeadlineSeconds"])
    process = _start(container, stdout=sys.stderr.fileno(), stderr=sys.stderr.fileno(), own_session=False)
    try:
        code = process.wait(timeout=deadline)
    except subprocess.TimeoutExpired as error:
        raise LocalProcessError(
            f"The build {job['metadata']['name']} was stopped after {deadline:g} s, its deadline: raise "
            "spec.build.deadline, or lower spec.build.effort."
        ) from error
    finally:
        end(process, grace=10)
    text = container.termination_log.read_text(encoding="utf-8") if container.termination_log.exists() else ""
    result = BuildResult.from_termination_message(text)
    if code == Outcome.DONE and result is not None:
        return result
    name = job["metadata"]["name"]
    said = result.message if result else "it left no message; what it printed stands above"
    if code not in list(Outcome):
        raise LocalProcessError(f"The build {name} ended with exit code {code}: {said}")
    raise _ERRORS.get(Outcome(code), LocalProcessError)(said if result else f"The build {name} failed: {said}.")


def start_server(deployment: Mapping[str, Any], folder: Path, manifests: Manifests) -> Server:
    """Start the pod of a Deployment and wait until its readiness probe is answered. Raises LocalProcessError."""
    spec = deployment["spec"]
    pod = spec["template"]["spec"]
    container = containers.words_of(pod, folder, manifests)
    probe = pod["containers"][0]["readinessProbe"]["httpGet"]
    ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
    port = ports.get(probe["port"], probe["port"])
    log = folder / "log"
    with log.open("wb") as file:
        process = _start(container, stdout=file.fileno(), stderr=file.fileno(), own_session=True)
    server = Server(
        process=process, url=f"http://{LOOPBACK}:{port}", log=log, grace=float(pod["terminationGracePeriodSeconds"])
    )
    try:
        _wait_ready(server, port, probe["path"], deployment["metadata"]["name"], float(spec["progressDeadlineSeconds"]))
    except BaseException:
        server.stop()
        raise
    return server


def end(process: "subprocess.Popen[bytes]", grace: float) -> int:
    """SIGTERM, SIGKILL after `grace` seconds, the exit code; a process that has ended already is only asked for it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=grace)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Within it SIGTERM is what Ctrl-C is, so that everything that was started is ended on both."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _start(container: containers.Words, *, stdout: int, stderr: int, own_session: bool) -> "subprocess.Popen[bytes]":
    """`own_session`: Ctrl-C does not reach it, so that it drains when it is told to and not before."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OWN_VARIABLES)}
    beside = str(Path(sys.executable).parent)  # this installation's own `enginewright`, whatever else is on PATH
    inherited["PATH"] = f"{beside}{os.pathsep}{inherited.get('PATH', os.defpath)}"
    try:
        return subprocess.Popen(
            container.words,
            env=inherited | dict(container.environment),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=own_session,
        )
    except OSError as error:
        raise LocalProcessError(
            f"{container.words[0]!r} cannot be started ({error.strerror}): run pip install 'enginewright[all]' into "
            "this environment."
        ) from error


def _wait_ready(server: Server, port: int, path: str, name: str, deadline: float) -> None:
    stop_at = time.monotonic() + deadline
    while time.monotonic() < stop_at:
        if (code := server.process.poll()) is not None:
            raise LocalProcessError(f"{name} ended with exit code {code} before it was ready: {_tail(server.log)}")
        if _answers(port, path):
            return
        time.sleep(0.05)
    raise LocalProcessError(f"{name} was not ready after {deadline:g} s; the end of its log: {_tail(server.log)}")


def _answers(port: int, path: str) -> bool:
    connection = HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 400
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _tail(log: Path) -> str:
    text = log.read_bytes()[-LOG_TAIL:].decode(errors="replace").strip()
    return text.splitlines()[-1] if text else "it printed nothing"
