"""Former plans are kept as long as they are wanted, and one that pods may still load is never let go."""

from operator_objects import plan

from enginewright_operator import api
from enginewright_operator.reconcile import history


def row(plan: str, *previous: str, desired: str = "") -> api.TargetStatus:
    return api.TargetStatus(gpu_class="cpu", plan=plan, previous=previous, desired_plan=desired or plan)


def test_a_finished_switch_makes_the_old_plan_the_latest_former_one() -> None:
    assert history.advanced(row("a", "z"), serving="b", finished=True, keep=2) == ("b", ("a", "z"))


def test_a_switch_under_way_changes_nothing() -> None:
    assert history.advanced(row("a", "z"), serving="b", finished=False, keep=2) == ("a", ("z",))


def test_no_more_are_kept_than_wanted() -> None:
    assert history.advanced(row("c", "b", "a"), serving="d", finished=True, keep=2) == ("d", ("c", "b"))
    assert history.advanced(row("c", "b"), serving="d", finished=True, keep=0) == ("d", ())


def test_going_back_does_not_keep_a_plan_twice() -> None:
    assert history.advanced(row("b", "a"), serving="a", finished=True, keep=2) == ("a", ("b",))


def test_the_first_plan_has_none_before_it() -> None:
    assert history.advanced(None, serving="a", finished=True, keep=2) == ("a", ())


def test_a_lost_status_takes_the_built_plans_as_the_former_ones() -> None:
    old = plan(phase="Built", name="old", creationTimestamp="2026-01-01T00:00:00Z")
    newer = plan(phase="Built", name="newer", creationTimestamp="2026-01-02T00:00:00Z")
    failed = plan(phase="Failed", name="failed")
    found = history.adopted(
        [old, newer, failed, plan(phase="Built", name="now")], gpu_class="cpu", serving="now", keep=5
    )
    assert found == ("newer", "old")


def test_only_what_no_target_wants_serves_or_keeps_is_let_go() -> None:
    owned = [plan(name=name) for name in ("wanted", "finished", "serving", "former", "forgotten")]
    rows = [row("finished", "former", desired="wanted")]
    assert history.released(owned, rows, ["serving"]) == ["forgotten"]
