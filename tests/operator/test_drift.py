"""What changed is said; an upgrade of the operator rebuilds only where that is wished; builds take turns."""

import datetime

import pytest
from operator_objects import IDENTITIES, engine, gpu_class, plan

from enginewright_operator import api, builds, recipes
from enginewright_operator.conditions import Reason
from enginewright_operator.gather import TargetInput, builds_ended
from enginewright_operator.reconcile import history, serving, wanting

NOW = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


def recipe(**changes: str) -> recipes.Recipe:
    return recipes.recipe_for(engine().spec, gpu_class(), IDENTITIES, **changes)


def test_what_serves_is_stale_with_each_input_that_changed() -> None:
    now = recipes.recipe_for(engine().spec, gpu_class(), recipes.Identities(model="version:new", accuracy_data=""))
    said = recipes.stale(recipe(), now, rebuilt=True)
    assert "the model (was version:etag, is version:new)" in said
    assert recipes.stale(recipe(), recipe(), rebuilt=True) == ""
    assert recipes.stale(None, recipe(), rebuilt=True) == ""


@pytest.mark.parametrize(("policy", "rebuilt"), [("Change", False), ("Upgrade", True)])
def test_a_new_version_of_enginewright_rebuilds_only_by_policy_and_is_said_either_way(
    policy: str, rebuilt: bool
) -> None:
    one, before, now = engine(build={"rebuildOn": policy}), recipe(builder="1"), recipe(builder="2")
    chosen = wanting._kept_at_an_upgrade(one, before, now)
    assert (chosen == now) is rebuilt
    said = recipes.stale(before, now, rebuilt=rebuilt)
    assert "the version of Enginewright (was 1, is 2)" in said
    assert ("rebuildOn" in said) is not rebuilt


def test_a_changed_model_is_built_by_the_new_version_whatever_the_policy() -> None:
    other = recipes.Identities(model="version:new", accuracy_data="version:data")
    now = recipes.recipe_for(engine().spec, gpu_class(), other, builder="2")
    assert wanting._kept_at_an_upgrade(engine(), recipe(builder="1"), now) == now


def test_pods_are_left_alone_while_their_class_is_another_one_than_their_plan_was_built_for() -> None:
    built, one = plan(phase="Built"), engine()
    row = api.TargetStatus(gpu_class="cpu", plan=built.metadata.name)
    target = TargetInput(target=one.spec.targets[0], gpu_class=gpu_class(), deployment=None, row=row)
    inp_plans = {built.metadata.name: built}
    inp = _input(inp_plans)
    assert set(serving._usable(inp, target, gpu_class(), None)) == {built.metadata.name}
    assert serving._usable(inp, target, gpu_class(architecture="aarch64"), None) == {}


def _input(plans: dict[str, api.EnginePlan]) -> "serving.EngineInput":
    one = engine()
    return serving.EngineInput(engine=one, storage=one.spec.storage, targets=(), plans=plans)


def test_a_build_that_waits_for_its_turn_says_for_how_many() -> None:
    finding = builds.waits_its_turn(plan(), 8)
    assert finding.verdict.reason is Reason.WAITING_FOR_TURN
    assert "8 builds run in the namespace n on the GPUClass cpu" in finding.verdict.message
    assert not finding.create_job


@pytest.mark.parametrize(
    ("kind", "status", "ended"),
    [("Complete", "True", True), ("Failed", "True", True), ("Complete", "False", False), ("Suspended", "True", False)],
)
def test_a_job_that_ended_takes_no_turn(kind: str, status: str, ended: bool) -> None:
    assert builds_ended({"status": {"conditions": [{"type": kind, "status": status}]}}) is ended


def test_a_plan_has_its_age_from_when_it_was_built_and_a_failed_one_is_old_at_once() -> None:
    built = plan(phase="Built")
    assert built.status is not None
    finished = built.status.model_copy(update={"finished_at": "2026-01-01T11:00:00Z"})
    assert history.age(built.model_copy(update={"status": finished}), NOW) == 3600.0
    assert history.age(plan(phase="Failed"), NOW) == float("inf")


def test_a_plan_that_was_built_before_the_clock_was_set_back_is_no_younger_for_it() -> None:
    built = plan(phase="Built")
    assert built.status is not None
    finished = built.status.model_copy(update={"finished_at": "2026-01-02T12:00:00Z"})  # a day from NOW
    assert history.age(built.model_copy(update={"status": finished}), NOW) == 86400.0
