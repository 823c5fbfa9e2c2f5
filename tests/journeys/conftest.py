"""What a newcomer has at hand: a small model, its plan, and the command line, watched for what it leaves behind."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginewright_runtime import cli
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.request import StoreOptions

SENTENCE = "enginewright: "
Answer = Callable[[str], tuple[int, str]]
SERVE = (sys.executable, "-m", "enginewright_runtime.cli", "serve")


def make_model(path: Path, *, operator: str = "MatMul", domain: str = "") -> Path:
    """y [batch, 3] = x [batch, 4] times weights; another operator makes it one that nobody knows."""
    node = helper.make_node(operator, ["x", "w"], ["y"], name="first", domain=domain)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph([node], "small", [x], [y], [numpy_helper.from_array(np.ones((4, 3), np.float32), "w")])
    opsets = [helper.make_opsetid(name, version) for name, version in {"": 17, domain: 17 if not domain else 1}.items()]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


@pytest.fixture
def model() -> Callable[..., Path]:
    """Writes a small model to a path."""
    return make_model


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The plan of the small model for batch 1, built by the command line once."""
    folder = tmp_path_factory.mktemp("built")
    words = ["build", str(make_model(folder / "good.onnx")), "-o", str(folder / "good.plan"), "--effort", "fast"]
    assert cli.main(words) == Outcome.DONE
    return (folder / "good.plan").read_bytes()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: bytes) -> Path:
    """A person's folder, and the one they are in: good.onnx and good.plan lie there. Temporary files go beside it."""
    folder, temporary = tmp_path / "here", tmp_path / "temporary"
    for each in (folder, temporary):
        each.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    make_model(folder / "good.onnx")
    (folder / "good.plan").write_bytes(built)
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def sentences(self) -> list[str]:
        """The lines on standard error that are ours to a person; progress and the server's log are none."""
        return [line.removeprefix(SENTENCE) for line in self.err.splitlines() if line.startswith(SENTENCE)]


@pytest.fixture
def enginewright(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs the command line in this process. A traceback would be an exception here, and fail the test."""

    def run(*words: object) -> Ended:
        capfd.readouterr()
        handlers, level = logging.root.handlers[:], logging.root.level
        try:
            code = cli.main([str(word) for word in words])
        finally:
            # `serve` sets up the process's log, on a standard error that is this test's own.
            logging.root.handlers[:] = handlers
            logging.root.setLevel(level)
        out, err = capfd.readouterr()
        return Ended(code=code, out=out, err=err)

    return run


@pytest.fixture
def refused(enginewright: Callable[..., Ended], here: Path) -> Callable[..., str]:
    """Runs a command that must be refused, as text and with --json; gives the sentence, which must hold all `parts`.

    Nothing may be written, and no temporary file may stay.
    """

    def run(outcome: Outcome, words: tuple[object, ...], *parts: str) -> str:
        before = _everything_in(here.parent)
        ended = enginewright(*words)
        assert ended.code == outcome, ended.err
        assert ended.out == "" or words[0] == "serve"  # which says where it listens before it loads
        (sentence,) = ended.sentences
        assert ended.err.endswith(f"{SENTENCE}{sentence}\n")
        as_json = enginewright(*words, "--json")
        assert as_json.code == outcome
        assert as_json.sentences == []
        error = json.loads(as_json.out)["error"]
        assert error["outcome"] == outcome.name
        for text in (sentence, error["message"]):
            assert [part for part in parts if part not in text] == [], text
            assert text.endswith(".")
            assert "Traceback" not in text
        assert "Traceback" not in ended.err + as_json.err
        assert _everything_in(here.parent) == before
        return sentence

    return run


def _everything_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], StoreOptions]]:
    """Starts an HTTP server, a store or a cluster. A function of the method, or of a GET's path, decides its answers.

    An answer is a status and a body: JSON, or the code of an S3 error.
    """
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "NeverToBeSeen")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> StoreOptions:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(answer))
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return StoreOptions(endpoint=f"http://127.0.0.1:{server.server_port}", region="us-east-1", path_style=True)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _handler(answer: Answer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, said = answer(self.path if self.command == "GET" else self.command)
            body = said if said.startswith("{") else f"<Error><Code>{said}</Code></Error>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json" if body is said else "application/xml")
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_GET = do_PUT = do_HEAD = do_POST = handle_any

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's own name
            """Say nothing."""

    return Handler


@pytest.fixture(scope="session")
def start_server() -> Callable[..., "subprocess.Popen[str]"]:
    """Starts `enginewright serve` as a process of its own on a free port; it says with --json where it is ready."""

    def start(*words: object, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*SERVE, *map(str, words), "--http-port", "0", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "ENGINEWRIGHT_THREADS": "1", **environment},
        )

    return start


@pytest.fixture(scope="session")
def server(
    built: bytes,
    start_server: Callable[..., "subprocess.Popen[str]"],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The URL of a server of good.plan, which takes bodies of 4,096 bytes at most. It must end well at the end."""
    plan = tmp_path_factory.mktemp("served") / "good.plan"
    plan.write_bytes(built)
    process = start_server(plan, "--max-body", "4096", "--drain-delay", "0")
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
        process.terminate()
        _, log = process.communicate(timeout=120)
        assert process.returncode == Outcome.DONE
        assert "Traceback" not in log
    finally:
        process.kill()
        process.communicate()
