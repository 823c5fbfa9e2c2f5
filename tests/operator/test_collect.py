"""A plan's end: its users first, then its build, then its files; and never for ever."""

import datetime
from dataclasses import replace
from typing import Any

import pytest
from operator_objects import plan

from enginewright_operator import api
from enginewright_operator.gather import FinalizeInput
from enginewright_operator.reconcile import collect
from enginewright_operator.reconcile.scope import DONE, Again, Scope
from enginewright_operator.stores import Access
from enginewright_runtime.errors import EnginewrightError, ObjectMissingError, StorageDeniedError

DELETED = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
LEAVING = plan(phase="Built", finalizers=[api.FINALIZER], deletionTimestamp="2026-01-01T00:00:00Z")
FOLDER = LEAVING.spec.plan_uri.removesuffix("engine.plan")


class World:
    """Gatherer, cluster and stores in one: answers with `found`, keeps what was done."""

    def __init__(self, *, error: EnginewrightError | None = None, waited: float = 0.0, **changes: Any) -> None:
        access = Access(storage=LEAVING.spec.storage)
        self.found = replace(FinalizeInput(plan=LEAVING, job=None, users=(), sharers=(), access=access), **changes)
        self.done: list[Any] = []
        self._error, self._now = error, DELETED + datetime.timedelta(seconds=waited)

    async def finalize(self, _: api.EnginePlan) -> FinalizeInput:
        return self.found

    async def delete(self, kind: str, namespace: str, name: str, **_: Any) -> None:
        self.done.append(f"delete {kind}")

    async def delete_folder(self, folder: str, access: Access) -> int:
        if self._error:
            raise self._error
        self.done.append(folder)
        return 1

    async def let_go(self, _: api.EnginePlan) -> None:
        self.done.append("let go")

    async def event(self, _: api.EnginePlan, reason: str, message: str, **__: Any) -> None:
        self.done.append(f"{reason}: {message}")

    async def step(self, leaving: api.EnginePlan = LEAVING) -> Again:
        parts: dict[str, Any] = dict.fromkeys(("gatherer", "cluster", "scraper", "stores", "settings"), self)
        scope = Scope(**parts, now=lambda: self._now)
        return await collect.reconcile(leaving, scope)


async def test_its_files_go_and_then_it_does() -> None:
    world = World()
    assert await world.step() == DONE
    assert world.done == [FOLDER, "let go"]


async def test_a_plan_that_a_deployment_serves_stays() -> None:
    world = World(users=("e-cpu",))
    assert (await world.step()).seconds
    assert world.done == []


async def test_a_build_ends_before_its_files_go() -> None:
    world = World(job={"metadata": {"name": "j"}})
    assert (await world.step()).seconds
    assert world.done == ["delete Job"]


async def test_files_that_another_plan_shares_stay() -> None:
    world = World(sharers=("plan-other",))
    assert await world.step() == DONE
    assert world.done == ["let go"]


async def test_storage_out_of_reach_is_waited_for_as_long_as_was_set_and_no_longer() -> None:
    world = World(error=StorageDeniedError("No."), waited=10)
    assert await world.step() == Again(failed=True, seconds=collect.PATIENCE - 10)
    assert world.done == []


@pytest.mark.parametrize("changes", [{"error": StorageDeniedError("No.")}, {"access": None}])
@pytest.mark.parametrize("waited", [collect.PATIENCE, -86_400.0], ids=["in time", "by a clock that was set back"])
async def test_after_a_while_the_files_are_left_and_that_is_said(changes: dict[str, Any], waited: float) -> None:
    world = World(waited=waited, **changes)
    assert await world.step() == DONE
    said, last = world.done
    assert said.startswith(f"FilesLeft: The files under {FOLDER}")
    assert last == "let go"


async def test_a_bucket_that_is_gone_holds_nothing_up() -> None:
    world = World(error=ObjectMissingError("No such bucket."))
    assert await world.step() == DONE
    assert world.done == ["let go"]


async def test_a_folder_that_is_not_its_own_is_left_alone() -> None:
    elsewhere = LEAVING.spec.model_copy(update={"plan_uri": "s3://p/plans/other/digest/engine.plan"})
    odd = LEAVING.model_copy(update={"spec": elsewhere})
    world = World(plan=odd)
    assert await world.step(odd) == DONE
    assert world.done == ["let go"]


async def test_without_our_finalizer_nothing_is_ours_to_do() -> None:
    world = World()
    assert await world.step(plan(phase="Built", deletionTimestamp="2026-01-01T00:00:00Z")) == DONE
    assert world.done == []
