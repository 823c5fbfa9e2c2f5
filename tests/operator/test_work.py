"""What the leader does ends as a whole, in bounded time, with what ended it: a half that goes on would look alive."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from enginewright_operator import __main__ as operator
from enginewright_operator import handlers
from enginewright_operator.controller import Controller
from enginewright_operator.errors import WatchError
from enginewright_operator.settings import Settings

Part = Callable[..., Awaitable[None]]
ENDS_IN = 120.0  # seconds: a limit for what hangs


class Parts:
    """What `work` runs, with its two halves in the test's hands; `ended` names those that have."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ended: list[str] = []
        self.lost = asyncio.Event()
        self._patch = patch
        patch.setattr(operator, "_kinds", _forget)
        patch.setattr(operator, "ENDING", 0.05)

    def halves(self, *, controller: Part, watch: Part) -> None:
        """Run these."""
        self._patch.setattr(Controller, "run", self._noted("controller", controller))
        self._patch.setattr(handlers, "watch", self._noted("watches", watch))

    def _noted(self, name: str, part: Part) -> Part:
        async def run(*arguments: Any, **named: Any) -> None:
            try:
                await part(*arguments, **named)
            finally:
                self.ended.append(name)

        return run

    async def work(self) -> None:
        """`work`, in bounded time."""
        made_of: Any = SimpleNamespace(kube=None, stores=None, now=None, queue=None, watched=None)
        async with asyncio.timeout(ENDS_IN):
            await operator.work(Settings(), made_of, self.lost)


async def _forget(*_: Any) -> None:
    return None


async def until_cancelled(*_: Any, **__: Any) -> None:
    await asyncio.Event().wait()


async def cannot_watch(*_: Any, **__: Any) -> None:
    raise WatchError("no more")


async def defect(*_: Any, **__: Any) -> None:
    raise ZeroDivisionError("a defect")


async def until_told(*_: Any, stop: asyncio.Event, **__: Any) -> None:
    await stop.wait()


async def swallows_one(*_: Any, **__: Any) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.Event().wait()


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    return Parts(monkeypatch)


async def test_watches_that_fail_end_the_controller_too(parts: Parts) -> None:
    parts.halves(controller=until_cancelled, watch=cannot_watch)
    with pytest.raises(WatchError):
        await parts.work()
    assert parts.ended == ["watches", "controller"]


async def test_a_controller_that_dies_ends_the_watches_too(parts: Parts) -> None:
    parts.halves(controller=defect, watch=until_cancelled)
    with pytest.raises(ZeroDivisionError):
        await parts.work()
    assert parts.ended == ["controller", "watches"]


@pytest.mark.parametrize("controller", [until_cancelled, swallows_one])
async def test_a_leader_that_leads_no_more_ends_both(parts: Parts, controller: Part) -> None:
    parts.halves(controller=controller, watch=until_told)
    asyncio.get_running_loop().call_later(0.05, parts.lost.set)
    await parts.work()
    assert parts.ended == ["watches", "controller"]


def test_watches_that_fail_end_the_process_with_one_sentence_and_not_with_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(settings: Settings) -> None:
        raise WatchError("The API server cannot be watched any more.")

    monkeypatch.setattr(operator, "run", run)
    monkeypatch.setattr(operator, "_log_as_json", lambda: None)
    monkeypatch.setattr("sys.argv", ["enginewright-operator"])
    with pytest.raises(SystemExit) as ended:
        operator.main()
    assert ended.value.code not in (0, None)
    assert capsys.readouterr().err == "The API server cannot be watched any more.\n"
