"""What a GitOps tool sees: no state is claimed too early, no spec is written, nothing drifts."""

import json
from pathlib import Path
from typing import Any

import pytest
from controlplane.watching import watch
from engines.engine_case import EngineCase
from gitops import kstatus
from gitops.kstatus import Status

pytestmark = pytest.mark.cluster


def serves_what_it_says(version: dict[str, Any]) -> bool:
    """Whether every target of this version of an engine serves the plan that its spec asks for."""
    rows = version["status"]["targets"]
    return bool(rows) and all(
        row["ready"] and row["plan"] == row["desiredPlan"] and row["readyReplicas"] >= row["replicas"] for row in rows
    )


def test_kstatus_never_calls_an_engine_current_before_it_serves_what_its_spec_says(
    engine: EngineCase, tmp_path: Path
) -> None:
    with watch(engine.cluster, "inferenceengines", engine.namespace, tmp_path) as seen:
        engine.apply()
        first = engine.becomes_ready()
        engine.apply(batchSizes=[1, 2])
        second = engine.becomes_ready(other_than=first)
    versions = seen.versions()
    told = [kstatus.compute(version) for version in versions]
    assert told[0] is Status.IN_PROGRESS, "nobody has looked at it yet"
    current = [version for version, status in zip(versions, told, strict=True) if status is Status.CURRENT]
    assert all(serves_what_it_says(version) for version in current)
    assert [each for each in (first, second) if not any(plan_of(version) == each for version in current)] == []
    assert Status.FAILED not in told


def plan_of(version: dict[str, Any]) -> str:
    return str(version["status"]["targets"][0]["plan"])


def test_kstatus_calls_an_engine_failed_when_only_a_person_can_mend_it(engine: EngineCase, eventually: Any) -> None:
    engine.apply(targets=[{"gpuClass": "nvidia-h2000"}])
    eventually(lambda: kstatus.compute(engine.get()) is Status.FAILED, 20)


def test_the_operator_writes_no_spec_and_another_manager_sees_no_drift(serving: EngineCase) -> None:
    managers = serving.get()["metadata"]["managedFields"]
    ours = [each for each in managers if each["manager"] == "enginewright-operator"]
    assert [(each.get("subresource"), list(each["fieldsV1"])) for each in ours] == [("status", ["f:status"])]

    before = serving.get()
    text = json.dumps(serving.manifest())
    # kubectl diff ends with 1, and so fails the test, where there is a difference.
    where = ("--namespace", serving.namespace, "-f", "-")
    serving.cluster.kubectl("diff", "--server-side", "--field-manager=argocd-controller", *where, stdin=text)
    serving.cluster.kubectl("apply", "--server-side", "--field-manager=argocd-controller", *where, stdin=text)
    # The defaults are stable too: what the API server gives back is what would be applied again.
    whole = json.dumps({key: before[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": "digits"}})
    serving.cluster.kubectl("apply", "--server-side", "--field-manager=argocd-controller", *where, stdin=whole)
    after = serving.get()
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


def test_what_another_manager_adds_to_a_child_stays(serving: EngineCase, eventually: Any) -> None:
    (name,) = serving.objects("deployment")
    theirs = {
        "metadata": {"name": name, "labels": {"cost-centre": "42"}},
        "apiVersion": "apps/v1",
        "kind": "Deployment",
    }
    where = ("--namespace", serving.namespace, "-f", "-")
    text = json.dumps(theirs)
    serving.cluster.kubectl("apply", "--server-side", "--field-manager=labeller", *where, stdin=text)
    serving.apply(targets=[{"gpuClass": "cpu", "replicas": 2}])
    eventually(lambda: serving.target().get("readyReplicas") == 2 and serving.ready(), 40)
    child: Any = serving.cluster.get("deployment", name, serving.namespace)
    assert child["metadata"]["labels"]["cost-centre"] == "42"
    serving.apply()
    eventually(lambda: serving.target().get("readyReplicas") == 1 and serving.ready(), 40)


def test_kubectl_waits_shows_and_tells_the_story(serving: EngineCase) -> None:
    where = ("--namespace", serving.namespace)
    waited = serving.cluster.kubectl("wait", "--for=condition=Ready", "ie/digits", "--timeout=300s", *where)
    assert waited == "inferenceengine.enginewright.dev/digits condition met\n"
    heading, row = (line.split() for line in serving.cluster.kubectl("get", "ie", *where).splitlines())
    assert (
        dict(zip(heading, row, strict=True)).items() >= {"READY": "True", "REASON": "Serving", "TARGETS": "1/1"}.items()
    )
    told = serving.cluster.kubectl("describe", "ie", "digits", *where)
    story = told[told.index("Events:") :]
    assert [reason for reason in ("Accepted", "Building", "RollingOut", "Serving") if reason not in story] == []
    assert story.index("Building") < story.index("Serving")
