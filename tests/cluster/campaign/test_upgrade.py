"""Another builder's image for many engines: they are built anew a few at a time, and what serves goes on meanwhile."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from campaign.replicas import Replicas
from controlplane.watching import watch

pytestmark = pytest.mark.cluster

LIMIT = 2
FLEET = {"cpu": 5, "other": 3}  # engines of each class
SETTINGS = {"RESYNC_SECONDS": "1"}
NEXT = SETTINGS | {"BUILDS_AT_ONCE": str(LIMIT), "BUILDER_IMAGE": "registry.example.com/builder:next"}
CLASS_LABEL = "enginewright.dev/gpu-class"


@pytest.fixture
def other_class(replicas: Replicas) -> Iterator[str]:
    """A class beside `cpu`, on the same nodes."""
    name = replicas.namespace  # cluster-scoped, so it is to be nobody else's
    metadata = {"name": name}
    gpu_class = {"apiVersion": "enginewright.dev/v1alpha1", "kind": "GPUClass", "metadata": metadata}
    replicas.plane.apply(gpu_class | {"spec": {"kind": "cpu"}})
    yield name
    replicas.plane.kubectl("delete", "gpuclass", name)


def under_way(job: dict[str, Any]) -> bool:
    rows = job.get("status", {}).get("conditions", ())
    return not any(row["type"] in ("Complete", "Failed") and row["status"] == "True" for row in rows)


def most_at_once(jobs: list[dict[str, Any]], gpu_class: str) -> int:
    """How many Jobs of a class were under way together at the worst moment of all that a watch has shown."""
    now: dict[str, bool] = {}
    most = 0
    for job in jobs:
        if job["metadata"]["labels"][CLASS_LABEL] == gpu_class:
            now[job["metadata"]["name"]] = under_way(job)
            most = max(most, sum(now.values()))
    return most


def test_an_upgrade_builds_a_fleet_anew_a_few_at_a_time_though_its_leader_is_killed(
    replicas: Replicas, other_class: str, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    classes = {"cpu": "cpu", "other": other_class}
    fleet = {f"{kind}-{number}": classes[kind] for kind, count in FLEET.items() for number in range(count)}
    with watch(replicas.plane, "jobs", replicas.namespace, tmp_path) as jobs:
        old = replicas.start(**SETTINGS)
        for name, gpu_class in fleet.items():
            (replicas.folder / f"{name}.onnx").write_text(name)
            replicas.apply(name, gpu_class=gpu_class, model=f"{name}.onnx", build={"rebuildOn": "Upgrade"})
        replicas.apply("left-alone")
        eventually(lambda: all(replicas.ready(name) for name in (*fleet, "left-alone")), 90, every=0.5)
        before = {name: serving(replicas, name) for name in (*fleet, "left-alone")}
        first = replicas.built()
        assert len(first) == len(fleet) + 1
        earlier = len(jobs.versions())

        # The new operator comes as a Deployment's new pod does; no build ends for now.
        replicas.held.touch()
        leader = replicas.start(**NEXT)
        replicas.processes[old].terminate()
        eventually(lambda: waiting(replicas, fleet) == len(fleet) - 2 * LIMIT, 60, every=0.5)
        replicas.start(**NEXT)
        time.sleep(2)  # it has seen the Lease
        replicas.processes[leader].kill()
        (replicas.folder / "late.onnx").write_text("late")
        replicas.apply("late", model="late.onnx")
        eventually(lambda: reason(replicas, "late") == "WaitingForTurn", 30, every=0.5)
        time.sleep(3)  # some resyncs, in which each engine is looked at again
        assert len([job for job in latest(jobs.versions()) if under_way(job)]) == 2 * LIMIT
        assert {name: serving(replicas, name) for name in before} == before, "what serves goes on"

        replicas.held.unlink()
        eventually(lambda: all(rebuilt(replicas, name, before) for name in fleet), 120, every=0.5)
        eventually(lambda: replicas.ready("late"), 30, every=0.5)
        seen = jobs.versions()[earlier:]

    assert most_at_once(seen, "cpu") == LIMIT
    assert most_at_once(seen, other_class) == LIMIT
    again = replicas.built()[len(first) :]
    assert len(again) == len(set(again)) == len(fleet) + 1, "each once, and the late one"
    assert serving(replicas, "left-alone") == before["left-alone"]
    assert replicas.condition("left-alone", "Stale", "True")["reason"] == "RebuildHeld"


def latest(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each Job as it was last seen."""
    return list({job["metadata"]["name"]: job for job in jobs}.values())


def row(replicas: Replicas, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(iter(replicas.status(name).get("targets", ())), {})
    return found


def serving(replicas: Replicas, name: str) -> str:
    return str(row(replicas, name).get("plan", ""))


def reason(replicas: Replicas, name: str) -> str:
    return str(row(replicas, name).get("reason", ""))


def waiting(replicas: Replicas, names: dict[str, str]) -> int:
    return sum(reason(replicas, name) == "WaitingForTurn" for name in names)


def rebuilt(replicas: Replicas, name: str, before: dict[str, str]) -> bool:
    return serving(replicas, name) != before[name] and replicas.ready(name)
