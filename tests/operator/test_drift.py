"""What changed is said; an upgrade of the operator rebuilds only where that is wished; builds take turns."""

import datetime

import pytest
from operator_objects import IDENTITIES, engine, gpu_class, plan

from enginewright_operator import api, builds, drift, recipes
from enginewright_operator.conditions import Reason
from enginewright_operator.gather import TargetInput, builds_ended
from enginewright_operator.reconcile import history, serving

NOW = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


CHANGE, UPGRADE = api.RebuildOn.CHANGE, api.RebuildOn.UPGRADE


def recipe(identities: recipes.Identities = IDENTITIES, **changes: str) -> recipes.Recipe:
    return recipes.recipe_for(engine().spec, gpu_class(), identities, **changes)


OTHER_MODEL = recipe(recipes.Identities(model="version:new", accuracy_data="version:data"))


def test_why_a_plan_was_built_names_what_changed() -> None:
    assert drift.why_rebuilt(recipe(), OTHER_MODEL) == "Changed: the model (was version:etag, is version:new)."
    assert drift.why_rebuilt(None, recipe()) == "It is the first plan of this target."


def test_of_a_target_only_what_changed_is_said() -> None:
    other = recipes.recipe_for(engine().spec, gpu_class(architecture="aarch64"), IDENTITIES)
    assert drift.why_rebuilt(recipe(), other) == "Changed: the target's architecture (was none, is aarch64)."


def test_what_serves_is_stale_with_what_changed_and_what_comes_of_it() -> None:
    told = drift.verdict(recipe(), OTHER_MODEL, CHANGE)
    assert told is not None
    assert told.reason is Reason.REBUILDING
    assert told.message == "Changed: the model (was version:etag, is version:new). It is built anew."
    same = drift.verdict(recipe(), recipe(), CHANGE)
    assert same is not None
    assert same.reason is Reason.UP_TO_DATE
    assert drift.verdict(None, recipe(), CHANGE) is None


@pytest.mark.parametrize("field", ["builder", "builder_image", "driver"])
@pytest.mark.parametrize(("policy", "rebuilt"), [(CHANGE, False), (UPGRADE, True)])
def test_what_changes_by_itself_rebuilds_only_by_policy_and_is_said_either_way(
    policy: api.RebuildOn, rebuilt: bool, field: str
) -> None:
    before, now = recipe(**{field: "580"}), recipe(**{field: "590"})
    assert (drift.wanted(before, now, policy) == now) is rebuilt
    told = drift.verdict(before, now, policy)
    assert told is not None
    assert "(was 580, is 590)" in told.message
    assert (told.reason is Reason.REBUILDING) is rebuilt
    assert ("rebuildOn" in told.message) is not rebuilt


def test_an_older_driver_is_built_for_whatever_the_policy_since_it_refuses_the_plan() -> None:
    before, now = recipe(driver="580"), recipe(driver="570")
    assert drift.wanted(before, now, CHANGE) == now


def test_a_driver_that_becomes_known_rebuilds_nothing_and_one_that_is_not_told_any_more_is_no_change() -> None:
    assert drift.wanted(recipe(), recipe(driver="580"), CHANGE) == recipe()
    assert drift.as_far_as_known(recipe(driver="580"), recipe()) == recipe(driver="580")
    assert drift.as_far_as_known(recipe(driver="580"), OTHER_MODEL) == OTHER_MODEL


def test_a_changed_model_is_built_with_all_that_is_new_whatever_the_policy() -> None:
    other = recipes.Identities(model="version:new", accuracy_data="version:data")
    now = recipe(other, builder="2", driver="590")
    assert drift.wanted(recipe(builder="1", driver="580"), now, CHANGE) == now


def test_an_engine_is_stale_where_one_of_its_targets_is() -> None:
    fresh, stale = drift.verdict(recipe(), recipe(), CHANGE), drift.verdict(recipe(), OTHER_MODEL, CHANGE)
    held = drift.verdict(recipe(builder="1"), recipe(builder="2"), CHANGE)
    told = drift.of_engine([("a", fresh), ("b", stale), ("c", held), ("d", None)])
    assert told is not None
    assert told.reason is Reason.REBUILDING
    assert told.message.startswith("b: Changed: the model")
    assert " c: Changed: the version of Enginewright" in told.message
    assert drift.of_engine([("a", fresh), ("d", None)]) == fresh
    assert drift.of_engine([("d", None)]) is None


def test_the_condition_stays_as_it_was_where_nothing_can_be_told() -> None:
    (row,) = drift.conditions(drift.verdict(recipe(), OTHER_MODEL, CHANGE), generation=2, before=(), now=NOW)
    assert (row.type, row.status, row.reason) == ("Stale", "True", "Rebuilding")
    assert drift.conditions(None, generation=3, before=(row,), now=NOW) == (row,)
    assert drift.conditions(None, generation=3, before=(), now=NOW) == ()


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
