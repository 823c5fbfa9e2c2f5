"""All writes to the cluster, each of them idempotent: what it was told twice it has done once.

Children are created, which takes nothing from anybody who bears their name, and server-side applied when they are to
change, so that fields which others own stay theirs. Plans are created and their owners patched instead: several engines
own one plan, and an apply by one of them would drop the others.
"""

import contextlib
import datetime
import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from enginewright_operator import api, stamps
from enginewright_operator.cached_kube import CachedKube
from enginewright_operator.conditions import Reason, shortened
from enginewright_operator.errors import ConflictError, NamespaceTerminatingError, NameTakenError
from enginewright_operator.kube import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, Manifest
from enginewright_operator.paths import path_of
from enginewright_operator.render import names
from enginewright_operator.watched import WATCHED, owner_uids


def owner_reference(owner: api.InferenceEngine | api.EnginePlan, *, controller: bool) -> dict[str, Any]:
    """The reference by which `owner` keeps an object alive; a controller is the only one that manages it."""
    reference = {
        "apiVersion": api.API_VERSION,
        "kind": owner.KIND,
        "name": owner.metadata.name,
        "uid": owner.metadata.uid,
    }
    return reference | ({"controller": True, "blockOwnerDeletion": True} if controller else {})


def holds(live: Any, wanted: Any) -> bool:
    """Whether `live` has every field of `wanted` with its value; it may have more fields, never more rows."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(
            name in live and holds(live[name], value) for name, value in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return isinstance(live, list) and len(live) == len(wanted) and all(map(holds, live, wanted))
    return bool(live == wanted)


class Cluster:
    """Writes to the cluster, all of them through one connection."""

    def __init__(self, kube: CachedKube, *, now: Callable[[], datetime.datetime]) -> None:
        self._kube = kube
        self._now = now
        self._applied: dict[str, tuple[str, int | None]] = {}  # uid -> mark and generation after our last apply

    async def apply(
        self, manifest: Manifest, owner: api.InferenceEngine | api.EnginePlan, *, annotations: dict[str, str]
    ) -> Manifest:
        """Make a child be what `manifest` says; the owner's deletion deletes it. Returns it as it then is.

        Nothing is sent where it is known to be so: the annotation says that it was applied from the very same, and no
        field of it has another value now.
        """
        metadata = manifest["metadata"]
        body = manifest | {
            "metadata": metadata
            | {
                "namespace": owner.metadata.namespace,
                "annotations": (metadata.get("annotations") or {}) | annotations,
                "ownerReferences": [owner_reference(owner, controller=True)],
            }
        }
        mark = sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
        body["metadata"]["annotations"][names.APPLIED] = mark
        live = self._kube.known(manifest["kind"], owner.metadata.namespace, metadata["name"])
        if live is not None and self._in_force(body, live, mark):
            return live
        if live is None and manifest["kind"] in WATCHED:
            answer = await self._create(body, owner)
        else:
            answer = await self._change(body, created=live is not None)
        self._applied[answer["metadata"].get("uid", "")] = (mark, answer["metadata"].get("generation"))
        return answer

    async def _create(self, body: Manifest, owner: api.InferenceEngine | api.EnginePlan) -> Manifest:
        """Make a child that there is none of: half the API server's work of an apply.

        Raises NameTakenError where another's object bears the name, ConflictError where the cache was behind.
        """
        kind, namespace, name = body["kind"], owner.metadata.namespace, body["metadata"]["name"]
        try:
            path, query = path_of(kind, namespace), {"fieldManager": names.MANAGER}
            return await self._kube.send("POST", path, body, query=query) or body
        except ConflictError as error:
            found = await self._kube.send("GET", path_of(kind, namespace, name), absent_is_none=True)
            if found is None or owner.metadata.uid in owner_uids(found):
                raise
            raise NameTakenError(
                f"The {kind} {name} is in the namespace {namespace} already and is not of the {owner.KIND} "
                f"{owner.metadata.name}: delete it, or give the {owner.KIND} another name."
            ) from error

    async def _change(self, body: Manifest, *, created: bool) -> Manifest:
        """Apply a child, whoever else owns fields of it."""
        where = (body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])
        if created:
            await self._own_by_apply(*where)
        query = {"fieldManager": names.MANAGER, "force": "true"}
        return await self._kube.send("PATCH", path_of(*where), body, content_type=APPLY_PATCH, query=query) or body

    async def _own_by_apply(self, kind: str, namespace: str, name: str) -> None:
        """What was created is ours as by an update, and an apply would leave there what it wants no more."""
        metadata = (await self._kube.metadata(kind, namespace, name) or {}).get("metadata") or {}
        rows = metadata.get("managedFields") or []
        ours = [row for row in rows if row.get("manager") == names.MANAGER and not row.get("subresource")]
        if [row["operation"] for row in ours] != ["Update"]:
            return
        owned = [row | {"operation": "Apply"} if row in ours else row for row in rows]
        body = {"metadata": {"managedFields": owned, "resourceVersion": metadata["resourceVersion"]}}
        query = {"fieldManager": names.MANAGER}
        await self._kube.send("PATCH", path_of(kind, namespace, name), body, content_type=MERGE_PATCH, query=query)

    def _in_force(self, body: Manifest, live: Manifest, mark: str) -> bool:
        metadata = live["metadata"]
        if (metadata.get("annotations") or {}).get(names.APPLIED) != mark or metadata.get("deletionTimestamp"):
            return False
        # The API server writes some values in its own way (1000m as 1): what it made of an apply of ours counts too.
        generation = metadata.get("generation")
        unchanged = generation is not None and self._applied.get(metadata["uid"]) == (mark, generation)
        return unchanged or holds(live, body)

    async def create_plan(
        self, plan: api.EnginePlan, owner: api.InferenceEngine, *, annotations: Mapping[str, str] | None = None
    ) -> api.EnginePlan | None:
        """Create a plan that `owner` keeps alive; None if somebody else created it meanwhile."""
        spec = plan.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        body = {
            "apiVersion": api.API_VERSION,
            "kind": api.EnginePlan.KIND,
            "metadata": {
                "name": plan.metadata.name,
                "namespace": plan.metadata.namespace,
                "labels": {names.MANAGED_BY_LABEL: names.MANAGER},
                "annotations": dict(annotations or {}),
                "finalizers": [api.FINALIZER],
                "ownerReferences": [owner_reference(owner, controller=False)],
            },
            "spec": spec,
        }
        try:
            answer = await self._kube.send("POST", path_of("EnginePlan", plan.metadata.namespace), body)
        except ConflictError:
            return None
        return api.read(api.EnginePlan, answer or body)

    async def own(self, plan: api.EnginePlan, engine: api.InferenceEngine) -> None:
        """Make the engine one of the plan's owners, beside whoever else does so at this moment.

        Raises ConflictError if it is another plan of that name by now, or has no owner left: then it is going.
        """
        path = path_of("EnginePlan", plan.metadata.namespace, plan.metadata.name)
        steps: list[Manifest] = [
            {"op": "test", "path": "/metadata/uid", "value": plan.metadata.uid},
            {
                "op": "add",
                "path": "/metadata/ownerReferences/-",
                "value": owner_reference(engine, controller=False),
            },
        ]
        await self._kube.send("PATCH", path, steps, content_type=JSON_PATCH, query={"fieldManager": names.MANAGER})

    async def release(self, plan: api.EnginePlan, engine: api.InferenceEngine) -> bool:
        """Let go of the plan; True if the engine was its last owner and it was therefore deleted."""
        left = [_dump(owner) for owner in plan.metadata.owner_references if owner.uid != engine.metadata.uid]
        if left:
            await self._patch_metadata(plan, {"ownerReferences": left})
            return False
        # Only this very state of it: an engine that took it up since then keeps it.
        version = {"preconditions": {"uid": plan.metadata.uid, "resourceVersion": plan.metadata.resource_version}}
        await self._delete("EnginePlan", plan.metadata.namespace, plan.metadata.name, version)
        return True

    async def let_go(self, plan: api.EnginePlan) -> None:
        """Remove our finalizer: the plan's deletion may end."""
        left = [finalizer for finalizer in plan.metadata.finalizers if finalizer != api.FINALIZER]
        await self._patch_metadata(plan, {"finalizers": left or None})

    async def delete(self, kind: str, namespace: str, name: str, *, foreground: bool = False) -> None:
        """Delete an object, if it is there, and what it owns; in the foreground it goes last."""
        policy = "Foreground" if foreground else "Background"
        await self._delete(kind, namespace, name, {"propagationPolicy": policy})

    async def patch_status(
        self,
        target: api.InferenceEngine | api.EnginePlan,
        status: api.InferenceEngineStatus | api.EnginePlanStatus,
    ) -> bool:
        """Write the status if it differs from what the object has; True if it was written."""
        if target.status is not None and _dump(status) == _dump(target.status):
            return False
        await self._kube.send(
            "PATCH",
            path_of(target.KIND, target.metadata.namespace, target.metadata.name, sub="status"),
            {"status": status.model_dump(mode="json", by_alias=True)},  # with nulls: they take away what was
            content_type=MERGE_PATCH,
            query={"fieldManager": names.MANAGER},
            absent_is_none=True,  # deleted meanwhile: nobody is left to tell
        )
        return True

    async def event(
        self, about: api.InferenceEngine | api.EnginePlan, reason: Reason, message: str, *, warning: bool = False
    ) -> None:
        """Tell what happened, for `kubectl describe` and `kubectl events`."""
        now = self._now().astimezone(datetime.UTC)
        seed = f"{about.metadata.uid}{reason}{message}{now.isoformat()}"
        name = f"{about.metadata.name}.{sha256(seed.encode()).hexdigest()[:16]}"
        stamp = stamps.stamp(now)
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": about.metadata.namespace},
            "type": "Warning" if warning else "Normal",
            "reason": str(reason),
            "message": shortened(message)[:1024],
            "involvedObject": {
                "apiVersion": api.API_VERSION,
                "kind": about.KIND,
                "name": about.metadata.name,
                "namespace": about.metadata.namespace,
                "uid": about.metadata.uid,
            },
            "source": {"component": names.MANAGER},
            "reportingComponent": names.MANAGER,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
        with contextlib.suppress(NamespaceTerminatingError):  # what is being deleted is still told the rest
            await self._kube.send("POST", path_of("Event", about.metadata.namespace), body)

    async def _patch_metadata(self, plan: api.EnginePlan, changes: dict[str, Any]) -> None:
        metadata = changes | {"resourceVersion": plan.metadata.resource_version}
        await self._kube.send(
            "PATCH",
            path_of("EnginePlan", plan.metadata.namespace, plan.metadata.name),
            {"metadata": metadata},
            content_type=MERGE_PATCH,
            query={"fieldManager": names.MANAGER},
            absent_is_none=True,
        )

    async def _delete(self, kind: str, namespace: str, name: str, options: dict[str, Any]) -> None:
        body = {"apiVersion": "v1", "kind": "DeleteOptions"} | options
        await self._kube.send("DELETE", path_of(kind, namespace, name), body, absent_is_none=True)


def _dump(model: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped
