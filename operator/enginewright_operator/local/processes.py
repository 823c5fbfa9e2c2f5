"""Rendered manifests as running processes: a Job to its end, a Deployment's pod until it is told to stop.

A build's own progress goes straight to standard error; a server's log goes to a file, whose end is shown if it fails.
Nothing started here may outlive the one who started it.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from enginewright_operator.local import containers, interrupts
from enginewright_operator.local.containers import LOOPBACK
from enginewright_operator.local.manifests import Manifests
from enginewright_runtime import errors
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.request import BuildResult

LOG_TAIL = 2000
CANNOT_LISTEN = "The server cannot listen on"  # how the server's last sentence begins where its port is taken
POLLING = 0.02  # seconds
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


class PortTakenError(LocalProcessError):
    """The server ended because another process listens on its port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A serving process."""

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path


def run_job(job: Mapping[str, Any], folder: Path, manifests: Manifests) -> BuildResult:
    """Run a Job's container to its end. Raises the error that its outcome stands for, with the builder's sentence."""
    container = containers.words_of(job["spec"]["template"]["spec"], folder, manifests)
    deadline = float(job["spec"]["activeDeadlineSeconds"])
    with ExitStack() as ends:
        process = _start(container, ends, grace=10, output=sys.stderr.fileno(), own_session=False)
        try:
            code = wait(process, deadline)
        except subprocess.TimeoutExpired as error:
            raise LocalProcessError(
                f"The build {job['metadata']['name']} was stopped after {deadline:g} s, its deadline: raise "
                "spec.build.deadline, or lower spec.build.effort."
            ) from error
    text = container.termination_log.read_text(encoding="utf-8") if container.termination_log.exists() else ""
    result = BuildResult.from_termination_message(text)
    if code == Outcome.DONE and result is not None:
        return result
    name = job["metadata"]["name"]
    said = result.message if result else "it left no message; what it printed stands above"
    if code not in list(Outcome):
        raise LocalProcessError(f"The build {name} ended with exit code {code}: {said}")
    raise _ERRORS.get(Outcome(code), LocalProcessError)(said if result else f"The build {name} failed: {said}.")


def start_server(deployment: Mapping[str, Any], folder: Path, manifests: Manifests, ends: ExitStack) -> Server:
    """Start the pod of a Deployment and wait until its readiness probe is answered; `ends` ends it.

    Raises PortTakenError, or LocalProcessError for whatever else keeps it from being ready.
    """
    spec = deployment["spec"]
    pod = spec["template"]["spec"]
    container = containers.words_of(pod, folder, manifests)
    probe = pod["containers"][0]["readinessProbe"]["httpGet"]
    ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
    port = ports.get(probe["port"], probe["port"])
    log = folder / "log"
    with log.open("wb") as file:
        grace = float(pod["terminationGracePeriodSeconds"])
        process = _start(container, ends, grace=grace, output=file.fileno(), own_session=True)
    server = Server(process=process, url=f"http://{LOOPBACK}:{port}", log=log)
    _wait_ready(server, port, probe["path"], deployment["metadata"]["name"], float(spec["progressDeadlineSeconds"]))
    return server


def ended(process: "subprocess.Popen[bytes]") -> int | None:
    """The exit code, or None while it runs."""
    with interrupts.held():
        return process.poll()


def wait(process: "subprocess.Popen[bytes]", timeout: float = math.inf) -> int:
    """The exit code, once it has ended. Raises subprocess.TimeoutExpired."""
    stop_at = time.monotonic() + timeout
    while (code := ended(process)) is None:
        if time.monotonic() >= stop_at:
            raise subprocess.TimeoutExpired(process.args, timeout)
        time.sleep(POLLING)
    return code


def end(process: "subprocess.Popen[bytes]", grace: float) -> int:
    """SIGTERM, SIGKILL after `grace` seconds or one more Ctrl-C, and the exit code; all the same if it has ended."""
    with interrupts.held() as impatience:
        process.terminate()
        stop_at = time.monotonic() + grace
        while process.poll() is None and time.monotonic() < stop_at and not impatience:
            time.sleep(POLLING)
        process.kill()
        return process.wait()


def _start(
    container: containers.Words, ends: ExitStack, *, grace: float, output: int, own_session: bool
) -> "subprocess.Popen[bytes]":
    """`own_session`: Ctrl-C does not reach it, so that it drains when it is told to and not before."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OWN_VARIABLES)}
    beside = str(Path(sys.executable).parent)  # this installation's own `enginewright`, whatever else is on PATH
    inherited["PATH"] = f"{beside}{os.pathsep}{inherited.get('PATH', os.defpath)}"
    with interrupts.held():
        try:
            process = subprocess.Popen(
                container.words,
                env=inherited | dict(container.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=own_session,
            )
        except OSError as error:
            raise LocalProcessError(
                f"{container.words[0]!r} cannot be started ({error.strerror}): run pip install 'enginewright[all]' "
                "into this environment."
            ) from error
        ends.callback(end, process, grace)
    return process


def _wait_ready(server: Server, port: int, path: str, name: str, deadline: float) -> None:
    stop_at = time.monotonic() + deadline
    while time.monotonic() < stop_at:
        # An answer is ours only if our server says that it listens there, and still runs once the answer is here.
        ready = _listens(server) and _answers(port, path)
        if (code := ended(server.process)) is not None:
            said = _tail(server.log)
            error = PortTakenError if CANNOT_LISTEN in said else LocalProcessError
            raise error(f"{name} ended with exit code {code} before it was ready: {said}")
        if ready:
            return
        time.sleep(0.05)
    raise LocalProcessError(f"{name} was not ready after {deadline:g} s; the end of its log: {_tail(server.log)}")


def _listens(server: Server) -> bool:
    """Whether the server's own log says that it listens at its URL."""
    for line in server.log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # a line for people
        if isinstance(record, dict) and (record.get("event"), record.get("url")) == ("listening", server.url):
            return True
    return False


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
