"""Storage that is down, refuses or is full, through the real command line: as a build Job meets it, and a server."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import enginewright_runtime
from enginewright_builder import identities
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.recipe import Effort, Recipe
from enginewright_runtime.plan.request import REQUEST_VARIABLE, BuildRequest, StoreOptions
from enginewright_runtime.plan.target import TargetKind, TargetRequirement
from enginewright_runtime.storage import uris

Refused = Callable[..., str]


@pytest.fixture
def job(here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[StoreOptions], tuple[str, ...]]:
    """The command of a build Job whose plan goes to s3://engines/x.plan."""

    def order(options: StoreOptions) -> tuple[str, ...]:
        recipe = Recipe(
            model=identities.of(here / "good.onnx"),
            target=TargetRequirement(kind=TargetKind.CPU),
            builder=enginewright_runtime.__version__,
            effort=Effort.FAST,
        )
        model = uris.from_path(here / "good.onnx")
        request = BuildRequest(recipe=recipe, model=model, destination="s3://engines/x.plan", storage=options)
        monkeypatch.setenv(REQUEST_VARIABLE, request.to_json())
        return ("build", "--request-from-environment")

    return order


def test_storage_that_is_down(refused: Refused, job: Any, answering: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = StoreOptions(endpoint=f"http://127.0.0.1:{port}", region="us-east-1", path_style=True)
    refused(Outcome.STORAGE, job(options), "s3://engines/x.plan", f"127.0.0.1:{port}", "connection failed", "try again")


def test_storage_that_refuses(refused: Refused, job: Any, answering: Any) -> None:
    words = job(answering(lambda _method: (403, "AccessDenied")))
    sentence = refused(Outcome.STORAGE_DENIED, words, "s3://engines/x.plan", "refused", "check the credentials")
    assert "NeverToBeSeen" not in sentence


def test_storage_that_is_full(refused: Refused, job: Any, answering: Any) -> None:
    words = job(answering(lambda method: (404, "NoSuchKey") if method == "HEAD" else (507, "QuotaExceeded")))
    refused(Outcome.STORAGE, words, "s3://engines/x.plan", "the store is full", "make room there")


def test_a_server_whose_storage_refuses_or_lacks_the_plan(
    refused: Refused, answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = (403, "InvalidAccessKeyId")
    monkeypatch.setenv("ENGINEWRIGHT_STORAGE_ENDPOINT", answering(lambda _method: answer).endpoint)
    monkeypatch.setenv("ENGINEWRIGHT_STORAGE_REGION", "us-east-1")
    monkeypatch.setenv("ENGINEWRIGHT_STORAGE_PATH_STYLE", "true")
    words = ("serve", "s3://engines/x.plan", "--http-port", "0", "--cache", "cache")
    refused(Outcome.STORAGE_DENIED, words, "s3://engines/x.plan", "check the credentials")
    answer = (404, "NoSuchKey")
    refused(Outcome.STORAGE_DENIED, words, "s3://engines/x.plan", "no such object", "store the object first")


def test_a_disk_that_is_full(here: Path) -> None:
    """In a process of its own: the limit on how large a file may be would count for the tests' files too."""
    before = sorted(here.rglob("*"))
    words = [
        sys.executable,
        "-m",
        "enginewright_runtime.cli",
        "build",
        "good.onnx",
        "-o",
        "new.plan",
        "--effort",
        "fast",
    ]
    environment = {**os.environ, "TMPDIR": str(here.parent / "temporary")}
    command = ["sh", "-c", 'ulimit -f 4 && exec "$@"', "sh", *words]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=250, check=False)
    assert ended.returncode == Outcome.STORAGE, ended.stderr
    (sentence,) = [line for line in ended.stderr.splitlines() if line.startswith("enginewright: ")]
    assert "plan" in sentence
    assert "room" in sentence or "space" in sentence
    assert "Traceback" not in ended.stderr
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("place", "outcome", "parts"),
    [
        (".", Outcome.USAGE, ("must be a file", "is a folder", "model.plan")),
        ("good.onnx/x.plan", Outcome.STORAGE_DENIED, ("good.onnx/x.plan", "not a folder", "-o")),
        ("s3://engines/x.plan", Outcome.USAGE, ("got the URI s3://engines/x.plan", "give a path", "manifest")),
    ],
)
def test_a_place_that_cannot_take_the_plan_is_refused_before_the_work(
    refused: Refused, place: str, outcome: Outcome, parts: tuple[str, ...]
) -> None:
    refused(outcome, ("build", "good.onnx", "-o", place), *parts)


def test_a_uri_where_a_file_is_wanted(refused: Refused) -> None:
    refused(Outcome.USAGE, ("build", "s3://models/m.onnx", "-o", "x.plan"), "s3://models/m.onnx", "give a path")
