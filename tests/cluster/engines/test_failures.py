"""What goes wrong, and what is said of it; whatever happens, the plan that serves goes on serving."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from controlplane.cluster import ControlPlane
from controlplane.watching import watch
from engines.engine_case import EngineCase, retrained
from engines.load import Load
from gitops import kstatus
from gitops.kstatus import Status

pytestmark = pytest.mark.cluster


def test_a_model_that_is_none_stalls_with_the_builders_own_sentence_is_built_once_and_mended_by_a_better_one(
    engine: EngineCase, eventually: Callable[..., Any]
) -> None:
    engine.put_model(b"not a model at all")
    engine.apply()
    message = eventually(engine.stalled, 90)
    assert "model.onnx" in message
    assert engine.condition("Ready")["status"] == "False"
    (plan,) = engine.objects("engineplan")
    assert engine.plan(plan)["status"]["outcome"] == "BAD_MODEL"
    assert eventually(lambda: engine.events("BuildFailed"), 10)
    log_end = eventually(lambda: engine.events("BuildLog"), 10)
    assert any("Reading the network" in line for line in log_end)
    assert engine.objects("deployment") == []
    assert len(engine.objects("pod")) == 1

    engine.put_model(retrained())
    engine.becomes_ready()
    assert not engine.stalled()


def test_a_plan_that_fails_its_gate_never_serves_and_the_one_before_goes_on(
    engine: EngineCase, service_proxy: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    engine.apply()
    good = engine.becomes_ready()
    with service_proxy(engine.namespace, engine.name) as proxy, Load(f"127.0.0.1:{proxy.port}") as load:
        # The limit is a latency that no machine reaches, so the very same model now fails.
        gates = engine.manifest()["spec"]["gates"] | {"latency": {"batch": 1, "p99": "0.001us"}}
        engine.apply(gates=gates)
        message = eventually(engine.stalled, 90)
    assert "latency gate" in message
    assert load.failed == []
    assert load.answered > 0
    assert engine.target()["plan"] == good
    assert engine.target()["readyReplicas"] == 1


def test_a_build_that_is_oom_killed_is_named_as_that_and_built_with_half_of_its_workspace(
    engine: EngineCase, eventually: Callable[..., Any], tmp_path: Path
) -> None:
    with watch(engine.cluster, "inferenceengines", engine.namespace, tmp_path) as seen:
        engine.apply()
        os.kill(eventually(lambda: builder_of(engine.bucket), 90), signal.SIGKILL)
        plan = engine.plan(engine.becomes_ready())
    assert Status.FAILED not in map(kstatus.compute, seen.versions()), "nobody has to do anything"
    assert plan["status"]["workspace"] == plan["spec"]["recipe"].get("workspace", 1 << 30) // 2
    assert plan["status"]["attempts"] == 2
    (told,) = engine.events("BuildFailed")[:1]
    assert "OOMKilled" in told


def builder_of(bucket: str) -> int:
    """The process of the build whose request names the bucket; 0 while there is none."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue  # it ended meanwhile, or is another user's
        asked = environment.partition(b"ENGINEWRIGHT_BUILD_REQUEST=")[2].partition(b"\0")[0]
        if bucket.encode() in asked and b"--request-from-environment" in words:
            return int(process.name)
    return 0


def test_an_unwanted_build_is_ended_with_its_job_and_its_plan(
    engine: EngineCase, eventually: Callable[..., Any]
) -> None:
    engine.apply(build={"effort": "thorough"})
    running = eventually(lambda: builder_of(engine.bucket), 90)
    (unwanted,) = engine.objects("engineplan")
    log = ("logs", f"job/{unwanted}", f"--namespace={engine.namespace}")
    eventually(lambda: "Trying tactics" in engine.cluster.kubectl(*log, check=False))
    os.kill(running, signal.SIGSTOP)  # it must not end before anybody has changed their mind
    tactics = eventually(lambda: tried(engine, unwanted), 30, every=0.5)
    assert tactics["done"] <= tactics["total"] > 0
    eventually(lambda: "-0: Trying tactics, " in engine.target()["message"])
    engine.apply(build={"effort": "fast"})
    os.kill(running, signal.SIGCONT)
    eventually(lambda: unwanted not in engine.objects("engineplan"), 40)
    assert unwanted not in engine.objects("job")
    assert engine.becomes_ready() != unwanted


