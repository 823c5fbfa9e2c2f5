"""One container of a Pod as one local process: start, probes, exit, message, restart.

It never talks to a cluster: `pod_process.PodProcess` puts the states of its containers together and reports them.
"""

import asyncio
import contextlib
import datetime
import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from controlplane import probes
from controlplane.pod_paths import PathMap, expand
from controlplane.pod_volumes import Json, NotYet, PodSources
from controlplane.tethered import tethered

MESSAGE_BYTES, LOG_BYTES, LOG_LINES = 4096, 2048, 80  # the kubelet's limits for a termination message
RESTART_DELAY_MOST = 300.0
LEAST_GRACE = 2.0
TERMINATION_LOG = "/dev/termination-log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all containers of one Pod share.

    `search_path` is their PATH, where `enginewright` is found; `server` is the API server's URL.
    """

    sources: PodSources
    folder: Path
    volumes: dict[str, Path]
    search_path: str
    server: str
    restart_delay: float
    changed: Callable[[], None]


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


@dataclass(slots=True, kw_only=True)
class ContainerProcess:
    """`state` and `last_state` are Kubernetes' ContainerState objects, ready to be reported."""

    spec: Json
    around: Surroundings
    restart_policy: str
    state: Json = field(default_factory=lambda: waiting("ContainerCreating"))
    last_state: Json = field(default_factory=dict)
    ready: bool = False
    started: bool = False
    restarts: int = 0
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _unhealthy: asyncio.Event = field(default_factory=asyncio.Event)
    _grace: float = 0.0
    _environment: dict[str, str] = field(default_factory=dict)
    _paths: PathMap = field(default_factory=lambda: PathMap({}))

    @property
    def folder(self) -> Path:
        return self.around.folder / self.spec["name"]

    @property
    def log(self) -> Path:
        return self.folder / f"{self.restarts}.log"

    @property
    def exit_code(self) -> int | None:
        """None while it has not ended for good or for now."""
        ended = self.state.get("terminated")
        return ended["exitCode"] if ended else None

    def status(self) -> Json:
        image = self.spec.get("image", "")
        return {
            "name": self.spec["name"],
            "image": image,
            "imageID": image,
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state,
        }

    def stop(self, grace: float) -> None:
        """Ends it: preStop, SIGTERM, SIGKILL after `grace` seconds; it is not started again. May be called again."""
        self._grace = grace
        self._stop.set()

    async def supervise(self) -> None:
        """Returns when it has ended and the restart policy leaves it so, or when it was stopped."""
        while not self._stop.is_set():
            await self._run_once()
            again = self.restart_policy == "Always" or (self.restart_policy == "OnFailure" and self.exit_code != 0)
            if self._stop.is_set() or not again:
                return
            ended = self.state
            if self.restarts:  # the first restart comes at once, as a kubelet's
                delay = min(self.around.restart_delay * 2 ** (self.restarts - 1), RESTART_DELAY_MOST)
                self.last_state = ended
                self._show(waiting("CrashLoopBackOff", f"back-off {delay:g}s restarting failed container"))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), delay)
            if self._stop.is_set():
                self._show(ended)
                return
            self.last_state = ended
            self.restarts += 1

    def _show(self, state: Json, *, ready: bool = False, started: bool = False) -> None:
        self.state, self.ready, self.started = state, ready, started
        self.around.changed()

    async def _run_once(self) -> None:
        if not await self._prepare():
            return
        command = self._command()
        if not command or shutil.which(command[0], path=self._environment["PATH"]) is None:
            missing = (
                f'exec: "{command[0]}": executable file not found' if command else "no command: images are not run"
            )
            self._ended(128, now(), reason="StartError", message=missing)
            return
        with self.log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *tethered(command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=self._working_folder(),
                start_new_session=True,
            )
        began = now()
        startup, readiness = "startupProbe" in self.spec, "readinessProbe" in self.spec
        self._show({"running": {"startedAt": began}}, ready=not (startup or readiness), started=not startup)
        watching = asyncio.create_task(self._watch_probes())
        killed = await self._until_end(process)
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it left behind ends with it, as in a container
        code = process.returncode or 0
        self._ended(128 - code if code < 0 else code, began, out_of_memory=code == -signal.SIGKILL and not killed)

    async def _prepare(self) -> bool:
        """Environment, mounts and folders. Waits for what does not exist yet; False when it was stopped meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "work").mkdir(exist_ok=True)
        message = self.folder / "termination-log"
        message.write_bytes(b"")
        mounts = {self.spec.get("terminationMessagePath") or TERMINATION_LOG: message}
        for mount in self.spec.get("volumeMounts") or []:
            mounts[mount["mountPath"]] = self.around.volumes[mount["name"]] / mount.get("subPath", "")
        self._paths = PathMap(mounts)
        while not self._stop.is_set():
            try:
                own = await self.around.sources.environment(self.spec, self._paths)
            except NotYet as absent:
                self._show(waiting("CreateContainerConfigError", str(absent)))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), 1.0)
            else:
                defaults = {"PATH": self.around.search_path, "HOME": str(self.folder / "work"), "LANG": "C.UTF-8"}
                if temporary := self._paths.local("/tmp"):
                    defaults["TMPDIR"] = str(temporary)
                self._environment = {**defaults, **self._service_account_access(), **own}
                self._unhealthy.clear()
                return True
        self._ended(137, now(), reason="ContainerStatusUnknown")
        return False

    def _service_account_access(self) -> dict[str, str]:
        """KUBECONFIG for the Pod's own service account, where its token is mounted.

        Stands in for the `in-cluster` files, whose place (/var/run/secrets) no substitution can give a library that
        knows it by heart.
        """
        mounted = self._paths.local("/var/run/secrets/kubernetes.io/serviceaccount")
        if mounted is None or not (mounted / "token").is_file():
            return {}
        cluster = {"server": self.around.server, "certificate-authority": str(mounted / "ca.crt")}
        context = {"cluster": "pod", "user": "pod", "namespace": (mounted / "namespace").read_text()}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "pod", "cluster": cluster}],
            "users": [{"name": "pod", "user": {"token": (mounted / "token").read_text()}}],
            "contexts": [{"name": "pod", "context": context}],
            "current-context": "pod",
        }
        kubeconfig = self.folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(config))  # JSON is YAML
        return {"KUBECONFIG": str(kubeconfig)}

    def _command(self) -> list[str]:
        words = [*(self.spec.get("command") or []), *(self.spec.get("args") or [])]
        return [self._paths(expand(word, self._environment)) for word in words]

    def _working_folder(self) -> Path:
        return self._paths.local(self.spec.get("workingDir") or "") or self.folder / "work"

    async def _until_end(self, process: asyncio.subprocess.Process) -> bool:
        """Waits for the process, ends it when told to or when a probe says so; True when it took a SIGKILL of ours."""
        ended = asyncio.create_task(process.wait())
        told = [asyncio.create_task(event.wait()) for event in (self._stop, self._unhealthy)]
        await asyncio.wait([ended, *told], return_when=asyncio.FIRST_COMPLETED)
        for task in told:
            task.cancel()
        return not ended.done() and await self._terminate(process, ended)

    async def _terminate(self, process: asyncio.subprocess.Process, ended: "asyncio.Task[int]") -> bool:
        loop = asyncio.get_running_loop()
        began = loop.time()
        hook = asyncio.create_task(self._pre_stop())
        await self._wait_graceful([ended, hook], began, first=True)
        if not hook.done():
            hook.cancel()
        if not ended.done():
            process.terminate()
            # A hook that used up the time leaves two seconds, as with a kubelet; a grace of 0 leaves none.
            await self._wait_graceful([ended], max(began, loop.time() + LEAST_GRACE - self._grace))
        if ended.done():
            return False
        os.killpg(process.pid, signal.SIGKILL)
        await ended
        return True

    async def _wait_graceful(self, tasks: list["asyncio.Task[object]"], began: float, *, first: bool = False) -> None:
        """Waits for the tasks while the grace lasts, which a second `stop` may shorten."""
        loop = asyncio.get_running_loop()
        how = asyncio.FIRST_COMPLETED if first else asyncio.ALL_COMPLETED
        while self._grace and loop.time() < began + self._grace:
            _, pending = await asyncio.wait(tasks, timeout=0.1, return_when=how)
            if not pending or (first and len(pending) < len(tasks)):
                return

    async def _pre_stop(self) -> None:
        hook = (self.spec.get("lifecycle") or {}).get("preStop") or {}
        if "sleep" in hook:
            await asyncio.sleep(hook["sleep"]["seconds"])
        elif "exec" in hook:
            await self._execute(hook["exec"]["command"], None)

    async def _execute(self, command: list[str], timeout: float | None) -> bool:
        words = [self._paths(word) for word in command]
        if shutil.which(words[0], path=self._environment["PATH"]) is None:
            return False
        process = await asyncio.create_subprocess_exec(
            *tethered(words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=self._environment,
            cwd=self._working_folder(),
        )
        try:
            return await asyncio.wait_for(process.wait(), timeout) == 0
        except TimeoutError:
            return False
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _watch_probes(self) -> None:
        """A startup probe holds the others back; then readiness and liveness side by side."""
        if startup := self.spec.get("startupProbe"):
            async for passed in probes.verdicts(startup, lambda: self._probe(startup)):
                if passed:
                    break
                self._fail()
            self._show(self.state, ready="readinessProbe" not in self.spec, started=True)
        async with asyncio.TaskGroup() as group:
            if readiness := self.spec.get("readinessProbe"):
                group.create_task(self._watch_readiness(readiness))
            if liveness := self.spec.get("livenessProbe"):
                group.create_task(self._watch_liveness(liveness))

    async def _watch_readiness(self, probe: Json) -> None:
        async for passed in probes.verdicts(probe, lambda: self._probe(probe)):
            self._show(self.state, ready=passed, started=True)

    async def _watch_liveness(self, probe: Json) -> None:
        async for passed in probes.verdicts(probe, lambda: self._probe(probe)):
            if not passed:
                self._fail()

    def _fail(self) -> None:
        if not self._stop.is_set():
            self._grace = self.around.sources.pod["spec"].get("terminationGracePeriodSeconds", 30)
            self._unhealthy.set()

    async def _probe(self, probe: Json) -> bool:
        timeout = probe.get("timeoutSeconds") or 1
        host = self.around.sources.address.bound
        if get := probe.get("httpGet"):
            return await probes.http_get(get, host, self._port(get["port"]), timeout)
        if tcp := probe.get("tcpSocket"):
            return await probes.tcp_socket(tcp.get("host") or host, self._port(tcp["port"]), timeout)
        return await self._execute(probe["exec"]["command"], timeout)

    def _port(self, port: int | str) -> int:
        if isinstance(port, int):
            return port
        return next(each["containerPort"] for each in self.spec.get("ports") or [] if each.get("name") == port)

    def _ended(
        self, code: int, began: str, *, reason: str = "", message: str | None = None, out_of_memory: bool = False
    ) -> None:
        if not reason:
            # A SIGKILL that nobody here sent is nearly always the kernel's, for memory.
            reason = "OOMKilled" if out_of_memory else "Completed" if code == 0 else "Error"
        said = self._message(code) if message is None else message
        ended = {"exitCode": code, "reason": reason, "startedAt": began, "finishedAt": now()}
        self._show({"terminated": {**ended, **({"message": said} if said else {})}})

    def _message(self, code: int) -> str:
        written = (self.folder / "termination-log").read_bytes()[:MESSAGE_BYTES]
        if not written and code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            lines = self.log.read_bytes()[-LOG_BYTES:].splitlines(keepends=True) if self.log.exists() else []
            written = b"".join(lines[-LOG_LINES:])
        return written.decode(errors="replace")
