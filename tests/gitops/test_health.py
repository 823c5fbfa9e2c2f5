"""kstatus, Argo CD and our conditions say the same of every state that an object can be in."""

import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from gitops import kstatus
from gitops.kstatus import Status
from lupa.lua51 import LuaRuntime  # Argo CD's gopher-lua is Lua 5.1

from enginewright_operator.conditions import Reason, State, Verdict, conditions

GITOPS = Path(__file__).parents[2] / "examples" / "gitops"
HEALTH = (GITOPS / "health.lua").read_text()
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def manifest(
    state: State, *, reason: Reason = Reason.BUILDING, generation: int = 3, observed: int = 3
) -> dict[str, Any]:
    """An engine whose status is of the generation `observed`."""
    verdict = Verdict(state=state, reason=reason, message="what is said")
    rows = conditions(verdict, generation=observed, before=(), now=NOW)
    status = {"observedGeneration": observed, "conditions": [row.model_dump(by_alias=True) for row in rows]}
    return {"kind": "InferenceEngine", "metadata": {"name": "e", "generation": generation}, "status": status}


def health(given: dict[str, Any]) -> tuple[str, str]:
    """What Argo CD would show, from a Lua that has no libraries but those that Argo CD gives it."""
    lua = LuaRuntime(register_eval=False, unpack_returned_tuples=True)
    for name in ("os", "io", "package", "require", "dofile", "loadfile", "debug", "python"):
        lua.globals()[name] = None
    run = lua.execute(f"return function(obj)\n{HEALTH}\nend")
    found = run(lua.table_from(given, recursive=True))
    return found["status"], found["message"]


STATES = [
    (manifest(State.READY), Status.CURRENT, "Healthy"),
    (manifest(State.WORKING), Status.IN_PROGRESS, "Progressing"),
    (manifest(State.WORKING, reason=Reason.ACCEPTED), Status.IN_PROGRESS, "Progressing"),
    (manifest(State.STALLED), Status.FAILED, "Degraded"),
    (manifest(State.STALLED, reason=Reason.PAUSED), Status.FAILED, "Suspended"),
]


@pytest.mark.parametrize(("given", "wanted", "_"), STATES)
def test_kstatus_reads_each_state_as_it_is_meant(given: dict[str, Any], wanted: Status, _: str) -> None:
    assert kstatus.compute(given) is wanted


@pytest.mark.parametrize(("given", "_", "wanted"), STATES)
def test_argo_cd_shows_each_state_with_its_sentence(given: dict[str, Any], _: Status, wanted: str) -> None:
    assert health(given) == (wanted, "what is said")


@pytest.mark.parametrize(("given", "status", "shown"), STATES)
@pytest.mark.parametrize("kind", ["Stale", "GPUAvailable"])
@pytest.mark.parametrize("value", ["True", "False"])
def test_a_condition_beside_the_three_changes_nothing_of_what_tools_see(
    given: dict[str, Any], status: Status, shown: str, kind: str, value: str
) -> None:
    more = given["status"]["conditions"][0] | {"type": kind, "status": value, "message": "something else"}
    rows = [more, *given["status"]["conditions"], more]
    told = given | {"status": given["status"] | {"conditions": rows}}
    assert kstatus.compute(told) is status
    assert health(told) == (shown, "what is said")


@pytest.mark.parametrize("state", list(State))
def test_no_state_of_a_former_generation_is_taken_for_the_last_word(state: State) -> None:
    given = manifest(state, generation=4)
    assert kstatus.compute(given) is Status.IN_PROGRESS
    assert health(given)[0] == "Progressing"


def test_an_object_that_the_operator_never_saw_is_in_progress() -> None:
    given = manifest(State.READY) | {"status": {"observedGeneration": -1}}
    assert kstatus.compute(given) is Status.IN_PROGRESS
    assert health(given)[0] == "Progressing"
    assert health({"kind": "EnginePlan", "metadata": {"generation": 1}})[0] == "Progressing"


def test_a_deleted_object_is_terminating() -> None:
    given = manifest(State.READY)
    given["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert kstatus.compute(given) is Status.TERMINATING


def test_a_gpu_class_has_no_status_and_is_healthy() -> None:
    assert health({"kind": "GPUClass", "metadata": {"generation": 1}})[0] == "Healthy"


def test_the_config_map_of_argo_cd_holds_the_script_for_each_kind() -> None:
    data = yaml.safe_load((GITOPS / "argocd-cm.yaml").read_text())["data"]
    names = [f"resource.customizations.health.enginewright.dev_{kind}" for kind in
             ("InferenceEngine", "EnginePlan", "GPUClass")]  # fmt: skip
    assert data == dict.fromkeys(names, HEALTH)
