"""One look at a plan whose build has ended: who looks again, since no event may come; and what its engines want."""

import datetime
from dataclasses import replace
from typing import Any

import pytest
from operator_objects import gpu_class, plan

from enginewright_operator import api, gpu
from enginewright_operator.gather import Gatherer, PlanInput
from enginewright_operator.reconcile import plan as plans
from enginewright_operator.reconcile.scope import Again, Scope
from enginewright_operator.render import names
from enginewright_operator.settings import Settings
from enginewright_operator.watched import Watched
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.request import BuildResult

NOW = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


class World:
    """Gatherer and cluster in one: a Job that ended so, with a pod that ended so; keeps the phase that was reported."""

    def __init__(self, condition: str, **terminated: Any) -> None:
        job = {"metadata": {"name": "j"}, "spec": {}, "status": {"conditions": [{"type": condition, "status": "True"}]}}
        pod = {"metadata": {}, "status": {"containerStatuses": [{"state": {"terminated": terminated}}]}}
        nodes = (gpu.Node(name="a", labels={}, allocatable={}),)
        self.found = PlanInput(plan=plan(), gpu_class=gpu_class(), nodes=nodes, job=job, pods=(pod,))
        self.reported, self.paused = "", False
        self.deleted: list[str] = []

    async def manifest(self, *_: str) -> dict[str, Any]:
        return self.found.plan.model_dump(mode="json", by_alias=True, exclude_none=True)

    async def is_paused(self, _: api.EnginePlan) -> bool:
        return self.paused

    async def delete(self, kind: str, *_: str, **__: bool) -> None:
        self.deleted.append(kind)

    async def plan(self, _: api.EnginePlan) -> PlanInput:
        return self.found

    async def patch_status(self, _: api.EnginePlan, status: api.EnginePlanStatus) -> bool:
        self.reported = str(status.phase)
        return True

    async def event(self, *_: Any, **__: Any) -> None:
        pass

    async def look(self) -> Again:
        parts: dict[str, Any] = dict.fromkeys(("gatherer", "cluster", "scraper", "stores", "settings"), self)
        return await plans.reconcile("default", self.found.plan.metadata.name, Scope(**parts, now=lambda: NOW))


@pytest.mark.parametrize("ended", [{"reason": "OOMKilled", "exitCode": 137}, {"exitCode": 1}])
async def test_a_failed_build_is_looked_at_again_though_nothing_else_happens_to_its_job(ended: dict[str, Any]) -> None:
    world = World("Failed", **ended)
    assert await world.look() == Again(seconds=0.0)
    assert world.reported == "Failed"


async def test_a_plan_that_is_built_rests() -> None:
    told = BuildResult.of(Outcome.DONE, "Built.").to_termination_message()
    world = World("Complete", exitCode=0, message=told)
    assert (await world.look()).seconds is None
    assert world.reported == "Built"


@pytest.mark.parametrize(("paused", "deleted"), [(True, []), (False, ["Job"])])
async def test_a_failed_build_is_not_tried_again_while_its_engines_are_paused(paused: bool, deleted: list[str]) -> None:
    world = World("Failed", exitCode=int(Outcome.STORAGE))
    failed = {"phase": api.Phase.FAILED, "outcome": "STORAGE", "attempts": 1, "finished_at": "2026-01-01T11:00:00Z"}
    ended = plan().model_copy(update={"status": api.EnginePlanStatus.model_validate(failed)})
    world.found, world.paused = replace(world.found, plan=ended), paused
    again = await world.look()
    assert world.deleted == deleted
    assert again.seconds == (plans.LOOK_AGAIN if paused else 1.0)


@pytest.mark.parametrize(
    ("engines", "paused"),
    [
        ({"a": True}, True),
        ({"a": True, "b": True}, True),
        ({"a": True, "b": False}, False),
        ({"a": True, "gone": None}, True),
        ({"gone": None}, False),
        ({}, False),
    ],
)
async def test_a_plan_is_paused_where_all_engines_are_that_want_it(engines: dict[str, Any], paused: bool) -> None:
    class Kube:
        async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
            return None if engines[name] is None else {"spec": {"paused": engines[name]}}

    kind = {"apiVersion": api.API_VERSION, "kind": "InferenceEngine"}
    wanted = plan(ownerReferences=[kind | {"name": name, "uid": name} for name in engines])
    reader = Gatherer(Kube(), None, Settings())  # type: ignore[arg-type]
    assert await reader.is_paused(wanted) is paused


async def test_builds_are_counted_for_each_class_and_namespace_by_itself() -> None:
    watched = Watched(lambda *_: None)
    ended = {"conditions": [{"type": "Complete", "status": "True"}]}
    jobs = [("n", "cpu", {}), ("n", "cpu", {}), ("n", "cpu", ended), ("n", "h200", {}), ("other", "cpu", {})]
    for number, (namespace, of, status) in enumerate(jobs):
        metadata = {"name": f"j{number}", "namespace": namespace, "uid": f"u{number}", "resourceVersion": "1"}
        metadata |= {"labels": {names.GPU_CLASS_LABEL: of}}
        watched.saw("Job", {"kind": "Job", "metadata": metadata, "status": status})

    class Kube:
        async def find(self, kind: str, namespace: str, *, where: tuple[str, str]) -> list[dict[str, Any]]:
            return list(watched[kind].list(namespace, where))

    reader = Gatherer(Kube(), None, Settings())  # type: ignore[arg-type]
    assert await reader.under_way(plan(namespace="n")) == 2
    assert await reader.under_way(plan(namespace="other")) == 1
