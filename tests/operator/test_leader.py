"""One process leads at a time, and a leader that cannot renew stops before the next one starts."""

import asyncio
import contextlib

from virtual_time import virtually

from enginewright_operator.__main__ import _terms
from enginewright_operator.leader import Leader, LeaseState, Terms

TERMS = Terms(duration=0.6, renew_within=0.3, retry_every=0.06)
POLLING = 0.005


def candidate(view: "_View", name: str) -> Leader:
    """One whose clock is that of the test's loop."""
    return Leader(view, identity=name, terms=TERMS, clock=asyncio.get_running_loop().time)


class SharedLease:
    """A Lease in memory with an API server's optimistic concurrency; `down` makes it unreachable."""

    def __init__(self) -> None:
        self.state: LeaseState | None = None
        self.down: set[str] = set()
        self._version = 0

    def of(self, caller: str) -> "_View":
        return _View(self, caller)

    def put(self, holder: str) -> None:
        self._version += 1
        self.state = LeaseState(holder=holder, renewed=str(self._version), transitions=0, version=str(self._version))


class _View:
    def __init__(self, lease: SharedLease, caller: str) -> None:
        self._lease = lease
        self._caller = caller

    async def read(self) -> LeaseState | None:
        self._reachable()
        return self._lease.state

    async def write(self, holder: str, *, before: LeaseState | None) -> bool:
        self._reachable()
        if before != self._lease.state:
            return False
        self._lease.put(holder)
        return True

    def _reachable(self) -> None:
        if self._caller in self._lease.down:
            raise OSError("unreachable")


class Working:
    """Work that notes who leads, until it is stopped."""

    def __init__(self) -> None:
        self.leading: set[str] = set()
        self.most = 0
        self.started: list[str] = []

    def by(self, name: str, leader: Leader) -> "asyncio.Task[None]":
        async def work(stop: asyncio.Event) -> None:
            self.started.append(name)
            self.leading.add(name)
            self.most = max(self.most, len(self.leading))
            try:
                await stop.wait()
            finally:
                self.leading.discard(name)

        return asyncio.create_task(leader.lead(work))


async def _ended(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _until(condition: object, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(POLLING)


@virtually
async def test_of_two_candidates_one_leads() -> None:
    lease, working = SharedLease(), Working()
    tasks = [working.by(name, candidate(lease.of(name), name)) for name in ("one", "two")]
    await asyncio.sleep(TERMS.duration * 50)
    assert len(working.leading) == 1
    assert working.most == 1
    await _ended(*tasks)


@virtually
async def test_a_leader_that_ends_gives_its_lease_up_at_once() -> None:
    lease, working = SharedLease(), Working()
    first = working.by("one", candidate(lease.of("one"), "one"))
    await _until(lambda: working.leading == {"one"})
    await _ended(first)
    assert lease.state is not None
    assert lease.state.holder == ""


@virtually
async def test_a_leader_cut_off_stops_before_another_starts() -> None:
    lease, working = SharedLease(), Working()
    tasks = [working.by("one", candidate(lease.of("one"), "one"))]
    await _until(lambda: working.leading == {"one"})
    tasks.append(working.by("two", candidate(lease.of("two"), "two")))
    lease.down.add("one")
    await _until(lambda: "two" in working.leading)
    assert working.most == 1
    await _ended(*tasks)


@virtually
async def test_a_crashed_holder_is_replaced_after_the_whole_duration_and_not_much_later() -> None:
    lease, working = SharedLease(), Working()
    lease.put("gone")
    started = asyncio.get_running_loop().time()
    task = working.by("two", candidate(lease.of("two"), "two"))
    await _until(lambda: "two" in working.leading)
    took = asyncio.get_running_loop().time() - started
    assert TERMS.duration <= took <= TERMS.duration + TERMS.retry_every + POLLING
    await _ended(task)


@virtually
async def test_a_leader_whose_lease_was_taken_stops_at_once() -> None:
    lease, working = SharedLease(), Working()
    task = working.by("one", candidate(lease.of("one"), "one"))
    await _until(lambda: working.leading == {"one"})
    lease.put("other")
    await _until(lambda: not working.leading)
    await _ended(task)


@virtually
async def test_an_attempt_that_hangs_does_not_outlast_the_leaders_term() -> None:
    lease, working = SharedLease(), Working()
    view = lease.of("one")
    task = working.by("one", candidate(view, "one"))
    await _until(lambda: working.leading == {"one"})
    started = asyncio.get_running_loop().time()

    async def hang() -> LeaseState | None:
        await asyncio.sleep(60)
        return None

    view.read = hang  # type: ignore[method-assign]
    await _until(lambda: not working.leading)
    assert asyncio.get_running_loop().time() - started < TERMS.duration
    await _ended(task)


@virtually
async def test_a_leader_that_wakes_late_leads_on_where_nobody_took_its_lease() -> None:
    now, lease, working = [100.0], SharedLease(), Working()
    leader = Leader(lease.of("one"), identity="one", terms=TERMS, clock=lambda: now[0])
    task = working.by("one", leader)
    await _until(lambda: working.leading == {"one"})
    renewed = lease.state
    now[0] += TERMS.duration * 3
    assert leader.may_write_for() < 0, "and nothing was written meanwhile"
    await _until(lambda: lease.state != renewed)
    await _until(lambda: leader.may_write_for() > 0)
    assert working.leading == {"one"}
    await _ended(task)


@virtually
async def test_a_leader_that_wakes_late_stops_where_another_leads() -> None:
    now, lease, working = [100.0], SharedLease(), Working()
    leader = Leader(lease.of("one"), identity="one", terms=TERMS, clock=lambda: now[0])
    task = working.by("one", leader)
    await _until(lambda: working.leading == {"one"})
    now[0] += TERMS.duration * 3
    lease.put("two")
    await _until(lambda: not working.leading)
    assert lease.state is not None
    assert lease.state.holder == "two"
    await _ended(task)


def test_the_terms_have_the_proportions_of_client_gos_and_the_last_attempt_ends_before_the_lease_does() -> None:
    terms = _terms(15.0)
    assert (terms.duration, terms.renew_within, terms.retry_every) == (15.0, 10.0, 2.0)
    assert terms.renew_within + 2 * terms.retry_every < terms.duration


async def test_a_lease_that_does_not_answer_does_not_keep_a_process_that_ends() -> None:
    lease, working = SharedLease(), Working()
    view = lease.of("one")
    task = working.by("one", Leader(view, identity="one", terms=TERMS))
    await _until(lambda: working.leading == {"one"})

    async def hang() -> LeaseState | None:
        await asyncio.Event().wait()
        return None

    view.read = hang  # type: ignore[method-assign]
    async with asyncio.timeout(TERMS.renew_within * 10):
        await _ended(task)
