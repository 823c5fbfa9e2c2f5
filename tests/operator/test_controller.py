"""A worker brings back what failed, looks again when told to, and never lets one object stop the others."""

import asyncio
from typing import Any

import pytest
from virtual_time import virtually

from enginewright_operator import controller
from enginewright_operator.controller import Controller, Key
from enginewright_operator.errors import ClusterError, ConflictError, NamespaceTerminatingError
from enginewright_operator.reconcile.scope import DONE, Again

KEY = Key(kind="K", namespace="n", name="a")


async def no_resync(*_: Any, begin: asyncio.Event) -> None:
    """Everything is known from the beginning, and stays as it is."""
    begin.set()
    await asyncio.Event().wait()


class Waiting:
    """A controller whose reconciliation does what the test says; what the queue was told is kept."""

    def __init__(self, outcome: Again | Exception) -> None:
        async def reconcile(namespace: str, name: str, scope: Any) -> Again:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        self.told: list[Any] = []
        self.controller = Controller(None, reconcilers={"K": reconcile})  # type: ignore[arg-type]
        queue = self.controller.queue
        queue.done = lambda key: self.told.append("done")  # type: ignore[method-assign]
        queue.failed = lambda key: self.told.append("failed") or 1.0  # type: ignore[method-assign, func-returns-value]
        queue.put_after = lambda key, seconds: self.told.append(seconds)  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (DONE, ["done"]),
        (Again(seconds=5.0), ["done", 5.0]),
        (Again(failed=True), ["failed"]),
        (Again(failed=True, seconds=5.0), ["failed", 5.0]),
        (ConflictError("changed"), ["failed"]),
        (ClusterError("down"), ["failed"]),
        (NamespaceTerminatingError("going"), ["done"]),
        (ZeroDivisionError("a defect"), ["failed"]),
    ],
)
async def test_how_a_reconciliation_ends_decides_when_the_key_comes_back(
    outcome: Again | Exception, told: list[Any]
) -> None:
    waiting = Waiting(outcome)
    await waiting.controller.reconcile(KEY)
    assert waiting.told == told


@virtually
async def test_what_is_under_way_is_ended_before_the_controller_is(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, written, stop = asyncio.Event(), [], asyncio.Event()

    async def slow(namespace: str, name: str, scope: Any) -> Again:
        begun.set()
        await asyncio.sleep(controller.ENDING / 2)  # the answer to its write
        written.append(name)
        return DONE

    monkeypatch.setattr(controller.resync, "run", no_resync)
    made = Controller(None, reconcilers={"K": slow})  # type: ignore[arg-type]
    made.put("K", "n", "a")
    running = asyncio.create_task(made.run(stop))
    await begun.wait()
    stop.set()
    await running
    assert written == ["a"]


@virtually
async def test_what_hangs_does_not_keep_the_controller_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, stop = asyncio.Event(), asyncio.Event()

    async def hanging(namespace: str, name: str, scope: Any) -> Again:
        begun.set()
        await asyncio.Event().wait()
        return DONE

    monkeypatch.setattr(controller.resync, "run", no_resync)
    made = Controller(None, reconcilers={"K": hanging})  # type: ignore[arg-type]
    made.put("K", "n", "a")
    running = asyncio.create_task(made.run(stop))
    await begun.wait()
    stop.set()
    await asyncio.wait_for(running, controller.ENDING * 2)


async def test_a_resync_that_dies_ends_the_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    async def dies(*_: Any, begin: asyncio.Event) -> None:
        begin.set()
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(controller.resync, "run", dies)
    async with asyncio.timeout(120):
        with pytest.raises(ZeroDivisionError):
            await Controller(None).run(asyncio.Event())  # type: ignore[arg-type]
