"""The server's smaller parts: settings, sources, the dispatcher and what can be served at all."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginewright_runtime.errors import InputError, PlanError, UsageError
from enginewright_runtime.plan.manifest import Binding
from enginewright_runtime.server import protocol, settings, sources
from enginewright_runtime.server.dataplane import Model, OverloadedError, ThreadDispatcher


@pytest.mark.parametrize(
    ("word", "name", "uri"),
    [
        ("a/x.plan", "x", "a/x.plan"),
        ("m=a/x.plan", "m", "a/x.plan"),
        ("m=s3://b/k?a=b", "m", "s3://b/k?a=b"),
        ("s3://b/plans/x.plan", "x", "s3://b/plans/x.plan"),
        ("./a=b/x.plan", "x", "./a=b/x.plan"),
    ],
)
def test_a_plan_is_named_by_the_caller_or_by_its_file(word: str, name: str, uri: str) -> None:
    assert sources.parse([word]) == (sources.Source(name=name, uri=uri),)


@pytest.mark.parametrize(("words", "sentence"), [([], "There is no plan to serve"), (["s3://b/%%.plan"], "name=s3://")])
def test_what_names_no_model_is_refused(words: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        sources.parse(words)


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINEWRIGHT_HTTP_PORT", "1234")
    monkeypatch.setenv("ENGINEWRIGHT_STORAGE_PATH_STYLE", "true")
    assert settings.read(http_port=None).http_port == 1234
    assert settings.read(http_port=99).http_port == 99
    assert settings.read().storage.path_style
    assert settings.read(max_body="2KiB").max_body == 2048


@pytest.mark.parametrize(("flags", "name"), [({"http_port": 70000}, "http_port"), ({"max_body": "lots"}, "max_body")])
def test_a_setting_that_does_not_fit_is_named_as_flag_and_variable(flags: dict[str, Any], name: str) -> None:
    with pytest.raises(UsageError, match=f"ENGINEWRIGHT_{name.upper()}.* does not fit"):
        settings.read(**flags)


@pytest.mark.parametrize(
    ("binding", "kind"),
    [
        (Binding(name="x", dtype="float8_e5m2", shape=(1,)), "float8_e5m2"),
        (Binding(name="x", dtype="float32", container="sequence"), "sequence"),
    ],
)
def test_what_the_protocol_has_no_word_for_cannot_be_served(binding: Binding, kind: str) -> None:
    with pytest.raises(PlanError, match=f"'x' is a {kind}, and the Open Inference Protocol"):
        protocol.require_servable([binding], plan="a.plan")


@pytest.mark.parametrize(
    ("array", "sentence"),
    [(np.array([np.nan], np.float32), "not finite"), (np.array([1], np.float16), "FP16, which has no JSON form")],
)
def test_what_json_cannot_hold_is_asked_for_as_binary(array: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=f"{sentence}.*binary data"):
        protocol.encode({"y": array}, {"y": False}, model="m", version="1", request_id="")


def test_arrays_out_of_order_and_empty_ones_go_out_as_binary() -> None:
    outputs = {"t": np.arange(4, dtype=np.int16).reshape(2, 2).T, "e": np.empty((0, 3), np.float32)}
    answer = protocol.encode(outputs, {"t": True, "e": True}, model="m", version="1", request_id="")
    assert b"".join(answer.body)[answer.header_length :] == np.array([0, 2, 1, 3], np.int16).tobytes()


class Sleeper:
    """In place of an engine: runs as long as it is told and remembers on which thread."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.threads: list[str] = []

    def infer(self, _tensors: Any) -> dict[str, Any]:
        self.threads.append(threading.current_thread().name)
        time.sleep(self.seconds)
        return {}


def model(engine: Any) -> Model:
    return Model(name="m", version="1", engine=engine)


async def test_a_long_run_goes_to_a_thread_and_brief_ones_stay() -> None:
    dispatcher, brief, long = ThreadDispatcher(concurrency=1, waiting=4), Sleeper(0), Sleeper(0.002)
    for each in (brief, long):
        asked = model(each)
        for _ in range(200):
            await dispatcher.run(asked, {})
    dispatcher.close()
    assert "MainThread" in brief.threads  # not all: a hiccup of the machine sends the next ones to a thread
    assert "MainThread" not in long.threads


async def test_what_may_not_wait_is_turned_away() -> None:
    import asyncio

    dispatcher, asked = ThreadDispatcher(concurrency=1, waiting=1), model(Sleeper(0.05))
    results = await asyncio.gather(*(dispatcher.run(asked, {}) for _ in range(4)), return_exceptions=True)
    dispatcher.close()
    assert [isinstance(result, OverloadedError) for result in results] == [False, False, True, True]


def test_a_plan_that_cannot_be_loaded_leaves_nothing_open(make_plan: Callable[..., Path], models: Any) -> None:
    from enginewright_runtime.server import app

    plan = make_plan(models.small(), goldens=[(0, {"x": np.ones((2, 4), np.float32)}, {"nope": np.ones(1)})])
    with pytest.raises(PlanError, match="has the output 'nope'; the engine has not"):
        app.load(sources.Source(name="m", uri=str(plan)), settings.read())
