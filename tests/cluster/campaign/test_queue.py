"""A build that a queue holds back, as Kueue does by suspending its Job: said, and gone on with when it is admitted."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from campaign.replicas import Replicas

pytestmark = pytest.mark.cluster


def test_a_suspended_build_is_queued_and_goes_on_by_itself_when_it_is_admitted(
    replicas: Replicas, eventually: Callable[..., Any]
) -> None:
    name, plane = replicas.namespace, replicas.plane

    def suspended(yes: bool) -> None:
        patch = json.dumps({"spec": {"suspend": yes}})
        plane.kubectl("patch", "job", plan, "--namespace", name, "--type=merge", f"--patch={patch}")

    replicas.held.touch()
    replicas.start()
    replicas.apply("engine", build={"queue": "team-a"})
    plan = eventually(lambda: (replicas.status("engine").get("targets") or [{}])[0].get("desiredPlan"), 60)
    job: Any = eventually(lambda: plane.get("job", plan, name), 30)
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"

    suspended(True)
    told = eventually(lambda: queued(replicas), 30)
    assert "waits in the queue team-a until it is admitted" in told["message"]
    eventually(lambda: plane.kubectl("get", "pods", "--namespace", name, "--output=name") == "", 30)
    replicas.held.unlink()

    suspended(False)
    eventually(lambda: replicas.ready("engine"), 60)
    assert plane.get("engineplan", plan, name)["status"]["attempts"] == 1
    assert len(replicas.built()) == 1


def queued(replicas: Replicas) -> dict[str, Any]:
    """The engine's condition Reconciling where the build is queued; else nothing."""
    row = replicas.condition("engine", "Reconciling", "True")
    return row if row.get("reason") == "Queued" else {}
