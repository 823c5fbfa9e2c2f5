"""kopf's part: the watches. Every handler does one thing, putting the keys that an event concerns into the queue.

`on.event` only: kopf's other handlers write annotations and finalizers, and may lose updates. Nothing is read from
the event but names, since whoever takes the key reads the object fresh.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import kopf

from enginewright_operator.api import GROUP, VERSION

Put = Callable[[str, str, str], None]

MANAGED = "app.kubernetes.io/managed-by=enginewright-operator"


def registry(put: Put, *, cluster_scoped: bool = True) -> kopf.OperatorRegistry:
    """Handlers that put (kind, namespace, name) for every object that an event concerns."""
    handlers = kopf.OperatorRegistry()  # a bare one: it has no handlers of its own, not even for logging in
    engines: set[tuple[str, str]] = set()

    @kopf.on.login(registry=handlers)
    def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        if os.environ.get("KUBECONFIG"):
            return kopf.login_with_kubeconfig(**arguments)
        return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)

    @kopf.on.event(GROUP, VERSION, "inferenceengines", registry=handlers)
    async def engine(namespace: str | None, name: str, event: Mapping[str, Any], **_: Any) -> None:
        key = (namespace or "", name)
        (engines.discard if event.get("type") == "DELETED" else engines.add)(key)
        put("InferenceEngine", *key)

    @kopf.on.event(GROUP, VERSION, "engineplans", registry=handlers)
    async def plan(namespace: str | None, name: str, meta: Mapping[str, Any], **_: Any) -> None:
        put("EnginePlan", namespace or "", name)
        _put_owners(put, namespace or "", meta)

    async def gpu_class(**_: Any) -> None:
        for namespace, name in tuple(engines):
            put("InferenceEngine", namespace, name)

    if cluster_scoped:
        kopf.on.event(GROUP, VERSION, "gpuclasses", registry=handlers)(gpu_class)

    @kopf.on.event("apps", "v1", "deployments", registry=handlers)
    @kopf.on.event("batch", "v1", "jobs", registry=handlers)
    async def child(namespace: str | None, meta: Mapping[str, Any], **_: Any) -> None:
        _put_owners(put, namespace or "", meta)

    return handlers


def _put_owners(put: Put, namespace: str, meta: Mapping[str, Any]) -> None:
    for owner in meta.get("ownerReferences") or ():
        if str(owner.get("apiVersion", "")).startswith(f"{GROUP}/"):
            put(owner["kind"], namespace, owner["name"])


def settings() -> kopf.OperatorSettings:
    """kopf's settings: it writes nothing, and asks only for children that are ours."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.scanning.disabled = True  # the kinds are there before us: the chart brings the CRDs
    chosen.watching.label_selectors["apps", "v1", "deployments"] = MANAGED
    chosen.watching.label_selectors["batch", "v1", "jobs"] = MANAGED
    chosen.execution.max_workers = 1
    return chosen


async def watch(put: Put, *, namespaces: tuple[str, ...], cluster_scoped: bool, stop: asyncio.Event) -> None:
    """Watch until `stop` is set, or the process is told to end; cluster-scoped objects only where they may be."""
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # it would tell of every event
    await kopf.operator(
        registry=registry(put, cluster_scoped=cluster_scoped),
        settings=settings(),
        namespaces=namespaces,
        clusterwide=not namespaces,
        standalone=True,  # no peering: our Lease sees to it that one leads
        stop_flag=stop,
    )
