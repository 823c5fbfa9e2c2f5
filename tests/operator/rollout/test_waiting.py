"""Why a pod does not come up is said in the words of whoever knows: scheduler, kubelet, or the program."""

from typing import Any

from enginewright_operator import rollout


def pod(name: str = "p", *, ready: bool = False, scheduled: str = "", **container: Any) -> dict[str, Any]:
    """A pod with one container in this state."""
    rows = [{"type": "Ready", "status": str(ready)}]
    if scheduled:
        rows.append({"type": "PodScheduled", "status": "False", "message": scheduled})
    return {"metadata": {"name": name}, "status": {"conditions": rows, "containerStatuses": [container]}}


def test_a_pod_without_a_node_has_the_schedulers_words() -> None:
    why = rollout.why_not_ready([pod(scheduled="0/2 nodes are available: 2 Insufficient nvidia.com/gpu.")])
    assert why == "the pod p finds no node: 0/2 nodes are available: 2 Insufficient nvidia.com/gpu."


def test_a_program_that_ends_again_and_again_has_its_own_last_line() -> None:
    ended = {"terminated": {"exitCode": 65, "reason": "Error", "message": "loading\nThe plan is damaged.\n"}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    assert rollout.why_not_ready([pod(state=waiting, lastState=ended)]) == (
        "the pod p ended with exit code 65: The plan is damaged."
    )


def test_an_image_that_cannot_be_had_has_the_kubelets_words() -> None:
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    assert rollout.why_not_ready([pod(state=waiting)]) == "the pod p cannot start: ErrImagePull: no such image."


def test_a_pod_that_runs_and_is_not_ready_is_named() -> None:
    assert rollout.why_not_ready([pod(state={"running": {}})]) == "the pod p does not get ready."


def test_the_first_pod_that_is_not_ready_speaks() -> None:
    assert "the pod q" in rollout.why_not_ready([pod(ready=True), pod("q", state={"running": {}})])
    assert rollout.why_not_ready([pod(ready=True)]) == ""
