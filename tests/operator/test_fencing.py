"""No write leaves a process that may not lead any more, no file goes, and none waits for its answer beyond the term."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from test_leader import TERMS, SharedLease, Working, _ended, _until, candidate
from virtual_time import virtually

from enginewright_operator import api
from enginewright_operator.errors import NotLeadingError
from enginewright_operator.kube import Kube
from enginewright_operator.leader import Leader
from enginewright_operator.stores import Access, Stores


class Api:
    """Notes what is sent, and with which patience."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, float]] = []

    async def param_serialize(self, method: str, *_: Any, **__: Any) -> tuple[str]:
        return (method,)

    async def call_api(self, method: str, *, _request_timeout: float) -> Any:
        self.sent.append((method, _request_timeout))
        raise TimeoutError


@pytest.mark.parametrize("left", [0.0, -5.0])
async def test_a_write_without_a_term_is_not_sent_and_a_read_is(left: float) -> None:
    api = Api()
    kube = Kube(api, may_write_for=lambda: left)  # type: ignore[arg-type]
    with pytest.raises(NotLeadingError, match="may not lead any more"):
        await kube.send("PATCH", "/x")
    assert api.sent == []
    with pytest.raises(Exception, match="did not answer"):
        await kube.send("GET", "/x")
    assert [method for method, _ in api.sent] == ["GET"]


async def test_a_write_waits_for_its_answer_no_longer_than_the_term_lasts() -> None:
    api = Api()
    with pytest.raises(Exception, match="did not answer"):
        await Kube(api, may_write_for=lambda: 1.5).send("POST", "/x")  # type: ignore[arg-type]
    assert api.sent == [("POST", 1.5)]


@pytest.mark.parametrize(("left", "kept"), [(0.0, True), (1.0, False)])
async def test_no_file_is_deleted_by_a_process_without_a_term(tmp_path: Path, left: float, kept: bool) -> None:
    file = tmp_path / "plans" / "n" / "digest" / "engine.plan"
    file.parent.mkdir(parents=True)
    file.write_text("of the next leader")
    stores = Stores(may_write_for=lambda: left)
    deleting = stores.delete_folder(f"file://{file.parent}/", Access(storage=api.Storage(uri=f"file://{tmp_path}")))
    with pytest.raises(NotLeadingError, match="was not deleted") if kept else contextlib.nullcontext():
        await deleting
    assert file.exists() is kept


async def test_a_leaders_term_ends_before_anybody_else_may_begin() -> None:
    now = [100.0]
    lease = SharedLease()
    leader = Leader(lease.of("one"), identity="one", terms=TERMS, clock=lambda: now[0])
    assert leader.may_write_for() <= 0
    assert await leader._try_once(within=1.0)
    assert leader.may_write_for() == pytest.approx(TERMS.renew_within)
    now[0] += TERMS.duration - 0.001  # as late as nobody else can have taken it over
    assert leader.may_write_for() < 0


@virtually
async def test_two_leaders_never_may_write_at_the_same_time() -> None:
    lease, working = SharedLease(), Working()
    leaders = {name: candidate(lease.of(name), name) for name in ("one", "two")}
    tasks = [working.by("one", leaders["one"])]
    await _until(lambda: working.leading == {"one"})
    tasks.append(working.by("two", leaders["two"]))
    lease.down.add("one")
    both = 0
    async with asyncio.timeout(3):
        while "two" not in working.leading:
            both += all(leader.may_write_for() > 0 for leader in leaders.values())
            await asyncio.sleep(0.002)
    assert both == 0
    assert leaders["two"].may_write_for() > 0 >= leaders["one"].may_write_for()
    await _ended(*tasks)
