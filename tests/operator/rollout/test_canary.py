"""A canary's steps, walked with a clock of our own."""

import datetime
from typing import Any

import pytest
from operator_objects import deployment

from enginewright_operator import api, rollout
from enginewright_operator.rollout import Reading, Sample

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
STEPS = [{"setWeight": 25}, {"pause": {"duration": "60s"}}, {"setWeight": 50}, {"pause": {}}]


class Walk:
    """A target of four replicas on its way from `old` to `new`; what is told comes true at once."""

    def __init__(self, steps: list[dict[str, Any]] | None = None, **analysis: Any) -> None:
        rules = {"interval": "10s", "minRequests": 10, "failureLimit": 1} | analysis
        canary = {"steps": STEPS if steps is None else steps, "analysis": rules}
        self.rules = api.Rollout.model_validate({"strategy": "Canary", "canary": canary})
        self.row = api.TargetStatus(gpu_class="cpu", plan="old")
        self.now, self.promoted, self.why = START, "", ""
        self.stable: Any = self._deployment("old", 4)
        self.canary: Any = None
        self.counts = {"old": api.Counts(), "new": api.Counts()}
        self.restarts = 0
        self.plans: list[str] = []

    def look(self, seconds: float = 0.0, *, traffic: int = 0, errors: int = 0, up: bool = True) -> rollout.Step:
        """Let time pass and requests come, then look."""
        self.now += datetime.timedelta(seconds=seconds)
        for plan, failed in (("old", 0), ("new", errors)):
            was = self.counts[plan]
            self.counts[plan] = api.Counts(requests=was.requests + traffic, errors=was.errors + failed)
        step = rollout.next_step(self._situation())
        ready = step.canary_replicas if up else 0
        self.stable = self._deployment(step.plan, step.replicas)
        self.canary = self._deployment(step.canary_plan, step.canary_replicas, ready) if step.canary_plan else None
        self.row = self.row.model_copy(update={"canary": step.canary, "rejected": step.rejected, "plan": self._last()})
        return step

    def until_settled(self) -> rollout.Step:
        """Look until nothing moves any more."""
        for _ in range(20):
            before = (self.stable, self.canary)
            step = self.look()
            if (self.stable, self.canary) == before:
                return step
        raise AssertionError("it never settles")

    def _last(self) -> str:
        """The plan whose rollout is finished."""
        return rollout.served_by(self.stable)

    def _deployment(self, plan: str, wanted: int, ready: int | None = None) -> Any:
        up = wanted if ready is None else ready
        status = {"updatedReplicas": wanted, "availableReplicas": up, "readyReplicas": up, "replicas": wanted}
        return deployment(plan=plan, wanted=wanted, **status)

    def _situation(self) -> rollout.Situation:
        sample = Sample(
            stable=Reading(pods=("a",), counts=self.counts["old"]),
            canary=Reading(pods=("b",), counts=self.counts["new"], restarts=self.restarts),
        )
        due = self.row.canary and rollout.sample_due(self.row.canary, self.rules.canary_rules, self.now)
        return rollout.Situation(
            rules=self.rules, replicas=4, wanted="new", usable={"old", "new"}, row=self.row, stable=self.stable,
            canary=self.canary, fingerprint="f", deadline=100.0, why=self.why, promoted=self.promoted,
            sample=sample if due and self.canary else None, now=self.now,
        )  # fmt: skip

    @property
    def pods(self) -> tuple[int, int]:
        """Of both Deployments."""
        return self.stable["spec"]["replicas"], self.canary["spec"]["replicas"] if self.canary else 0


def test_a_canary_that_does_well_takes_over_step_by_step() -> None:
    walk = Walk()
    walk.until_settled()
    assert walk.pods == (3, 1)
    assert walk.look().weight == 25
    walk.look(30, traffic=100)
    assert walk.row.canary is not None
    assert walk.row.canary.step == 1, "half of the pause is over"
    walk.look(31, traffic=100)
    walk.until_settled()
    assert walk.pods == (2, 2)
    assert rollout.served_by(walk.stable) == "old"
    walk.look(500, traffic=100)
    assert walk.row.canary.step == 3, "a pause without a duration waits for a person"
    walk.promoted = "new"
    walk.look(20, traffic=100)
    assert rollout.served_by(walk.stable) == "new"
    walk.until_settled()
    assert walk.pods == (4, 0)
    assert walk.row.canary is None
    assert walk.row.rejected is None


