"""kopf ends as we wish: by itself it would cancel our tasks with its own, and wait for ever for one of its watchers."""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from watched_api import WatchedApi

from enginewright_operator import handlers
from enginewright_operator.errors import WatchError
from enginewright_operator.watched import WATCHED, Watched

ENDS_IN = 120.0  # seconds: a limit for what hangs; kopf itself waits for 2 s


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WatchedApi]:
    """An API server on which every kind can be watched."""
    async with WatchedApi(tmp_path) as made:
        monkeypatch.setenv("KUBECONFIG", str(made.kubeconfig))
        yield made


def begun(stop: asyncio.Event) -> "asyncio.Task[None]":
    """Watches that begin."""
    watched = Watched(lambda *_: None)
    return asyncio.create_task(handlers.watch(watched, WATCHED, namespaces=("n",), stop=stop))


async def watching(api: WatchedApi, stop: asyncio.Event) -> "asyncio.Task[None]":
    """Watches that are under way."""
    task = begun(stop)
    await api.all_watched()
    return task


async def ends(task: "asyncio.Task[None]", says: str) -> None:
    """They end by themselves, with one sentence."""
    async with asyncio.timeout(ENDS_IN):
        with pytest.raises(WatchError, match=says) as raised:
            await task
    assert "\n" not in raised.value.message


def left(before: "set[asyncio.Task[Any]]") -> "set[asyncio.Task[Any]]":
    """Tasks that were not there before, without those of the API server, which lives in the same loop."""
    return {task for task in asyncio.all_tasks() - before if "RequestHandler" not in repr(task.get_coro())}


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as such, of that which is told when the garbage is collected too."""
    gc.collect()
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


FAILURES: dict[str, tuple[Callable[[WatchedApi], None], str]] = {
    "410 in answer to the request": (WatchedApi.refuse_watches, r"\(too old resource version"),
    "500 in all streams": (WatchedApi.break_watches, r"no leader"),
    "500 in one stream": (lambda api: api.break_watches("jobs"), r"no leader"),
}


@pytest.mark.parametrize(("fail", "says"), FAILURES.values(), ids=FAILURES)
async def test_a_watch_that_fails_ends_the_watches_alone_and_is_told_in_one_sentence(
    api: WatchedApi, caplog: pytest.LogCaptureFixture, fail: Callable[[WatchedApi], None], says: str
) -> None:
    before = asyncio.all_tasks()
    task = await watching(api, asyncio.Event())
    ours = asyncio.create_task(asyncio.Event().wait())  # began after kopf
    fail(api)
    await ends(task, says)
    await asyncio.sleep(0)
    assert not ours.done()
    ours.cancel()
    del task
    assert left(before | {ours}) == set()
    assert errors(caplog) == []


async def test_a_server_that_does_not_tell_its_kinds_ends_them_too(
    api: WatchedApi, caplog: pytest.LogCaptureFixture
) -> None:
    before = asyncio.all_tasks()
    api.refuses_to_tell = True
    await ends(begun(asyncio.Event()), r"\(too old resource version")
    assert left(before) == set()
    assert errors(caplog) == []


async def test_only_what_concerns_us_is_listed_and_watched(api: WatchedApi) -> None:
    stop = asyncio.Event()
    task = await watching(api, stop)
    stop.set()
    await task
    assert api.asked == {(how.plural, how.labels or how.fields) for how in WATCHED.values()}
    assert ("resourceslices", "spec.driver=gpu.nvidia.com") in api.asked


async def test_watches_end_when_they_are_told_to(api: WatchedApi) -> None:
    stop = asyncio.Event()
    task = await watching(api, stop)
    stop.set()
    async with asyncio.timeout(ENDS_IN):
        await task


async def test_watches_end_when_the_process_is_told_to(api: WatchedApi) -> None:
    task = await watching(api, asyncio.Event())
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(ENDS_IN):
        await task