def tried(engine: EngineCase, plan: str) -> dict[str, Any]:
    """How far a build is with trying tactics, as its plan's status says; nothing where it is not there."""
    progress: dict[str, Any] = engine.plan(plan)["status"].get("progress") or {}
    return progress if progress.get("phase") == "Trying tactics" else {}


def test_a_missing_model_is_said_before_anything_is_built(engine: EngineCase, eventually: Callable[..., Any]) -> None:
    engine.apply(model={"uri": f"s3://{engine.bucket}/nowhere.onnx"})
    message = eventually(engine.stalled, 60)
    assert f"s3://{engine.bucket}/nowhere.onnx" in message
    assert engine.objects("job") == []


def test_wrong_credentials_are_said_before_anything_is_built(
    engine: EngineCase, eventually: Callable[..., Any]
) -> None:
    storage = engine.manifest()["spec"]["storage"] | {"credentialsSecret": "nobody"}
    engine.apply(storage=storage)
    message = eventually(engine.stalled, 60)
    assert "nobody" in message
    assert engine.objects("job") == []


def test_a_gpu_class_that_no_node_has_names_the_products_that_the_cluster_does_have(
    engine: EngineCase, eventually: Callable[..., Any]
) -> None:
    engine.apply(targets=[{"gpuClass": "nvidia-l4"}])
    message = eventually(lambda: engine.target("nvidia-l4").get("message"), 20)
    assert "NVIDIA-L4" in message
    assert "NVIDIA-H200" in message
    available = engine.condition("GPUAvailable")
    assert (available["status"], available["reason"]) == ("False", "NoMatchingNode")
    assert "NVIDIA-H200" in available["message"]
    assert engine.objects("job") == []


def test_a_gpu_class_that_does_not_exist_names_those_that_do(
    engine: EngineCase, eventually: Callable[..., Any]
) -> None:
    engine.apply(targets=[{"gpuClass": "nvidia-h2000"}])
    message = eventually(lambda: engine.target("nvidia-h2000").get("message"), 20)
    assert "nvidia-h2000" in message
    assert "nvidia-h200" in message.replace("nvidia-h2000", "")


def test_a_service_of_somebody_elses_with_the_engines_name_is_left_alone(
    engine: EngineCase, eventually: Callable[..., Any]
) -> None:
    selector = {"app": "theirs"}
    theirs = {"metadata": {"name": engine.name}, "spec": {"selector": selector, "ports": [{"port": 80}]}}
    engine.cluster.apply({"apiVersion": "v1", "kind": "Service"} | theirs, engine.namespace)
    engine.apply()
    assert f"The Service {engine.name} is in the namespace" in eventually(engine.stalled, 60)
    service: Any = engine.cluster.get("service", engine.name, engine.namespace)
    assert service["spec"]["selector"] == selector
    assert engine.objects("engineplan,deployment") == []


def test_an_operator_killed_before_while_it_builds_and_while_it_switches_is_followed_by_one_that_goes_on_from_there(
    engine: EngineCase, operator: str, eventually: Callable[..., Any]
) -> None:
    engine.apply()
    kill(engine.cluster, operator)
    eventually(lambda: engine.objects("job"), 60)
    kill(engine.cluster, operator)
    first = engine.becomes_ready()
    engine.put_model(retrained())
    eventually(lambda: engine.target().get("desiredPlan") not in {None, "", first}, 30)
    kill(engine.cluster, operator)
    second = engine.becomes_ready(other_than=first)
    built = [engine.plan(name)["status"] for name in (first, second)]
    assert [(plan["phase"], plan["attempts"]) for plan in built] == [("Built", 1), ("Built", 1)]
    assert sorted(engine.objects("engineplan")) == sorted([first, second])


def kill(cluster: ControlPlane, namespace: str) -> None:
    """End the operator's pod with SIGKILL and no word of farewell."""
    cluster.kubectl("delete", "pod", "--all", "--namespace", namespace, "--grace-period=0", "--force")
