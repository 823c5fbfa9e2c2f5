"""An object store that is down for whom a test says: a proxy that hangs up before the store has heard anything."""

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

Fails = Callable[[str, str], bool]  # of the method and the path


def nothing(method: str, path: str) -> bool:
    """The store is up."""
    return False


def everything(method: str, path: str) -> bool:
    """The store is down."""
    return True


class FlakyStore:
    """Context manager: `endpoint` leads to the store at `target`, except for requests that `fails` names."""

    def __init__(self, target: str) -> None:
        self.fails: Fails = nothing
        self.refused = 0
        outer, address = self, urlsplit(target).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if outer.fails(self.command, self.path):
                    outer.refused += 1
                    self.close_connection = True
                    return
                store = http.client.HTTPConnection(address, timeout=120)
                store.request(self.command, self.path, body, {**self.headers, "Connection": "close"})
                answer = store.getresponse()
                text = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "transfer-encoding", "date", "server", "content-length"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(text))
                self.send_header("Content-Length", length or "0")
                self.end_headers()
                self.wfile.write(text)
                store.close()

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own name
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that hangs up, or is killed, is part of the tests."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="flaky store")
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FlakyStore":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def down_for(self, fails: Fails) -> None:
        """Down for these requests from now on; `refused` counts them anew."""
        self.fails, self.refused = fails, 0
