"""Stores to test against: a folder, moto's S3 over HTTP, and a server that answers what a test tells it to."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from stores import moto_s3

from enginewright_runtime.plan.request import StoreOptions
from enginewright_runtime.storage.open import open_store
from enginewright_runtime.storage.store import ObjectStore

SECRET = "ThisIsTheSecretKey/NeverToBeSeen"
BUCKET = "engines"


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials and nothing else of this machine's AWS settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """The URL of moto's server."""
    with moto_s3.served() as endpoint:
        yield endpoint


@pytest.fixture
def moto_options(moto_endpoint: str, _identity: None) -> StoreOptions:
    """Options for moto's server, with an empty bucket in it."""
    client = boto3.client("s3", endpoint_url=moto_endpoint, region_name="us-east-1")
    try:
        client.create_bucket(Bucket=BUCKET)
        for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
            client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    finally:
        client.close()
    return StoreOptions(endpoint=moto_endpoint, region="us-east-1", path_style=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A store under test, the prefix to write under (ending in "/"), and the options that opened it."""

    store: ObjectStore
    prefix: str
    options: StoreOptions


@pytest.fixture(params=["file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Both kinds of store, one after the other."""
    if request.param == "file":
        prefix, options = f"{(tmp_path / 'store').as_uri()}/", StoreOptions()
    else:
        prefix, options = f"s3://{BUCKET}/", request.getfixturevalue("moto_options")
    return Place(store=open_store(prefix, options), prefix=prefix, options=options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the scripted server says: a status, a body, headers; `length` may lie about the body's."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    delay: float = 0.0

    @classmethod
    def error(cls, status: int, code: str, message: str = "said the server") -> "Answer":
        """An S3 error document."""
        return cls(status=status, body=f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode())


Script = Callable[[str, str, dict[str, str]], Answer]


class ScriptedServer:
    """An HTTP server on this machine whose answers a test decides; it keeps what it was asked."""

    def __init__(self, script: Script) -> None:
        """Start listening on a free port."""
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # answers "Expect: 100-continue", for which boto3 would wait a second

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                self.rfile.read(length)
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.asked.append((self.command, self.path, headers))
                answer = script(self.command, self.path, headers)
                outer.stop.wait(answer.delay)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
                self.send_header("Connection", "close")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's own name
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that hung up is part of the tests."""

        self.stop = threading.Event()
        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.options = StoreOptions(
            endpoint=f"http://127.0.0.1:{self._server.server_port}", region="us-east-1", path_style=True
        )

    def close(self) -> None:
        """Stop listening."""
        self.stop.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def scripted() -> Iterator[Callable[[Script], ScriptedServer]]:
    """Start servers; they are closed after the test."""
    servers: list[ScriptedServer] = []

    def start(script: Script) -> ScriptedServer:
        servers.append(ScriptedServer(script))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def answer() -> type[Answer]:
    """The class of a scripted answer."""
    return Answer


@pytest.fixture
def secret() -> str:
    """The secret key that no sentence may hold."""
    return SECRET


@pytest.fixture
def file_size_limit() -> Callable[[int], Any]:
    """A context in which no file of this process may grow past so many bytes: a disk that is full."""
    import resource
    import signal

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)

    return limited
