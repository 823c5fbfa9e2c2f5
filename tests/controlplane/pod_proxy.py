"""A plain HTTP proxy that sends a request for a Pod's reported address to where its process really listens.

Pods report 198.18.a.b, to which no packet goes (README.md, the first trap). Whoever asks pods by themselves, as the
operator does for their metrics, is given this proxy. One request a connection; GET alone.
"""

import socket
import socketserver
import threading
import urllib.parse
from types import TracebackType

from controlplane.service_proxy import BOUND, REPORTED

TIMEOUT = 60.0


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        method, target, _ = self.rfile.readline(8192).decode().split(" ", 2)
        while self.rfile.readline(8192).strip():
            pass  # nothing in the headers is of use to a Pod
        url = urllib.parse.urlsplit(target)
        host = (url.hostname or "").replace(REPORTED, BOUND, 1)
        try:
            with socket.create_connection((host, url.port or 80), timeout=TIMEOUT) as pod:
                pod.sendall(f"{method} {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n".encode())
                while data := pod.recv(1 << 16):
                    self.wfile.write(data)
        except OSError:
            self.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


class PodProxy:
    """Context manager; `url` is what an HTTP client takes for a proxy."""

    def __enter__(self) -> "PodProxy":
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="pod proxy", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(TIMEOUT)