def test_a_canary_that_fails_once_too_often_is_given_up_at_once_with_the_figures() -> None:
    walk = Walk()
    walk.until_settled()
    walk.look(10, traffic=100, errors=50)
    assert walk.row.canary is not None
    assert walk.row.canary.failures == 1, "one may fail"
    step = walk.look(10, traffic=100, errors=50)
    assert (step.plan, step.replicas, step.canary_replicas) == ("old", 4, 0)
    assert step.rejected is not None
    assert "50.00% of the canary's 100 requests failed" in step.rejected.message
    assert walk.look(1000).canary_plan == "", "and it is not tried again"


def test_without_traffic_no_weight_is_left() -> None:
    walk = Walk()
    walk.until_settled()
    walk.look(3600)
    assert walk.row.canary is not None
    assert walk.row.canary.step == 1
    assert "at least 10 requests" in walk.row.canary.message


def test_where_no_traffic_is_asked_for_time_alone_counts() -> None:
    walk = Walk(minRequests=0)
    walk.until_settled()
    walk.look(61)
    walk.until_settled()
    assert walk.pods == (2, 2)


def test_few_requests_add_up_over_the_intervals() -> None:
    walk = Walk()
    walk.until_settled()
    for _ in range(3):
        walk.look(10, traffic=4)
    assert walk.row.canary is not None
    assert walk.row.canary.passed == 1


def test_a_canary_that_does_not_get_ready_is_given_up_after_the_deadline_with_its_pods_words() -> None:
    walk = Walk()
    walk.look(up=False)
    walk.look(50, up=False)
    walk.why = "the pod p ended with exit code 65: The plan is damaged."
    step = walk.look(51, up=False)
    assert step.rejected is not None
    assert step.rejected.message == walk.why
    assert walk.pods == (4, 0)


@pytest.mark.parametrize("settled", [True, False])
def test_a_canary_whose_containers_end_again_and_again_is_given_up(settled: bool) -> None:
    walk = Walk()
    walk.until_settled()
    walk.restarts = 1
    walk.look(10, up=settled)
    walk.restarts = 2
    walk.look(10, up=settled)
    assert walk.look(10, up=settled).rejected is not None


def test_steps_without_a_pause_still_wait_for_a_measurement() -> None:
    walk = Walk([{"setWeight": 50}])
    walk.until_settled()
    assert rollout.served_by(walk.stable) == "old"
    walk.look(10, traffic=100)
    walk.until_settled()
    assert (rollout.served_by(walk.stable), walk.pods) == ("new", (4, 0))


def test_another_plan_begins_at_the_first_step() -> None:
    walk = Walk()
    walk.until_settled()
    assert walk.row.canary is not None
    walk.row = walk.row.model_copy(update={"canary": walk.row.canary.model_copy(update={"plan": "other", "step": 3})})
    walk.look()
    assert walk.row.canary.plan == "new"
    assert walk.row.canary.step == 0


def test_the_first_plan_of_all_needs_no_canary() -> None:
    walk = Walk()
    walk.stable, walk.row = None, api.TargetStatus(gpu_class="cpu")
    step = walk.look()
    assert (step.plan, step.replicas, step.canary_plan) == ("new", 4, "")


def test_the_steps_are_the_usual_ones_where_none_are_given() -> None:
    assert [step.set_weight for step in api.Canary().all_steps] == [20, None, 50, None]


def test_a_gateway_sends_the_canary_no_more_than_its_ready_pods_can_take() -> None:
    walk = Walk()
    walk.look(up=False)
    assert walk.look(up=False).weight == 0
    walk.until_settled()
    assert walk.look().weight == 25
    walk.look(61, traffic=100)
    walk.look(1)
    assert walk.look(up=False).weight <= 50


def test_a_canary_that_is_given_up_gets_nothing_more() -> None:
    walk = Walk(failureLimit=0)
    walk.until_settled()
    assert walk.look(10, traffic=100, errors=50).weight == 0


def test_each_pod_that_comes_gives_the_next_one_the_whole_deadline() -> None:
    walk = Walk([{"setWeight": 50}])
    walk.look()
    walk.look(90)
    walk.look(90, up=False)
    assert walk.row.rejected is None


def test_a_clock_that_is_set_back_begins_the_steps_time_anew_and_no_more() -> None:
    walk = Walk([{"setWeight": 50}, {"pause": {"duration": "60s"}}], minRequests=0)
    walk.until_settled()
    walk.look(-86400)
    assert walk.look(30).canary is not None
    walk.look(31)
    assert walk.until_settled().plan == "new"
