"""HTTP to the API server, on kubernetes.aio's connection and credentials: paths and JSON, nothing else.

Only gather (reads) and cluster.py (writes) use it. The typed classes are left out on purpose: they drop fields
they do not know, and the dynamic client keeps a discovery cache on disk.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from pydantic_core import from_json

from enginewright_operator import cache, metrics
from enginewright_operator.errors import (
    ClusterError,
    ConflictError,
    ForbiddenError,
    NamespaceTerminatingError,
    NotLeadingError,
    QuotaError,
)
from enginewright_operator.paths import path_of

Manifest = cache.Manifest
Body = Manifest | Sequence[Manifest]  # a JSON patch is a sequence

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_REFUSALS: Mapping[int, type[ClusterError]] = {403: ForbiddenError, 409: ConflictError}
_TIMEOUT = 30.0
_PAGE = 250  # objects a request: what a list takes at its most in memory


def unfenced() -> float:
    """For whoever need not lead."""
    return _TIMEOUT


class Kube:
    """One connection to the API server. Raises ClusterError, naming the path, where it does not do what was asked.

    `may_write_for` gives the seconds for which this process is sure to lead: no write begins without some left, and
    none waits longer for its answer.
    """

    def __init__(self, api: client.ApiClient, *, may_write_for: Callable[[], float] = unfenced) -> None:
        self._api = api
        self._may_write_for = may_write_for

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object; None if there is none."""
        return await self.send("GET", path_of(kind, namespace, name), absent_is_none=True)

    async def metadata(self, kind: str, namespace: str, name: str, *, remembered: bool = False) -> Manifest | None:
        """An object's metadata, without what is in it; None if there is none. `remembered` may be of a moment ago."""
        accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
        query = {"resourceVersion": "0"} if remembered else {}
        return await self.send("GET", path_of(kind, namespace, name), accept=accept, query=query, absent_is_none=True)

    async def list(self, kind: str, namespace: str = "", *, labels: str = "", fields: str = "") -> list[Manifest]:
        """All of a kind, with these labels and fields."""
        answer = await self.send("GET", path_of(kind, namespace), query=_selectors(labels, fields))
        return list((answer or {}).get("items") or [])

    async def pages(
        self, kind: str, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> AsyncIterator[Manifest]:
        """The same as lists of a part of the objects each, all of them as of one version."""
        query = {"limit": str(_PAGE)} | _selectors(labels, fields)
        while True:
            answer = await self.send("GET", path_of(kind, namespace), query=query) or {}
            yield answer
            query["continue"] = str((answer.get("metadata") or {}).get("continue") or "")
            if not query["continue"]:
                return

    async def discover(self, api_version: str) -> set[str]:
        """The plural names that the API server has of a group's version."""
        answer = await self.send("GET", f"/apis/{api_version}", absent_is_none=True)
        return {str(each["name"]) for each in (answer or {}).get("resources") or ()}

    async def send(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        query: Mapping[str, str] | None = None,
        absent_is_none: bool = False,
    ) -> Manifest | None:
        """One request and its answer, parsed."""
        headers = {"Accept": accept, "Content-Type": content_type}
        status, text = await self._exchange(method, path, body, query or {}, headers)
        if status == 422 and content_type == JSON_PATCH:
            status = 409  # a test of the patch failed
        return _answer(method, path, status, text, absent_is_none)

    async def log(self, namespace: str, pod: str, *, lines: int) -> str:
        """The last lines of the log of a pod of one container."""
        path = path_of("Pod", namespace, pod, sub="log")
        status, text = await self._exchange("GET", path, None, {"tailLines": str(lines)}, {"Accept": "*/*"})
        if status != 200:
            _answer("GET", path, status, text, False)  # raises
        return text.decode(errors="replace") if isinstance(text, bytes) else text

    async def _exchange(
        self, method: str, path: str, body: Body | None, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[int, bytes | str]:
        """One request: the status of its answer, and what is in it."""
        patience = _TIMEOUT if method == "GET" else min(_TIMEOUT, self._may_write_for())
        if patience <= 0:
            raise NotLeadingError(f"{method} {path} was not sent: this process may not lead any more.")
        metrics.REQUESTS.labels(method).inc()
        try:
            request = await self._api.param_serialize(
                method, path, query_params=list(query.items()), header_params=dict(headers), body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            response = await self._api.call_api(*request, _request_timeout=patience)
            text: bytes | str = await response.read()  # type: ignore[no-untyped-call]
            status = response.status
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ClusterError(
                f"The API server did not answer {method} {path} ({type(error).__name__}): it is tried again."
            ) from error
        except ApiException as error:  # some versions raise here, others return the status
            status, text = error.status or 0, error.body or ""
        return status, text


def _selectors(labels: str, fields: str) -> dict[str, str]:
    return {name: value for name, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}


def _answer(method: str, path: str, status: int, text: bytes | str, absent_is_none: bool) -> Manifest | None:
    if 200 <= status < 300:
        parsed: Manifest = from_json(text) if text else {}
        return parsed
    if status == 404 and absent_is_none:
        return None
    try:
        said = from_json(text).get("message") or ""
    except (ValueError, AttributeError):
        said = ""
    if status == 403 and "is being terminated" in said:
        raise NamespaceTerminatingError(f"Nothing new is taken by {path}: its namespace is being deleted.")
    if status == 403 and "exceeded quota" in said:
        raise QuotaError(
            f"The namespace's quota leaves no room: {said}; raise it, or make room, and it goes on by itself."
        )
    kind = _REFUSALS.get(status, ClusterError)
    raise kind(f"The API server refused {method} {path} with status {status}: {said or 'it gave no reason'}.")
