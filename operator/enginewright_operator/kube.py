"""HTTP to the API server, on kubernetes.aio's connection and credentials: paths and JSON, nothing else.

Only gather.py (reads) and cluster.py (writes) use it. The typed classes are left out on purpose: they drop fields
they do not know, and the dynamic client keeps a discovery cache on disk.
"""

import json
from collections.abc import Mapping
from typing import Any

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

from enginewright_operator.errors import ClusterError, ConflictError, NamespaceTerminatingError, QuotaError

Manifest = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_TIMEOUT = 30.0

# kind -> (prefix, plural, namespaced)
RESOURCES: Mapping[str, tuple[str, str, bool]] = {
    "InferenceEngine": ("/apis/enginewright.dev/v1alpha1", "inferenceengines", True),
    "EnginePlan": ("/apis/enginewright.dev/v1alpha1", "engineplans", True),
    "GPUClass": ("/apis/enginewright.dev/v1alpha1", "gpuclasses", False),
    "Job": ("/apis/batch/v1", "jobs", True),
    "Deployment": ("/apis/apps/v1", "deployments", True),
    "Service": ("/api/v1", "services", True),
    "Pod": ("/api/v1", "pods", True),
    "Secret": ("/api/v1", "secrets", True),
    "ConfigMap": ("/api/v1", "configmaps", True),
    "Event": ("/api/v1", "events", True),
    "Node": ("/api/v1", "nodes", False),
}


def path_of(kind: str, namespace: str = "", name: str = "", *, sub: str = "") -> str:
    """The path of one object, or of a list of them (in every namespace where none is given)."""
    prefix, plural, namespaced = RESOURCES[kind]
    parts = [prefix]
    if namespaced and namespace:
        parts += ["namespaces", namespace]
    return "/".join(part for part in (*parts, plural, name, sub) if part)


class Kube:
    """One connection to the API server. Raises ClusterError, naming the path, where it does not do what was asked."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object; None if there is none."""
        return await self.send("GET", path_of(kind, namespace, name), absent_is_none=True)

    async def metadata(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """An object's metadata, without what is in it; None if there is none."""
        accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
        return await self.send("GET", path_of(kind, namespace, name), accept=accept, absent_is_none=True)

    async def list(self, kind: str, namespace: str = "", *, labels: str = "", fields: str = "") -> list[Manifest]:
        """All of a kind, with these labels and fields."""
        query = {name: value for name, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        answer = await self.send("GET", path_of(kind, namespace), query=query)
        return list((answer or {}).get("items") or [])

    async def discover(self, api_version: str) -> set[str]:
        """The plural names that the API server has of a group's version."""
        answer = await self.send("GET", f"/apis/{api_version}", absent_is_none=True)
        return {str(each["name"]) for each in (answer or {}).get("resources") or ()}

    async def send(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        query: Mapping[str, str] | None = None,
        absent_is_none: bool = False,
    ) -> Manifest | None:
        """One request and its answer, parsed."""
        headers = {"Accept": accept, "Content-Type": content_type}
        try:
            request = await self._api.param_serialize(
                method, path, query_params=list((query or {}).items()), header_params=headers, body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            response = await self._api.call_api(*request, _request_timeout=_TIMEOUT)
            text: bytes = await response.read()  # type: ignore[no-untyped-call]
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ClusterError(
                f"The API server did not answer {method} {path} ({type(error).__name__}): it is tried again."
            ) from error
        except ApiException as error:  # some versions raise here, others return the status
            return _answer(method, path, error.status or 0, error.body or "", absent_is_none)
        return _answer(method, path, response.status, text, absent_is_none)


def _answer(method: str, path: str, status: int, text: bytes | str, absent_is_none: bool) -> Manifest | None:
    if 200 <= status < 300:
        parsed: Manifest = json.loads(text) if text else {}
        return parsed
    if status == 404 and absent_is_none:
        return None
    try:
        said = json.loads(text).get("message") or ""
    except (ValueError, AttributeError):
        said = ""
    if status == 403 and "is being terminated" in said:
        raise NamespaceTerminatingError(f"Nothing new is taken by {path}: its namespace is being deleted.")
    if status == 403 and "exceeded quota" in said:
        raise QuotaError(
            f"The namespace's quota leaves no room: {said}; raise it, or make room, and it goes on by itself."
        )
    kind = ConflictError if status == 409 else ClusterError
    raise kind(f"The API server refused {method} {path} with status {status}: {said or 'it gave no reason'}.")
