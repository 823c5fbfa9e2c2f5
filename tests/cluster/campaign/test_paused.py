"""An engine that is paused while its plan waits to be built: the build does not begin before somebody says so."""

from collections.abc import Callable
from typing import Any

import pytest
from campaign.replicas import Replicas

pytestmark = pytest.mark.cluster


def test_a_build_that_waits_for_its_turn_does_not_begin_while_its_engine_is_paused(
    replicas: Replicas, eventually: Callable[..., Any]
) -> None:
    def row(name: str) -> dict[str, Any]:
        return next(iter(replicas.status(name).get("targets", ())), {})

    def apply(name: str, **more: bool) -> None:
        (replicas.folder / f"{name}.onnx").write_text(name)  # of one model they would share a plan
        replicas.apply(name, model=f"{name}.onnx", **more)

    replicas.held.touch()
    replicas.start(BUILDS_AT_ONCE="1")
    apply("first")
    eventually(lambda: row("first").get("reason") == "Building", 60)
    apply("second")
    eventually(lambda: row("second").get("reason") == "WaitingForTurn", 60)
    apply("second", paused=True)
    eventually(lambda: replicas.condition("second", "Stalled", "True").get("reason") == "Paused", 30)
    plan = row("second")["desiredPlan"]

    replicas.held.unlink()
    eventually(lambda: replicas.ready("first"), 60)
    eventually(lambda: stalled(replicas, plan) == "Paused", 30)
    assert replicas.plane.get("job", plan, replicas.namespace) is None

    apply("second", paused=False)
    eventually(lambda: replicas.ready("second"), 60)
    assert len(replicas.built()) == 2


def stalled(replicas: Replicas, plan: str) -> str:
    """Why an EnginePlan is stalled; empty where it is not."""
    found: Any = replicas.plane.get("engineplan", plan, replicas.namespace)
    rows = found["status"]["conditions"]
    return next((row["reason"] for row in rows if (row["type"], row["status"]) == ("Stalled", "True")), "")
