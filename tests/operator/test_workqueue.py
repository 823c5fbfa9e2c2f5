"""The queue hands out each key once at a time, and brings failures back later."""

import asyncio

import pytest
from virtual_time import virtually

from enginewright_operator.workqueue import Backoff, WorkQueue


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(backoff=Backoff(base=1, limit=8), clock=clock, chance=lambda: 0.0)


async def none_ready(queue: WorkQueue[str]) -> bool:
    getting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if getting.done():
        return False
    getting.cancel()
    await asyncio.gather(getting, return_exceptions=True)
    return True


async def test_a_key_put_twice_is_handed_out_once(queue: WorkQueue[str]) -> None:
    queue.put("a")
    queue.put("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert await none_ready(queue)


async def test_a_key_put_while_it_is_worked_on_comes_again_only_after_done(queue: WorkQueue[str]) -> None:
    queue.put("a")
    await queue.get()
    queue.put("a")
    assert await none_ready(queue)
    queue.done("a")
    assert await queue.get() == "a"


async def test_keys_come_in_the_order_they_were_put(queue: WorkQueue[str]) -> None:
    for key in "abc":
        queue.put(key)
    assert [await queue.get() for _ in range(3)] == ["a", "b", "c"]


async def test_a_failed_key_comes_back_after_delays_that_double_up_to_the_limit(
    queue: WorkQueue[str], clock: Clock
) -> None:
    queue.put("a")
    delays = []
    for _ in range(6):
        await queue.get()
        delays.append(queue.failed("a"))
        clock.now += delays[-1]
    assert delays == [1, 2, 4, 8, 8, 8]


async def test_done_forgets_the_failures(queue: WorkQueue[str], clock: Clock) -> None:
    queue.put("a")
    await queue.get()
    queue.failed("a")
    clock.now += 1
    await queue.get()
    queue.done("a")
    queue.put("a")
    await queue.get()
    assert queue.failed("a") == 1


async def test_of_two_later_wishes_the_earlier_counts(queue: WorkQueue[str], clock: Clock) -> None:
    queue.put_after("a", 10)
    queue.put_after("a", 2)
    queue.put_after("a", 5)
    clock.now = 2
    assert await queue.get() == "a"
    queue.done("a")
    clock.now = 20
    assert await none_ready(queue)


@virtually
async def test_a_waiting_worker_wakes_when_a_key_is_put(queue: WorkQueue[str]) -> None:
    getting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.put("a")
    assert await asyncio.wait_for(getting, 60) == "a"


@virtually
async def test_a_waiting_worker_wakes_when_a_later_time_has_come() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.put_after("a", 60)
    assert await queue.get() == "a"
    assert asyncio.get_running_loop().time() == 60


def test_jitter_takes_away_at_most_a_third() -> None:
    assert Backoff(base=3).delay(1, 0.999999) == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("steps", range(5))
async def test_a_worker_that_is_told_to_end_while_a_key_comes_ends_and_loses_no_key(steps: int) -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.put_after("later", 60)
    getting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put("a")
    for _ in range(steps):
        await asyncio.sleep(0)
    if getting.cancel():
        with pytest.raises(asyncio.CancelledError):
            await getting
        assert len(queue) == 1
    else:
        assert getting.result() == "a"
