"""kopf's part: the watches. Every handler does one thing, telling the cache what an event says of an object.

`on.event` only: kopf's other handlers write annotations and finalizers, and may lose updates. Whom an event concerns is
watched.py's to know; what is decided is decided of the state, never of the event.
"""

import asyncio
import logging
import os
from typing import Any, cast

import kopf

from enginewright_operator.watched import WATCHED, Watched, WatchedKind

CHUNK = 200  # objects a list request: what a start takes at its most in memory
IDLE = 0.02  # seconds that kopf keeps a task for an object of which nothing more comes
WORKERS = 100


class NoDiffs(kopf.DiffBaseStorage):
    """kopf copies and compares each object for handlers of another sort, which was a third of all our work."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing of the object is ever compared."""
        return cast(kopf.BodyEssence, {})

    def fetch(self, **_: Any) -> None:
        """Nothing was stored."""

    def store(self, **_: Any) -> None:
        """Nothing is stored."""


class NoProgress(kopf.ProgressStorage):
    """kopf would note each handler's progress in the object; ours have none."""

    def fetch(self, **_: Any) -> None:
        """Nothing was stored."""

    def store(self, **_: Any) -> None:
        """Nothing is stored."""

    def purge(self, **_: Any) -> None:
        """Nothing is stored."""

    def touch(self, **_: Any) -> None:
        """Nothing is stored."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """There is nothing to clear away."""
        return essence


def registry(watched: Watched, *, cluster_scoped: bool) -> kopf.OperatorRegistry:
    """Handlers for every kind that is watched; for cluster-scoped ones only where they may be."""
    handlers = kopf.OperatorRegistry()  # a bare one: it has no handlers of its own, not even for logging in

    @kopf.on.login(registry=handlers)
    def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        if os.environ.get("KUBECONFIG"):
            return kopf.login_with_kubeconfig(**arguments)
        return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)

    for kind, how in WATCHED.items():
        if how.cluster_scoped and not cluster_scoped:
            continue
        _watch_kind(handlers, watched, kind, how)
    return handlers


def _watch_kind(handlers: kopf.OperatorRegistry, watched: Watched, kind: str, how: WatchedKind) -> None:
    @kopf.on.event(*_resource(how), registry=handlers, id=kind)
    async def event(event: kopf.RawEvent, **_: Any) -> None:
        watched.saw(
            kind, {"kind": kind, "apiVersion": how.api_version, **event["object"]}, gone=event["type"] == "DELETED"
        )


def _resource(how: WatchedKind) -> tuple[str, str, str]:
    group, _, version = how.api_version.rpartition("/")
    return group, version, how.plural


def settings() -> kopf.OperatorSettings:
    """kopf's settings: it writes nothing, asks only for children that are ours, and keeps nothing for long."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.scanning.disabled = True  # the kinds are there before us: the chart brings the CRDs
    for how in WATCHED.values():
        if how.labels:
            chosen.watching.label_selectors[_resource(how)] = how.labels
    chosen.watching.chunk_size = CHUNK
    chosen.queueing.idle_timeout = IDLE
    chosen.queueing.worker_limit = WORKERS
    chosen.execution.max_workers = 1
    chosen.persistence.diffbase_storage = NoDiffs()
    chosen.persistence.progress_storage = NoProgress()
    return chosen


async def watch(watched: Watched, *, namespaces: tuple[str, ...], cluster_scoped: bool, stop: asyncio.Event) -> None:
    """Watch until `stop` is set, or the process is told to end."""
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # it would tell of every event
    await kopf.operator(
        registry=registry(watched, cluster_scoped=cluster_scoped),
        settings=settings(),
        namespaces=namespaces,
        clusterwide=not namespaces,
        standalone=True,  # no peering: our Lease sees to it that one leads
        stop_flag=stop,
    )
