"""Faults in what the operator is told: a proxy before the API server through which kopf lists and watches; a whole
process may have it for its API server.

The watches of one namespace go wrong from the moment that its fault begins; those of all others are passed on as they
are. What a stream says goes wrong in the stream itself, so that kopf's own part in it is under test as well.
"""

import asyncio
import base64
import json
import ssl
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from campaign.faults import OUTAGE, Fault, Kind
from controlplane.cluster import ControlPlane


def failure(code: int, reason: str) -> dict[str, Any]:
    """What the API server says when it refuses."""
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    return status | {"message": f"{reason}, says the test"}


def error(code: int, reason: str) -> bytes:
    """The event by which a watch ends that the API server cannot go on with."""
    return json.dumps({"type": "ERROR", "object": failure(code, reason)}).encode() + b"\n"


# How open watches end when the fault begins; those that are begun while it lasts end at once in the same way.
ENDS = {
    Kind.WATCH_EXPIRED: error(410, "Expired"),
    Kind.WATCH_BROKEN: error(500, "InternalError"),
    Kind.WATCH_REFUSED: b"",
    Kind.WATCH_CUT: b"",
}
Line = tuple[bytes, bool]  # and whether it is late, so that it is not put off again


class Watching:
    """One stream: its lines as they come, and what its fault makes of them."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.lines: asyncio.Queue[Line | None] = asyncio.Queue()
        self._events = 0

    def passed(self, line: Line) -> list[bytes]:
        """What is told in place of this line."""
        text, late = line
        self._events += not late
        if late or not self.fault.reached or self._events % 2:
            return [text]
        if self.fault.kind is Kind.EVENTS_DROPPED:
            return []
        if self.fault.kind in (Kind.EVENTS_STALE, Kind.EVENTS_TWICE):
            asyncio.get_running_loop().call_later(OUTAGE, self.lines.put_nowait, (text, True))
            return [text, text] if self.fault.kind is Kind.EVENTS_TWICE else []
        return [text]


class WatchProxy:
    """Context manager: `kubeconfig` leads through it to the control plane."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self._plane, self.kubeconfig = plane, folder / "kubeconfig"
        self._faults: dict[str, Fault] = {}
        self._open: dict[str, set[Watching]] = defaultdict(set)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="watches")
        self._running: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    def __enter__(self) -> "WatchProxy":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(200)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(200)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def afflict(self, namespace: str, fault: Fault) -> None:
        """The watches of this namespace suffer from this fault as soon as it begins."""
        self._faults[namespace] = fault
        fault.heard.append(lambda: self._loop.call_soon_threadsafe(self._end, namespace))

    def _end(self, namespace: str) -> None:
        if self._faults[namespace].kind in ENDS:
            for watching in self._open[namespace]:
                watching.lines.put_nowait(None)

    async def _start(self) -> None:
        config: Any = yaml.safe_load(self._plane.kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        authority = base64.b64decode(cluster.pop("certificate-authority-data")).decode()
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=authority), limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._running = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)  # 0 would be no limit
        await self._running.setup()
        site = web.TCPSite(self._running, "127.0.0.1", 0)
        await site.start()
        cluster["server"] = f"http://127.0.0.1:{self._running.addresses[0][1]}"
        self.kubeconfig.write_text(yaml.safe_dump(config))

    async def _stop(self) -> None:
        assert self._running
        assert self._session
        await self._running.cleanup()
        await self._session.close()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        assert self._session
        namespace = (request.path.partition("/namespaces/")[2]).partition("/")[0]
        watching = Watching(self._faults.get(namespace, Fault()))
        watches = request.query.get("watch") == "true"
        if watches and watching.fault.kind is Kind.WATCH_REFUSED and watching.fault.lasts():
            return web.json_response(failure(410, "Expired"), status=410)
        passed_on = ("Authorization", "Accept", "Content-Type")
        headers = {name: request.headers[name] for name in passed_on if name in request.headers}
        url, timeout = self._plane.server + request.path_qs, aiohttp.ClientTimeout()
        body = await request.read() if request.can_read_body else None
        async with self._session.request(request.method, url, headers=headers, data=body, timeout=timeout) as answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            with suppress(ConnectionError):
                if watches:
                    await self._stream(answer, response, watching, namespace)
                else:
                    await response.write(await answer.read())
                await response.write_eof()
        return response

    async def _stream(
        self, answer: aiohttp.ClientResponse, response: web.StreamResponse, watching: Watching, namespace: str
    ) -> None:
        fault = watching.fault
        reading = asyncio.create_task(_read(answer, watching.lines))
        self._open[namespace].add(watching)
        if fault.kind in ENDS and fault.lasts():
            watching.lines.put_nowait(None)
        try:
            while (line := await watching.lines.get()) is not None:
                for each in watching.passed(line):
                    await response.write(each)
            if fault.lasts():
                await response.write(ENDS.get(fault.kind, b""))
        finally:
            self._open[namespace].discard(watching)
            reading.cancel()


async def _read(answer: aiohttp.ClientResponse, lines: "asyncio.Queue[Line | None]") -> None:
    text = b""
    with suppress(aiohttp.ClientError):
        async for chunk in answer.content.iter_any():  # a line may be longer than aiohttp reads lines
            *whole, text = (text + chunk).split(b"\n")
            for line in whole:
                lines.put_nowait((line + b"\n", False))
    lines.put_nowait(None)
