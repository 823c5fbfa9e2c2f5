"""A namespace's quota holds up what has no room, says so with the figures, and nothing has to be done when there is."""

from collections.abc import Callable
from typing import Any

import pytest
from engines.engine_case import EngineCase

pytestmark = pytest.mark.cluster


def reason(engine: EngineCase) -> tuple[str, str]:
    condition = engine.condition("Reconciling")
    return str(condition.get("reason", "")), str(condition.get("message", ""))


@pytest.mark.parametrize(
    "hard", [{"count/engineplans.enginewright.dev": "0"}, {"count/jobs.batch": "0"}, {"pods": "0"}], ids=str
)
def test_what_a_build_has_no_room_for_is_named_and_it_goes_on_when_there_is(
    engine: EngineCase, eventually: Callable[..., Any], hard: dict[str, str]
) -> None:
    engine.limit(**hard)
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
    engine.limit(pods="1")
    engine.apply(targets=[{"gpuClass": "cpu", "replicas": 2}])
    _, message = eventually(lambda: reason(engine)[0] == "QuotaExceeded" and reason(engine), 30)
    assert "exceeded quota: team" in message
    assert engine.target()["readyReplicas"] == 1
