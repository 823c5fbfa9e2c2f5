"""One look at a plan whose build has ended: who looks again, since no event may come."""

import datetime
from typing import Any

import pytest
from operator_objects import gpu_class, plan

from enginewright_operator import api, gpu
from enginewright_operator.gather import PlanInput
from enginewright_operator.reconcile import plan as plans
from enginewright_operator.reconcile.scope import Again, Scope
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
        self.reported = ""

    async def manifest(self, *_: str) -> dict[str, Any]:
        return self.found.plan.model_dump(mode="json", by_alias=True, exclude_none=True)

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
