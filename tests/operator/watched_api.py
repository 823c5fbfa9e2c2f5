"""An API server that has the kinds which are watched, no objects, and watches that fail when they are told to."""

import asyncio
import json
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from aiohttp import web

from enginewright_operator.watched import WATCHED

EXPIRED = {"kind": "Status", "status": "Failure", "code": 410, "message": "too old resource version: 1 (2)"}
BROKEN = {"kind": "Status", "status": "Failure", "code": 500, "message": "etcdserver: no leader"}


def row(kind: str, plural: str, *, namespaced: bool) -> dict[str, Any]:
    """A kind, as the API server tells of it."""
    return {"kind": kind, "name": plural, "singularName": "", "namespaced": namespaced, "verbs": ["list", "watch"]}


class WatchedApi:
    """Context manager; `kubeconfig` leads to it. `watches`: how many are open."""

    def __init__(self, folder: Path) -> None:
        self.kubeconfig = folder / "kubeconfig"
        self.watches = 0
        self.asked: set[tuple[str, str]] = set()  # lists and watches: of which kind, and of which of its objects
        self.refuses_to_tell = False  # which kinds there are
        self._ending: dict[str, asyncio.Event] = {how.plural: asyncio.Event() for how in WATCHED.values()}
        self._refuses = False
        self._says: dict[str, Any] = {}
        self._versions = {"v1": [row("Namespace", "namespaces", namespaced=False)]}  # kopf waits for this kind
        for kind, how in WATCHED.items():
            made = row(kind, how.plural, namespaced=not how.cluster_scoped)
            self._versions.setdefault(how.api_version, []).append(made)

    async def __aenter__(self) -> "WatchedApi":
        app = web.Application()
        app.router.add_route("GET", "/{path:.*}", self._answer)
        self._running = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await self._running.setup()
        site = web.TCPSite(self._running, "127.0.0.1", 0)
        await site.start()
        server = f"http://127.0.0.1:{self._running.addresses[0][1]}"
        config = {
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": {"server": server}}],
            "users": [{"name": "it", "user": {"token": "none"}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None):  # type: ignore[no-untyped-def]
        self._end()
        await self._running.cleanup()

    async def all_watched(self) -> None:
        """Wait until every kind is."""
        async with asyncio.timeout(120):
            while self.watches < len(WATCHED):
                await asyncio.sleep(0.01)

    def break_watches(self, of: str = "") -> None:
        """All end, or only those of this kind, with an event of type ERROR."""
        self._says = BROKEN
        self._end(of)

    def refuse_watches(self) -> None:
        """All end, and the requests for new ones are answered with 410."""
        self._refuses = True
        self._end()

    def _end(self, of: str = "") -> None:
        for plural, ending in self._ending.items():
            if of in ("", plural):
                ending.set()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.strip("/")
        group_version = path.removeprefix("apis/").removeprefix("api/")
        if path == "api":
            return web.json_response({"versions": ["v1"]})
        if path == "apis":
            return web.json_response({"groups": self._groups()})
        if group_version in self._versions:
            if self.refuses_to_tell:
                await asyncio.sleep(0.1 if group_version == "apps/v1" else 1.0)
                return web.json_response(EXPIRED, status=410)
            return web.json_response({"resources": self._versions[group_version]})
        selectors = [request.query[name] for name in ("labelSelector", "fieldSelector") if name in request.query]
        self.asked.add((path.rpartition("/")[2], ",".join(selectors)))
        if request.query.get("watch") != "true":
            return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})
        if self._refuses:
            return web.json_response(EXPIRED, status=410)
        return await self._watch(request)

    def _groups(self) -> list[dict[str, Any]]:
        names = [version.split("/") for version in self._versions if "/" in version]
        return [{"name": group, "versions": [it := {"version": version}], "preferredVersion": it}
                for group, version in names]  # fmt: skip

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self.watches += 1
        try:
            await self._ending[request.path.rpartition("/")[2]].wait()
            if self._says:
                await response.write(json.dumps({"type": "ERROR", "object": self._says}).encode() + b"\n")
        finally:
            self.watches -= 1
        return response
