"""How many pods there are is said in one place, by a person or an autoscaler; a drain takes one at a time."""

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from engines.engine_case import EngineCase
from engines.load import Load
from engines.metrics_adapter import MetricsAdapter

pytestmark = pytest.mark.cluster

# It counts as under way until the rest comes, or the connection goes.
HALF_A_REQUEST = b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: digits\r\nContent-Length: 1000\r\n\r\n"


def scaled(engine: EngineCase) -> tuple[int, int]:
    """The number of pods that the spec asks for, and of those that are ready."""
    return engine.get()["spec"]["replicas"], engine.target().get("readyReplicas", 0)


def evict(engine: EngineCase, pod: str) -> None:
    """What `kubectl drain` asks for; raises CalledProcessError where the budget refuses."""
    wish = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": engine.namespace}}
    path = f"/api/v1/namespaces/{engine.namespace}/pods/{pod}/eviction"
    engine.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(wish))


def test_the_engine_is_scaled_by_an_autoscaler_and_by_hand_and_drained_without_a_failed_request(
    engine: EngineCase, service_proxy: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    serving: dict[str, Any] = {"resources": {"requests": {"cpu": "10m"}}}
    scaling = {"autoscaling": {"minReplicas": 2, "maxReplicas": 3, "cpuPercent": 80}}
    engine.apply(targets=[{"gpuClass": "cpu"}], serving=serving | scaling)
    engine.becomes_ready()
    eventually(lambda: scaled(engine) == (2, 2), 60)  # the autoscaler wrote its least number into the engine
    engine.apply(targets=[{"gpuClass": "cpu"}], serving=serving | scaling)
    assert engine.get()["spec"]["replicas"] == 2, "a manifest without the number leaves the autoscaler's"

    with service_proxy(engine.namespace, engine.name) as proxy, Load(f"127.0.0.1:{proxy.port}", renew=20) as load:
        engine.cluster.kubectl("scale", "ie", engine.name, "--replicas=3", "--namespace", engine.namespace)
        eventually(lambda: scaled(engine) == (3, 3), 40, every=0.5)
        first, second, _ = sorted(name for name in engine.objects("pod") if name.startswith("digits-cpu"))
        eventually(lambda: budget(engine) == 1, 20, every=0.5)
        evict(engine, first)
        with pytest.raises(subprocess.CalledProcessError) as refused:
            evict(engine, second)
        assert "disruption budget" in refused.value.stderr
        eventually(lambda: first not in engine.objects("pod") and scaled(engine) == (3, 3), 60, every=0.5)

        engine.apply(targets=[{"gpuClass": "cpu"}], serving=serving)
        eventually(lambda: engine.objects("hpa") == [], 20, every=0.5)
        engine.cluster.kubectl("scale", "ie", engine.name, "--replicas=1", "--namespace", engine.namespace)
        eventually(lambda: scaled(engine) == (1, 1) and engine.ready(), 40, every=0.5)
        answered = load.answered
        eventually(lambda: load.answered > answered + 50, 20, every=0.5)
    assert load.failed == []
    assert proxy.refused == 0

    engine.apply(targets=[{"gpuClass": "cpu"}], serving=serving, paused=True)
    eventually(lambda: engine.condition("Ready").get("reason") == "Paused", 20, every=0.5)
    engine.cluster.kubectl("scale", "ie", engine.name, "--replicas=0", "--namespace", engine.namespace)
    time.sleep(3)  # longer than a resync
    assert engine.target()["readyReplicas"] == 1, "a paused engine is left as it is"
    engine.apply(targets=[{"gpuClass": "cpu"}], serving=serving)
    eventually(lambda: engine.target().get("reason") == "Idle", 20, every=0.5)
    assert engine.ready()


def test_requests_under_way_scale_the_engine_up_and_down_through_the_custom_metrics_api(
    engine: EngineCase, pod_proxy: str, service_proxy: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    scaling = {"minReplicas": 1, "maxReplicas": 4, "requestsInFlight": 2, "scaleDownAfter": "1s"}
    with MetricsAdapter(engine.cluster, engine.namespace, pod_proxy) as adapter:
        engine.apply(targets=[{"gpuClass": "cpu"}], serving={"autoscaling": scaling})
        engine.becomes_ready()
        eventually(lambda: autoscaler(engine, "ScalingActive").get("reason") == "ValidMetricFound", 60, every=0.5)
        assert scaled(engine) == (1, 1), "nobody asks"

        with service_proxy(engine.namespace, engine.name) as proxy, contextlib.ExitStack() as under_way:
            for _ in range(6):
                client = under_way.enter_context(socket.create_connection(("127.0.0.1", proxy.port)))
                client.sendall(HALF_A_REQUEST)
            eventually(lambda: scaled(engine) == (3, 3), 60, every=0.5)
            time.sleep(5)  # a second and third look of the autoscaler
            assert scaled(engine) == (3, 3), "six of them, two in each pod"
        eventually(lambda: scaled(engine) == (1, 1), 60, every=0.5)
    assert adapter.asked_by == {"system:serviceaccount:kube-system:horizontal-pod-autoscaler"}


def autoscaler(engine: EngineCase, kind: str) -> dict[str, Any]:
    """A condition of the HorizontalPodAutoscaler; an empty mapping where it has none of that type."""
    found = json.loads(
        engine.cluster.kubectl("get", "hpa", engine.name, "--namespace", engine.namespace, "--output=json")
    )
    rows = found.get("status", {}).get("conditions", ())
    return next((row for row in rows if row["type"] == kind), {})


def budget(engine: EngineCase) -> int:
    """How many pods may be moved away at this moment."""
    found: Any = engine.cluster.get("poddisruptionbudget", "digits-cpu", engine.namespace)
    return int(((found or {}).get("status") or {}).get("disruptionsAllowed", 0))
