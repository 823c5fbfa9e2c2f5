"""What a Deployment says of its rollout: over when only new pods are left and all of them are available."""

from operator_objects import deployment

from enginewright_operator import rollout
from enginewright_operator.conditions import Reason, State

DONE = {"updatedReplicas": 2, "availableReplicas": 2, "replicas": 2}


def test_all_new_and_available_is_finished() -> None:
    assert rollout.finished(deployment(wanted=2, **DONE))


def test_an_old_pod_that_is_still_there_is_not_finished() -> None:
    assert not rollout.finished(deployment(wanted=2, **DONE | {"replicas": 3}))


def test_a_status_of_an_older_generation_tells_nothing() -> None:
    stale = deployment(wanted=2, **DONE)
    stale["metadata"]["generation"] = 2
    assert not rollout.finished(stale)


def test_no_deployment_is_not_finished() -> None:
    assert not rollout.finished(None)
    assert rollout.verdict(None, replicas=1, plan="p").state is State.WORKING


def test_a_rollout_under_way_counts_its_pods() -> None:
    verdict = rollout.verdict(deployment(wanted=2, updatedReplicas=1, availableReplicas=2), replicas=2, plan="p")
    assert verdict.reason is Reason.ROLLING_OUT
    assert verdict.message.startswith("1 of 2 pods serve p")


def test_a_stuck_rollout_gives_kubernetes_own_words() -> None:
    rows = [{"type": "Progressing", "status": "False", "message": "exceeded its progress deadline"}]
    verdict = rollout.verdict(deployment(conditions=rows), replicas=1, plan="p")
    assert (verdict.state, verdict.reason) == (State.STALLED, Reason.ROLLOUT_STUCK)
    assert "exceeded its progress deadline" in verdict.message


def test_a_rollout_without_room_in_the_quota_waits_and_is_never_stuck() -> None:
    rows = [
        {"type": "Progressing", "status": "False", "message": "exceeded its progress deadline"},
        {"type": "ReplicaFailure", "status": "True", "message": "forbidden: exceeded quota: team, limited: pods=1"},
    ]
    full = deployment(conditions=rows)
    verdict = rollout.verdict(full, replicas=1, plan="p")
    assert (verdict.state, verdict.reason) == (State.WORKING, Reason.QUOTA_EXCEEDED)
    assert "limited: pods=1" in verdict.message
    assert rollout.stuck(full) == ""


def test_no_replicas_wanted_is_ready_and_idle() -> None:
    verdict = rollout.verdict(deployment(wanted=0), replicas=0, plan="p")
    assert (verdict.state, verdict.reason) == (State.READY, Reason.IDLE)
