"""Plans that take over and plans that do not come up, with requests all the while: none of them fails."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from controlplane.watching import Watch, watch
from engines.engine_case import EngineCase, renamed, retrained, slowed
from engines.load import Load

pytestmark = pytest.mark.cluster

HTTP_ROUTES = Path(__file__).parent / "httproute.yaml"
TWO = [{"gpuClass": "cpu", "replicas": 2}]


def build_unserved(engine: EngineCase, model: bytes, eventually: Callable[..., Any]) -> dict[str, Any]:
    """Build a model's plan through another engine that serves nothing, as a pipeline might; the EnginePlan."""
    engine.client.put_object(Bucket=engine.bucket, Key="digits/next.onnx", Body=model)
    known = set(engine.objects("engineplan"))
    manifest = engine.manifest(targets=[{"gpuClass": "cpu", "replicas": 0}])
    manifest["metadata"]["name"] = "next"
    manifest["spec"]["model"]["uri"] = f"s3://{engine.bucket}/digits/next.onnx"
    engine.cluster.apply(manifest, engine.namespace)
    (name,) = eventually(lambda: set(engine.objects("engineplan")) - known, 20, every=0.5)
    eventually(lambda: (engine.plan(name).get("status") or {}).get("phase") == "Built", 60, every=0.5)
    return engine.plan(name)


def retry(engine: EngineCase, value: str) -> None:
    """Ask for a rejected plan to be tried again."""
    engine.cluster.kubectl(
        "annotate", "ie", engine.name, f"enginewright.dev/retry={value}", "--overwrite", "--namespace", engine.namespace
    )


