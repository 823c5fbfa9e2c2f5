"""A stand-in for kube-proxy: one Service on a port of 127.0.0.1.

It follows the Service's EndpointSlices by watch and sends each new TCP connection to the next ready endpoint. As with
kube-proxy an open connection stays where it is, and a connection to a Service without ready endpoints is refused. It
does not try another endpoint when one refuses: that would hide a server that closed before it was taken out. Nor
must it be the cause of a failed request itself.
"""

import asyncio
import contextlib
import socket
import threading
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType

from controlplane.kube_json import Json, KubeJson
from controlplane.ports import free_ports

CHUNK = 1 << 16
START_WITHIN = 200.0
REPORTED, BOUND = "198.18.", "127.18."  # where a Pod says it is, and where its process listens (README.md, the trap)


class ServiceProxy:
    """Context manager. `url` and `port` stay the same while endpoints come and go; `port_name` picks one of several."""

    def __init__(self, *, kubeconfig: Path, namespace: str, service: str, port_name: str | None = None) -> None:
        self._kubeconfig, self._namespace, self._service, self._port_name = kubeconfig, namespace, service, port_name
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.refused = 0  # connections that a ready endpoint did not take: the server's failure, not the proxy's
        self._slices: dict[str, Json] = {}
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name=f"proxy of {service}", daemon=True)

    def __enter__(self) -> "ServiceProxy":
        # Bound but not listening, it keeps the port ours while no endpoint is ready.
        self._placeholder = self._socket()
        self._thread.start()
        try:
            self._started.result(START_WITHIN)
        except BaseException:
            self._placeholder.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_WITHIN)
        self._placeholder.close()

    def endpoints(self) -> list[tuple[str, int]]:
        """Where new connections go at this moment: the ready endpoints, as local addresses."""
        ready = set()
        for slice_ in list(self._slices.values()):
            ports = [each["port"] for each in slice_.get("ports") or [] if self._port_name in {None, each.get("name")}]
            for endpoint in slice_.get("endpoints") or []:
                # Absent means ready (the API's own rule); a terminating endpoint is never ready.
                if ports and (endpoint.get("conditions") or {}).get("ready", True):
                    ready |= {(address.replace(REPORTED, BOUND, 1), ports[0]) for address in endpoint["addresses"]}
        return sorted(ready)

    def _socket(self) -> socket.socket:
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(("127.0.0.1", self.port))
        return bound

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            raise

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with await KubeJson.connect(self._kubeconfig) as cluster:
            following = asyncio.create_task(self._follow(cluster))
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait([following, stopped], return_when=asyncio.FIRST_COMPLETED)
            following.cancel()
            stopped.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
            if self._server:
                self._server.close()
            for writer in list(self._open):
                writer.transport.abort()
            while self._open:
                await asyncio.sleep(0.01)

    async def _follow(self, cluster: KubeJson) -> None:
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self._namespace}/endpointslices"
        query = [("labelSelector", f"kubernetes.io/service-name={self._service}")]
        async for event, item in cluster.list_then_watch(path, query):
            if event == "LISTED":
                self._slices = {each["metadata"]["name"]: each for each in item["items"]}
            elif event == "DELETED":
                self._slices.pop(item["metadata"]["name"], None)
            else:
                self._slices[item["metadata"]["name"]] = item
            await self._listen_or_refuse()
            if not self._started.done():
                self._started.set_result(None)

    async def _listen_or_refuse(self) -> None:
        if self.endpoints() and self._server is None:
            self._server = await asyncio.start_server(self._forward, sock=self._socket(), backlog=1024)
        elif not self.endpoints() and self._server is not None:
            self._server.close()
            self._server = None

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to one endpoint, both ways, until both sides have ended."""
        self._open.add(writer)
        try:
            if not (endpoints := self.endpoints()):
                return writer.transport.abort()
            self._turn += 1
            try:
                back_reader, back_writer = await asyncio.open_connection(*endpoints[self._turn % len(endpoints)])
            except OSError:
                self.refused += 1
                return writer.transport.abort()
            self._open.add(back_writer)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(pump(reader, back_writer))
                    both.create_task(pump(back_reader, writer))
            except* OSError:  # a reset by one side is passed on to the other
                writer.transport.abort()
                back_writer.transport.abort()
            finally:
                await close(back_writer)
                self._open.discard(back_writer)
        finally:
            await close(writer)
            self._open.discard(writer)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copies until the reader's side has ended, then says so to the writer's side; the other way may go on."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof() and not writer.is_closing():
        writer.write_eof()


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
