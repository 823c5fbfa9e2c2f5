"""A namespace's quota holds up what has no room, says so with the figures, and nothing has to be done when there is."""

from collections.abc import Callable
from typing import Any

import pytest
from engines.engine_case import EngineCase

pytestmark = pytest.mark.cluster


def limit(engine: EngineCase, **hard: str) -> None:
    """Set the namespace's quota."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team"}, "spec": {"hard": hard}}
    engine.cluster.apply(quota, engine.namespace)


def reason(engine: EngineCase) -> tuple[str, str]:
    condition = engine.condition("Reconciling")
    return str(condition.get("reason", "")), str(condition.get("message", ""))


@pytest.mark.parametrize(
    "hard", [{"count/engineplans.enginewright.dev": "0"}, {"count/jobs.batch": "0"}, {"pods": "0"}], ids=str
)
def test_what_a_build_has_no_room_for_is_named_and_it_goes_on_when_there_is(
    engine: EngineCase, eventually: Callable[..., Any], hard: dict[str, str]
) -> None:
    limit(engine, **hard)
    engine.apply()
    _, message = eventually(lambda: reason(engine)[0] == "QuotaExceeded" and reason(engine), 30)
    assert "exceeded quota: team" in message
    assert "limited:" in message
    assert not engine.stalled()
    if "pods" not in hard:  # the Job controller's own patience is minutes long
        engine.cluster.kubectl("delete", "resourcequota", "team", "--namespace", engine.namespace)
        eventually(lambda: engine.objects("job"), 30)


def test_pods_of_a_deployment_that_have_no_room_are_named_while_the_others_serve(
    engine: EngineCase, eventually: Callable[..., Any]
) -> None:
    engine.apply()
    engine.becomes_ready()
    pods = engine.cluster.kubectl(
        "get", "pods", "--namespace", engine.namespace, "--field-selector=status.phase=Running", "--output=name"
    )
    limit(engine, pods=str(len(pods.split())))
    engine.apply(targets=[{"gpuClass": "cpu", "replicas": 2}])
    _, message = eventually(lambda: reason(engine)[0] == "QuotaExceeded" and reason(engine), 30)
    assert "exceeded quota: team" in message
    assert engine.target()["readyReplicas"] == 1