def test_without_a_spare_node_a_plan_that_does_not_come_up_is_rolled_back_and_not_tried_again_until_something_changes(
    engine: EngineCase, service_proxy: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    rollout = {"maxSurge": 0, "progressDeadline": "40s"}
    engine.apply(targets=TWO, rollout=rollout)
    good = engine.becomes_ready()
    bad = build_unserved(engine, retrained(), eventually)
    name = bad["metadata"]["name"]
    (key,) = [each for each in engine.files() if bad["spec"]["digest"] in each]
    whole = engine.client.get_object(Bucket=engine.bucket, Key=key)["Body"].read()
    engine.client.put_object(Bucket=engine.bucket, Key=key, Body=whole[:-100] + bytes(100))

    with service_proxy(engine.namespace, engine.name) as proxy, Load(f"127.0.0.1:{proxy.port}") as load:
        engine.put_model(retrained())
        message = eventually(lambda: engine.stalled(), 90, every=0.5)
        assert name in message
        assert f"{good} serves meanwhile" in message
        rejected = engine.target()["rejected"]
        assert rejected["plan"] == name
        assert "exit code" in rejected["message"], "the program's own sentence"
        eventually(lambda: engine.target()["readyReplicas"] == 2, 30, every=0.5)
        assert any(name in line or good in line for line in engine.events("RolledBack"))

        replicas_before = replica_sets(engine)
        engine.apply(targets=[{"gpuClass": "cpu", "replicas": 3}], rollout=rollout)  # no change that could mend it
        eventually(lambda: engine.target()["readyReplicas"] == 3, 30, every=0.5)
        assert engine.target()["rejected"] == rejected
        assert replica_sets(engine) == replicas_before

        engine.client.put_object(Bucket=engine.bucket, Key=key, Body=whole)
        retry(engine, "1")
        assert engine.becomes_ready(other_than=good) == name
        assert not engine.target().get("rejected")
    assert load.failed == []
    assert load.answered > 100
    assert proxy.refused == 0


def test_recreate_has_the_old_pods_gone_before_the_new_ones_come_and_needs_no_room_beside_them(
    engine: EngineCase, service_proxy: Callable[..., Any], eventually: Callable[..., Any], tmp_path: Path
) -> None:
    rollout = {"strategy": "Recreate"}
    engine.apply(targets=TWO, rollout=rollout)
    old = engine.becomes_ready()
    new = build_unserved(engine, retrained(), eventually)["metadata"]["name"]
    engine.limit(pods="2")
    with (
        watch(engine.cluster, "pods", engine.namespace, tmp_path) as watched,
        service_proxy(engine.namespace, engine.name) as proxy,
        Load(f"127.0.0.1:{proxy.port}") as load,
    ):
        eventually(lambda: load.answered > 20)
        engine.put_model(retrained())
        assert engine.becomes_ready(other_than=old) == new
        answered = load.answered
        eventually(lambda: load.answered > answered + 20)
    seen = [each for each in watched.versions() if each["metadata"]["labels"].get("pod-template-hash")]
    first = seen[0]["metadata"]["labels"]["pod-template-hash"]
    change = next(at for at, each in enumerate(seen) if each["metadata"]["labels"]["pod-template-hash"] != first)
    late = [each for each in seen[change:] if each["metadata"]["labels"]["pod-template-hash"] == first]
    assert {each["status"]["phase"] for each in late} <= {"Succeeded", "Failed"}, "an old pod ran beside a new one"
    # What clients see of the gap, as docs/operations.md says: refused connections, and no request cut off.
    assert {failure.split(": ")[1] for failure in load.failed} == {"ConnectionRefusedError"}
    assert proxy.refused == 0


def test_a_canary_that_does_well_takes_over_by_itself_and_one_that_fails_is_rolled_back_by_itself(
    engine: EngineCase, service_proxy: Callable[..., Any], eventually: Callable[..., Any], tmp_path: Path
) -> None:
    # A machine that does many things at once: the next test is the one of the latency ratio.
    analysis = {"interval": "2s", "minRequests": 20, "failureLimit": 0, "maxP99Ratio": 1000}
    steps = [{"setWeight": 50}, {"pause": {"duration": "3s"}}]
    rules = {"strategy": "Canary", "canary": {"steps": steps, "analysis": analysis}}
    route = {"parentRefs": [{"name": "edge"}], "hostnames": ["digits.example.com"]}
    engine.apply(targets=TWO, rollout=rules, gates={}, serving={"route": route})
    assert "install its CRDs" in eventually(lambda: engine.stalled(), 20, every=0.5)
    engine.cluster.apply(HTTP_ROUTES.read_text())
    good = engine.becomes_ready()
    with service_proxy(engine.namespace, engine.name) as proxy:
        with (
            watch(engine.cluster, "inferenceengines", engine.namespace, tmp_path) as engines,
            watch(engine.cluster, "httproutes", engine.namespace, tmp_path) as routes,
            Load(f"127.0.0.1:{proxy.port}", renew=10) as load,
        ):
            engine.put_model(retrained())
            better = engine.becomes_ready(other_than=good)
            first, *_ = eventually(lambda: canaries(engines))
            assert (first["plan"], first["canary"]["plan"]) == (good, better)
            half = {"digits-stable": 50, "digits-canary": 50}
            eventually(lambda: half in [shares(each) for each in routes.versions()], every=0.5)
            eventually(lambda: engine.objects("deployment") == ["digits-cpu"], 20, every=0.5)
            eventually(lambda: weights(engine) == {"digits-stable": 100, "digits-canary": 0}, 20, every=0.5)
        assert load.failed == []
        assert load.answered > 100
        assert proxy.refused == 0

        with Load(f"127.0.0.1:{proxy.port}", renew=10) as load:
            engine.put_model(renamed())
            message = eventually(lambda: engine.stalled(), 90, every=0.5)
            answered = load.answered
            eventually(lambda: engine.objects("deployment") == ["digits-cpu"], 20, every=0.5)
            eventually(lambda: load.answered > answered + 50, 20, every=0.5)
    assert "of the canary's" in message
    assert "requests failed" in message
    assert engine.target()["plan"] == better
    assert load.failed, "those that the canary had got: that is how it is known"
    assert engine.events("RolledBack")
    assert weights(engine) == {"digits-stable": 100, "digits-canary": 0}

    engine.apply(targets=TWO, rollout=rules, gates={})
    eventually(lambda: engine.objects("httproute,service") == ["digits"], 20, every=0.5)


def test_a_canary_that_answers_rightly_and_far_later_than_the_other_is_rolled_back_by_itself_with_both_p99(
    engine: EngineCase, service_proxy: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    # A window in which the plan that serves got too few requests says nothing of the latency: the pause leaves time for
    # the next ones.
    analysis = {"interval": "2s", "minRequests": 10, "failureLimit": 0, "maxP99Ratio": 3}
    steps = [{"setWeight": 50}, {"pause": {"duration": "90s"}}]
    rules = {"strategy": "Canary", "canary": {"steps": steps, "analysis": analysis}}
    engine.apply(targets=TWO, rollout=rules, gates={}, batchSizes=[1])
    good = engine.becomes_ready()
    with service_proxy(engine.namespace, engine.name) as proxy, Load(f"127.0.0.1:{proxy.port}", renew=1) as load:
        engine.put_model(slowed())
        message = eventually(lambda: engine.stalled(), 60, every=0.5)
        eventually(lambda: engine.objects("deployment") == ["digits-cpu"], 20, every=0.5)
        eventually(lambda: engine.target()["readyReplicas"] == 2, 20, every=0.5)
    figures = re.search(
        r"the canary's p99 was (\S+) ms of (\d+) requests, at most 3 times (\S+) ms was allowed", message
    )
    assert figures, message
    canary, requests, stable = (float(each) for each in figures.groups())
    assert canary > 100
    assert canary > 3 * stable > 0
    assert requests >= 10
    assert engine.target()["plan"] == good
    assert engine.target()["rejected"]["plan"] != good
    assert any(figures.group() in line for line in engine.events("RolledBack"))
    assert load.failed == []
    assert load.right / load.answered > 0.95, "the canary's answers were as right as the other's"
    assert proxy.refused == 0


def canaries(engines: Watch) -> list[dict[str, Any]]:
    """All that was said of a target while it had a canary, the oldest first."""
    return [row for each in engines.versions() for row in each["status"]["targets"] if row.get("canary")]


def weights(engine: EngineCase) -> dict[str, int]:
    """What a Gateway is told now."""
    return shares(engine.cluster.get("httproute", engine.name, engine.namespace))


def shares(route: Any) -> dict[str, int]:
    """The share of each Service."""
    backends = route["spec"]["rules"][0]["backendRefs"] if route else []
    return {each["name"]: each["weight"] for each in backends}


def replica_sets(engine: EngineCase) -> list[str]:
    """The pod templates that the engine's Deployment has had."""
    text = engine.cluster.kubectl("get", "rs", "--namespace", engine.namespace, "--output=json")
    return sorted(each["metadata"]["name"] for each in json.loads(text)["items"])
