"""A served plan: in this process to see what is answered, or as a process of its own to see signals and clients."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.server.dataplane import Dataplane, Model, State, ThreadDispatcher
from enginewright_runtime.server.metrics import Metrics
from enginewright_runtime.server.rest import Rest

MAX_BODY = 4096


@dataclass
class Served:
    """A client of a server that runs in this process."""

    client: TestClient[Any, Any]
    dataplane: Dataplane
    rest: Rest

    async def post(self, path: str, body: bytes, **headers: str) -> tuple[int, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.post(path, data=body, headers=named) as answer:
            return answer.status, await answer.json(content_type=None)

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.client.get(path) as answer:
            return answer.status, await answer.json(content_type=None)


@pytest.fixture
async def served(make_plan: Callable[..., Path], models: Any) -> AsyncIterator[Served]:
    """The model `small` (x float32 [2, 4] -> scores float32 [2, 3])."""
    dataplane = Dataplane(ThreadDispatcher(concurrency=1, waiting=1))
    dataplane.add(Model(name="small", version="v1", engine=Engine(make_plan(models.small()), threads=1)))
    dataplane.state = State.READY
    rest = Rest(dataplane, Metrics(), max_body=MAX_BODY, access_log=0)
    async with TestClient(TestServer(rest.application())) as client:
        yield Served(client, dataplane, rest)
    dataplane.close()


@dataclass
class Process:
    """`enginewright serve` as a process; `url` is known once it is ready."""

    process: "subprocess.Popen[str]"
    url: str = ""
    lines: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    reading: threading.Thread | None = None

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(sent)
        return self.ended()

    def ended(self) -> int:
        """Its exit code, once it has ended; the log is whole then."""
        code = self.process.wait(120)
        if self.reading is not None:
            self.reading.join()
        return code


@pytest.fixture
def serve() -> Iterator[Callable[..., Process]]:
    """Starts `enginewright serve` with these arguments on a free port and waits until it says that it is ready."""
    started: list[Process] = []

    def start(*arguments: object, **environment: str) -> Process:
        command = [sys.executable, "-m", "enginewright_runtime.cli", "serve", *map(str, arguments), "--http-port", "0"]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "ENGINEWRIGHT_THREADS": "1", **environment},
        )
        served = Process(process)
        started.append(served)
        assert process.stdout is not None
        for line in process.stdout:
            served.lines.append(line.rstrip())
            if found := re.search(r"http://\S+:\d+", line):
                served.url = served.url or found.group()
            if line == "Ready.\n":
                break
        else:
            assert process.stderr is not None
            raise AssertionError(f"exit {process.wait()}: {process.stderr.read()}")
        served.reading = threading.Thread(target=lambda: served.log.extend(process.stderr or ()), daemon=True)
        served.reading.start()
        return served

    yield start
    for served in started:
        if served.process.poll() is None:
            served.process.kill()
            served.process.wait()
        for stream in (served.process.stdout, served.process.stderr):
            if stream is not None:
                stream.close()
