"""Former plans: so many are kept, the others for so long after they were built; none goes that a pod still serves."""

import datetime
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from campaign.replicas import Replicas

from enginewright_operator.reconcile.collect import PATIENCE

pytestmark = pytest.mark.cluster

AGE = 12.0
SETTINGS = {"RESYNC_SECONDS": "1"}
HOLD = "enginewright.dev/held-by-a-test"  # a finalizer: with it a deleted pod stays, and counts as running

Eventually = Callable[..., Any]


def test_a_former_plan_goes_when_it_is_old_enough_unless_it_is_kept_or_a_pod_still_serves_it(
    replicas: Replicas, eventually: Eventually
) -> None:
    patient = replicas.start(**SETTINGS, COLLECT_AFTER="3600")
    replicas.apply("engine", rollout={"keepLast": 1})
    first = served(replicas, "", eventually)
    second = replaced(replicas, "the second", first, eventually)
    third = replaced(replicas, "the third", second, eventually)
    assert replaced(replicas, "a model", third, eventually) == first
    assert len(replicas.built()) == 3, "a young plan is there to come back to"
    assert plans(replicas) == {first, second, third}
    finished, file = built_at(replicas, second), file_of(replicas, second)

    replicas.start(**SETTINGS, COLLECT_AFTER=str(AGE))
    replicas.processes[patient].terminate()
    eventually(lambda: not plan(replicas, second), 60)
    assert time.time() - finished >= AGE
    assert not file.exists()
    eventually(lambda: time.time() - built_at(replicas, third) > AGE + 3, 30)  # some resyncs later than its age
    assert plans(replicas) == {first, third}, "the one before the one that serves is kept, however old"
    assert file_of(replicas, third).exists()

    pod = hold_the_pod(replicas)
    fourth = replaced(replicas, "the fourth", first, eventually)
    file = file_of(replicas, first)
    fifth = replaced(replicas, "the fifth", fourth, eventually)
    eventually(lambda: plan(replicas, first)["metadata"].get("deletionTimestamp"), 20)
    time.sleep(5)  # it is looked at every two seconds
    assert plan(replicas, first), "its pod is not gone"
    assert file.exists()
    where = ("--namespace", replicas.namespace)
    replicas.plane.kubectl("patch", "pod", pod, *where, "--type=merge", "--patch", finalizers())
    eventually(lambda: not plan(replicas, first) and not file.exists(), 20)

    # Too young when it is let go of, and nothing else happens to the engine.
    finished = built_at(replicas, fourth)
    sixth = replaced(replicas, "the sixth", fifth, eventually)
    eventually(lambda: plans(replicas) == {fifth, sixth}, 30)
    assert time.time() - finished >= AGE


@pytest.mark.slow
def test_a_plan_whose_storage_is_gone_for_good_is_let_go_of_after_its_time_and_its_files_are_named(
    replicas: Replicas, eventually: Eventually
) -> None:
    where = ("--namespace", replicas.namespace)
    keys = [f"--from-literal={key}=x" for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    replicas.plane.kubectl("create", "secret", "generic", "store", *keys, *where)
    replicas.start(**SETTINGS)
    replicas.apply("engine", storage={"uri": f"file://{replicas.folder}/store", "credentialsSecret": "store"})
    left = served(replicas, "", eventually)
    file = file_of(replicas, left)
    replicas.plane.kubectl("delete", "secret", "store", *where)
    time.sleep(6)  # longer than it is remembered
    replicas.plane.kubectl("delete", "ie", "engine", *where)
    began = time.monotonic()
    eventually(lambda: not plan(replicas, left), 150)
    assert PATIENCE - 5 < time.monotonic() - began < PATIENCE + 15
    assert file.exists()
    told = replicas.plane.kubectl("get", "events", "--field-selector=reason=FilesLeft", "--output=json", *where)
    (event,) = json.loads(told)["items"]
    assert f"{file.parent}/ could not be deleted and were left there: The Secret store is gone" in event["message"]


def served(replicas: Replicas, other_than: str, eventually: Eventually) -> str:
    """The plan that the engine serves once it is ready with another one."""

    def plan() -> str:
        row = next(iter(replicas.status("engine").get("targets", ())), {})
        settled = row.get("plan") == row.get("desiredPlan") != other_than and replicas.ready("engine")
        return str(row["plan"]) if settled else ""

    return str(eventually(plan, 60))


def replaced(replicas: Replicas, model: str, before: str, eventually: Eventually) -> str:
    """The plan that is served after the model was replaced."""
    (replicas.folder / "model.onnx").write_text(model)
    return served(replicas, before, eventually)


def plan(replicas: Replicas, name: str) -> dict[str, Any]:
    """The EnginePlan; an empty mapping where there is none."""
    return replicas.plane.get("engineplan", name, replicas.namespace) or {}


def plans(replicas: Replicas) -> set[str]:
    """Names of all EnginePlans."""
    listed = replicas.plane.kubectl("get", "engineplans", "--namespace", replicas.namespace, "--output=name")
    return {name.partition("/")[2] for name in listed.split()}


def file_of(replicas: Replicas, name: str) -> Path:
    """Where the plan's file lies."""
    return Path(plan(replicas, name)["spec"]["planURI"].removeprefix("file://"))


def built_at(replicas: Replicas, name: str) -> float:
    """When the plan was built, in seconds of the epoch."""
    return datetime.datetime.fromisoformat(plan(replicas, name)["status"]["finishedAt"]).timestamp()


def hold_the_pod(replicas: Replicas) -> str:
    """Let the one serving pod stay though it is deleted; its name."""
    selector = "--selector=app.kubernetes.io/component=runtime"
    where = ("--namespace", replicas.namespace)
    (pod,) = replicas.plane.kubectl("get", "pods", selector, *where, "--output=name").split()
    replicas.plane.kubectl("patch", pod, *where, "--type=merge", "--patch", finalizers(HOLD))
    return pod.partition("/")[2]


def finalizers(*names: str) -> str:
    return json.dumps({"metadata": {"finalizers": names}})
