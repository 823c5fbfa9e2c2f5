"""The next step of a rollout, from tables: what is wanted, what serves, and what did not come up."""

import datetime
from typing import Any

from operator_objects import deployment, engine

from enginewright_operator import api, rollout

NOW = "2026-01-01T00:00:00Z"
STUCK = [{"type": "Progressing", "status": "False", "message": "exceeded its progress deadline"}]
REJECTED = api.Rejection(plan="new", message="the pod p does not get ready.", at=NOW, fingerprint="f")


def row(plan: str = "old", **more: Any) -> api.TargetStatus:
    return api.TargetStatus(gpu_class="cpu", plan=plan, **more)


def situation(**changes: Any) -> rollout.Situation:
    """Half way from the plan `old` to the plan `new`."""
    usual: dict[str, Any] = {
        "rules": api.Rollout(),
        "replicas": 1,
        "wanted": "new",
        "usable": {"old", "new"},
        "row": row(),
        "stable": deployment(plan="new"),
        "canary": None,
        "fingerprint": "f",
        "deadline": 600.0,
        "why": "",
        "promoted": "",
        "sample": None,
        "now": datetime.datetime.fromisoformat(NOW),
    }
    return rollout.Situation(**usual | changes)


def outcome(at: rollout.Situation) -> tuple[str, api.Rejection | None]:
    """The plan that serves next, and the one that is given up."""
    step = rollout.next_step(at)
    return step.plan, step.rejected


def stuck(**changes: Any) -> rollout.Situation:
    """The same, and it gets no further."""
    return situation(stable=deployment(plan="new", conditions=STUCK), **changes)


def test_the_wanted_plan_is_served_as_soon_as_it_is_built() -> None:
    step = rollout.next_step(situation(stable=deployment(plan="old")))
    assert (step.plan, step.rejected) == ("new", None)


def test_until_then_what_serves_goes_on() -> None:
    assert rollout.next_step(situation(wanted="", stable=deployment(plan="old"))).plan == "old"


def test_without_any_plan_nothing_is_done() -> None:
    assert rollout.next_step(situation(wanted="", stable=None, row=None)).plan == ""


def test_a_plan_that_does_not_come_up_gives_way_to_the_one_before_and_the_reason_is_kept() -> None:
    step = rollout.next_step(stuck(why="the pod p does not get ready."))
    assert (step.plan, step.rejected) == ("old", REJECTED)


def test_where_the_pods_say_nothing_kubernetes_own_words_are_kept() -> None:
    step = rollout.next_step(stuck())
    assert step.rejected is not None
    assert step.rejected.message == "exceeded its progress deadline"


def test_a_rejected_plan_is_not_tried_again() -> None:
    at = situation(stable=deployment(plan="old"), row=row(rejected=REJECTED))
    assert outcome(at) == ("old", REJECTED)


def test_it_is_tried_again_when_its_pods_or_the_rules_have_changed() -> None:
    at = situation(stable=deployment(plan="old"), row=row(rejected=REJECTED), fingerprint="g")
    assert outcome(at) == ("new", None)


def test_another_plan_is_tried_at_once() -> None:
    at = situation(wanted="newer", usable={"old", "newer"}, stable=deployment(plan="old"), row=row(rejected=REJECTED))
    assert outcome(at) == ("newer", None)


def test_the_reason_is_kept_while_another_plan_is_built() -> None:
    at = situation(wanted="", stable=deployment(plan="old"), row=row(rejected=REJECTED))
    assert outcome(at) == ("old", REJECTED)


def test_a_first_rollout_has_nothing_to_go_back_to() -> None:
    assert outcome(stuck(row=row(plan=""))) == ("new", None)


def test_a_plan_whose_files_are_gone_is_not_gone_back_to() -> None:
    assert rollout.next_step(stuck(usable={"new"})).plan == "new"


def test_an_older_plan_serves_where_the_last_one_is_gone() -> None:
    assert rollout.next_step(stuck(usable={"new", "older"}, row=row(previous=("older",)))).plan == "older"


def test_pods_of_the_same_plan_that_do_not_come_up_are_no_reason_to_reject_it() -> None:
    at = stuck(row=row(plan="new", previous=("old",)))
    assert outcome(at) == ("new", None)


def test_the_fingerprint_changes_with_the_pods_the_rules_and_a_persons_wish() -> None:
    pods = {"spec": {"template": {"spec": {"image": "a"}}}}
    other = {"spec": {"template": {"spec": {"image": "b"}}}}
    wish = engine()
    wish = wish.model_copy(
        update={"metadata": wish.metadata.model_copy(update={"annotations": {"enginewright.dev/retry": "1"}})}
    )
    found = {
        rollout.fingerprint(pods, engine()),
        rollout.fingerprint(other, engine()),
        rollout.fingerprint(pods, engine(rollout={"maxSurge": 0})),
        rollout.fingerprint(pods, wish),
    }
    assert len(found) == 4


def test_the_fingerprint_does_not_change_with_the_number_of_pods() -> None:
    pods = {"spec": {"replicas": 1, "template": {}}}
    assert rollout.fingerprint(pods, engine()) == rollout.fingerprint(
        {"spec": {"replicas": 2, "template": {}}}, engine()
    )
