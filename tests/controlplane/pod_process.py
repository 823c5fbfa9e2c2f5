"""Runs a Pod manifest as processes of this machine and says, in Kubernetes' own words, how they are.

Self-contained: it is given a manifest, a folder, an address and a way to look up ConfigMaps and Secrets; it never
talks to a cluster itself. Use it within one event loop, whose thread must live as long as the Pod (see tethered.py).
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.container_process import ContainerProcess, Surroundings, now
from controlplane.pod_volumes import Address, Json, Lookup, NotYet, PodSources, Unsupported


@dataclass(slots=True, kw_only=True)
class PodProcess:
    """`run` returns when the Pod has come to its end; `status` is a PodStatus at any moment.

    `changed` is called whenever the status changed. The folder then holds <container>/<restart>.log.
    """

    pod: Json
    folder: Path
    address: Address
    lookup: Lookup
    search_path: str
    server: str
    changed: Callable[[], None]
    restart_delay: float = 1.0
    began: str = field(default_factory=now)
    initializers: list[ContainerProcess] = field(default_factory=list)
    containers: list[ContainerProcess] = field(default_factory=list)
    _conditions: dict[str, Json] = field(default_factory=dict)
    _refusal: str = ""
    _over: bool = False
    _grace: float | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        try:
            await self._run()
        finally:
            self._over = True
            self.changed()

    async def _run(self) -> None:
        sources = PodSources(pod=self.pod, address=self.address, lookup=self.lookup)
        try:
            volumes = await self._volumes(sources)
        except Unsupported as unsupported:
            self._refusal = str(unsupported)
            return
        if volumes is None:
            return
        policy = self.pod["spec"].get("restartPolicy", "Always")
        around = Surroundings(
            sources=sources,
            folder=self.folder,
            volumes=volumes,
            search_path=self.search_path,
            server=self.server,
            restart_delay=self.restart_delay,
            changed=self.changed,
        )
        self.initializers = [
            ContainerProcess(spec=spec, around=around, restart_policy="Never" if policy == "Never" else "OnFailure")
            for spec in self.pod["spec"].get("initContainers") or []
        ]
        self.containers = [
            ContainerProcess(spec=spec, around=around, restart_policy=policy) for spec in self.pod["spec"]["containers"]
        ]
        await self._run_containers()

    async def _volumes(self, sources: PodSources) -> dict[str, Path] | None:
        """None when the Pod was stopped before its volumes could be made."""
        if any("restartPolicy" in spec for spec in self.pod["spec"].get("initContainers") or []):
            raise Unsupported("init containers with a restartPolicy (sidecars) are not known to this node agent")
        while not self._stopping.is_set():
            try:
                return await sources.volumes(self.folder / "volumes")
            except NotYet:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), 1.0)
        return None

    async def _run_containers(self) -> None:
        for container in self.initializers:
            if self._stopping.is_set():
                return
            await container.supervise()
            if container.exit_code != 0:
                return
        if not self._stopping.is_set():
            async with asyncio.TaskGroup() as group:
                for container in self.containers:
                    group.create_task(container.supervise())

    def stop(self, grace: float) -> None:
        """Ends all containers, with `grace` seconds between SIGTERM and SIGKILL; a later call may shorten it."""
        self._grace = grace if self._grace is None else min(grace, self._grace)
        self._stopping.set()
        for container in [*self.initializers, *self.containers]:
            container.stop(self._grace)

    def phase(self) -> str:
        """A Pod that was stopped before its containers ran has failed, as a Job's controller needs to be told."""
        phase = "Failed" if self._refusal else self._phase_of_containers()
        return "Failed" if self._over and phase in {"Pending", "Running"} else phase

    def _phase_of_containers(self) -> str:
        initialized = all(container.exit_code == 0 for container in self.initializers)
        if not initialized:
            failed = any(container.exit_code for container in self.initializers)
            over = self._stopping.is_set() or self.pod["spec"].get("restartPolicy") == "Never"
            return "Failed" if failed and over else "Pending"
        codes = [container.exit_code for container in self.containers]
        if codes and all(code is not None for code in codes) and self._will_stay_ended():
            return "Failed" if any(codes) else "Succeeded"
        begun = any("waiting" not in each.state or each.restarts or each.last_state for each in self.containers)
        return "Running" if begun else "Pending"

    def _will_stay_ended(self) -> bool:
        policy = self.pod["spec"].get("restartPolicy", "Always")
        return (
            self._stopping.is_set()
            or policy == "Never"
            or (policy == "OnFailure" and not any(container.exit_code for container in self.containers))
        )

    def status(self) -> Json:
        """A PodStatus for a strategic merge patch (conditions that are not ours stay)."""
        phase = self.phase()
        if self._refusal:
            return {"phase": phase, "reason": "Unsupported", "message": self._refusal, "startTime": self.began}
        initialized = all(container.exit_code == 0 for container in self.initializers)
        ready = phase == "Running" and bool(self.containers) and all(each.ready for each in self.containers)
        reason = "" if ready else "PodCompleted" if phase == "Succeeded" else "ContainersNotReady"
        unready = [each.spec["name"] for each in self.containers if not each.ready]
        message = f"containers with unready status: [{' '.join(unready)}]" if reason == "ContainersNotReady" else ""
        return {
            "phase": phase,
            "startTime": self.began,
            "hostIP": "127.0.0.1",
            "hostIPs": [{"ip": "127.0.0.1"}],
            "podIP": self.address.reported,
            "podIPs": [{"ip": self.address.reported}],
            "conditions": [
                self._condition("PodReadyToStartContainers", phase in {"Pending", "Running"}, "", ""),
                self._condition("Initialized", initialized, "" if initialized else "ContainersNotInitialized", ""),
                self._condition("ContainersReady", ready, reason, message),
                self._condition("Ready", ready, reason, message),
            ],
            "initContainerStatuses": [container.status() for container in self.initializers],
            "containerStatuses": [container.status() for container in self.containers],
        }

    def _condition(self, kind: str, true: bool, reason: str, message: str) -> Json:
        status = "True" if true else "False"
        before = self._conditions.get(kind)
        since = before["lastTransitionTime"] if before and before["status"] == status else now()
        condition = {"type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message}
        self._conditions[kind] = condition
        return condition
