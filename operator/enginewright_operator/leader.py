"""Leader election on a Lease of coordination.k8s.io: one operator writes, the others stand by.

The protocol is client-go's leaderelection. Nobody compares two machines' clocks: a candidate takes a Lease over when it
has seen it unchanged for the lease's whole duration by its own clock; a leader that could not renew for `renew_within`,
which is shorter, stops before anybody else can start. One that comes too late even to ask asks once. Every write
carries the resourceVersion it was decided on, so of two candidates one is refused by the API server.

A process that was stopped for a while (by SIGSTOP, by its hypervisor) goes on where it was and knows of nothing: so
each write to the cluster asks `may_write_for` first, on a clock that counts the time in which the machine slept.
"""

import asyncio
import datetime
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseState:
    """What a Lease says. `version` is its resourceVersion; `renewed` is opaque and only compared for equality."""

    holder: str
    renewed: str
    transitions: int
    version: str


class Leases(Protocol):
    """One Lease in the cluster."""

    async def read(self) -> LeaseState | None:
        """The Lease, or None if there is none."""

    async def write(self, holder: str, *, before: LeaseState | None) -> bool:
        """Make `holder` its holder (nobody: ""), if it still is what `before` says; False if it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Seconds. A crashed leader is replaced after at most `duration` + `retry_every`."""

    duration: float = 10.0
    renew_within: float = 7.0
    retry_every: float = 2.0


def boot_time() -> float:
    """Seconds since the machine started, those included in which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Leader:
    """This process's part in the election."""

    def __init__(
        self, leases: Leases, *, identity: str, terms: Terms | None = None, clock: Callable[[], float] = boot_time
    ) -> None:
        self._leases = leases
        self._identity = identity
        self._terms = terms or Terms()
        self._clock = clock
        self._seen: LeaseState | None = None
        self._seen_at = clock()
        self._leads_until = clock()

    def may_write_for(self) -> float:
        """Seconds for which this process is sure to be the only one that writes; none or less: it must not."""
        return self._leads_until - self._clock()

    async def lead(self, work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
        """Wait to be the leader, run `work`, renew meanwhile; set the event that `work` gets when leadership is lost.

        Returns when `work` has ended; the Lease is then given up, so that the next leader need not wait for it.
        """
        await self._acquire()
        logger.info("This process, %s, leads.", self._identity)
        stop = asyncio.Event()
        renewing = asyncio.create_task(self._renew(stop))
        try:
            await work(stop)
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            if not stop.is_set():
                await self._release()

    async def _acquire(self) -> None:
        said = False
        while not await self._try_once(within=self._terms.retry_every * 2):
            if not said and self._seen is not None and self._held_by_another():
                said = True
                logger.info("This process, %s, stands by: the Lease is held by %s.", self._identity, self._seen.holder)
            await asyncio.sleep(self._terms.retry_every)

    async def _try_once(self, *, within: float) -> bool:
        """One attempt to hold the Lease; False where it is somebody else's or no answer comes `within` seconds."""
        try:
            async with asyncio.timeout(within):
                began = self._clock()
                state = await self._leases.read()
                if state != self._seen:
                    self._seen, self._seen_at = state, self._clock()
                if not self._may_take(state):
                    return False
                if not await self._leases.write(self._identity, before=state):
                    return False
                # From before we asked: for the others the term began no earlier.
                self._leads_until = began + self._terms.renew_within
                return True
        except (ApiException, OSError, TimeoutError) as error:
            logger.warning("The Lease cannot be reached: %s", type(error).__name__)
            return False

    def _may_take(self, state: LeaseState | None) -> bool:
        if state is None or state.holder in ("", self._identity):
            return True
        return self._clock() - self._seen_at >= self._terms.duration

    async def _renew(self, stop: asyncio.Event) -> None:
        while True:
            await asyncio.sleep(self._terms.retry_every)
            # An attempt that hangs must not outlast the lease. One that comes late, on a busy machine, is made all the
            # same: where it succeeds nobody has taken the Lease meanwhile, and nothing was written without it.
            left = max(self.may_write_for(), self._terms.retry_every)
            if await self._try_once(within=min(left, self._terms.renew_within / 2)):
                continue
            if self.may_write_for() <= 0 or self._held_by_another():
                self._leads_until = self._clock()
                logger.error("This process, %s, leads no more: it could not renew its Lease.", self._identity)
                stop.set()
                return

    def _held_by_another(self) -> bool:
        return self._seen is not None and self._seen.holder not in ("", self._identity)

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(self._terms.renew_within):
                state = await self._leases.read()
                if state is not None and state.holder == self._identity:
                    await self._leases.write("", before=state)
        except (ApiException, OSError, TimeoutError) as error:
            logger.warning("The Lease could not be given up and runs out by itself: %s", type(error).__name__)


class ClusterLease:
    """A Lease on a real API server. (kubernetes.aio's own LeaseLock cannot create one.)"""

    def __init__(self, api: client.ApiClient, *, namespace: str, name: str, duration: float) -> None:
        self._api = client.CoordinationV1Api(api)
        self._namespace = namespace
        self._name = name
        self._duration = duration

    async def read(self) -> LeaseState | None:
        """The Lease, or None if there is none."""
        try:
            lease = await self._api.read_namespaced_lease(self._name, self._namespace)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        spec, metadata = lease.spec or client.V1LeaseSpec(), lease.metadata or client.V1ObjectMeta()
        return LeaseState(
            holder=spec.holder_identity or "",
            renewed=str(spec.renew_time),
            transitions=spec.lease_transitions or 0,
            version=metadata.resource_version or "",
        )

    async def write(self, holder: str, *, before: LeaseState | None) -> bool:
        """Create or replace it, on the condition that it is still what `before` says."""
        body = self._body(holder, before)
        try:
            if before is None:
                await self._api.create_namespaced_lease(self._namespace, body)
            else:
                await self._api.replace_namespaced_lease(self._name, self._namespace, body)
        except ApiException as error:
            if error.status == 409:
                return False
            raise
        return True

    def _body(self, holder: str, before: LeaseState | None) -> Any:
        changed = before is None or before.holder != holder
        return client.V1Lease(
            metadata=client.V1ObjectMeta(
                name=self._name, namespace=self._namespace, resource_version=before.version if before else None
            ),
            spec=client.V1LeaseSpec(
                holder_identity=holder,
                lease_duration_seconds=round(self._duration),
                renew_time=datetime.datetime.now(datetime.UTC),
                lease_transitions=(before.transitions if before else 0) + int(changed),
            ),
        )
