"""The first task that ends is noticed, and every task ends in bounded time, one that swallows a cancellation too."""

import asyncio

import pytest

from enginewright_operator import supervise


async def forever() -> None:
    await asyncio.Event().wait()


async def stubborn(cancels: int) -> None:
    """Swallows so many cancellations."""
    for _ in range(cancels):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    await asyncio.Event().wait()


async def fails() -> None:
    raise ZeroDivisionError("a defect")


async def test_the_error_of_the_first_that_ends_is_raised() -> None:
    tasks = [asyncio.create_task(forever()), asyncio.create_task(fails())]
    with pytest.raises(ZeroDivisionError):
        await supervise.until_one_ends(tasks)
    await supervise.end(tasks, within=1)
    assert all(task.done() for task in tasks)


async def test_a_task_that_was_told_to_end_raises_nothing() -> None:
    tasks = [asyncio.create_task(forever()), asyncio.create_task(asyncio.sleep(0))]
    await supervise.until_one_ends(tasks)
    await supervise.end(tasks, within=1)
    assert tasks[0].cancelled()


async def test_a_task_that_swallows_its_first_cancellation_is_cancelled_again() -> None:
    task = asyncio.create_task(stubborn(1))
    await asyncio.sleep(0)
    await supervise.end([task], within=0.05)
    assert task.cancelled()


async def test_a_task_that_does_not_end_is_left_and_named(caplog: pytest.LogCaptureFixture) -> None:
    task = asyncio.create_task(stubborn(2), name="the stubborn one")
    await asyncio.sleep(0)
    await supervise.end([task], within=0.05)
    assert not task.done()
    assert "The task the stubborn one does not end" in caplog.text
    task.cancel()
