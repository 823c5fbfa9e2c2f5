"""What stands around an engine's pods: its Service, budgets and autoscaler."""

from enginewright_operator.render import serving, surroundings
from enginewright_runtime.server.metrics import Metrics


def by_kind(manifests):
    return [(each["kind"], each["metadata"]["name"]) for each in manifests]


def scaled(make_engine, **scaling):
    return make_engine(targets=[{"gpuClass": "cpu"}], serving={"autoscaling": {"maxReplicas": 4} | scaling})


def test_there_is_one_service_and_a_budget_for_each_target(make_engine, settings) -> None:
    engine = make_engine(replicas=2, targets=[{"gpuClass": "cpu"}, {"gpuClass": "nvidia-h200"}])
    assert by_kind(surroundings.surroundings(engine, settings)) == [
        ("Service", "resnet50"),
        ("PodDisruptionBudget", "resnet50-cpu"),
        ("PodDisruptionBudget", "resnet50-nvidia-h200"),
    ]


def test_a_single_pod_has_no_budget_unless_a_canary_may_join_it(make_engine, settings) -> None:
    targets = [{"gpuClass": "cpu", "replicas": 1}, {"gpuClass": "nvidia-h200", "replicas": 2}]
    assert ("PodDisruptionBudget", "resnet50-cpu") not in by_kind(
        surroundings.surroundings(make_engine(targets=targets), settings)
    )
    canary = make_engine(targets=targets[:1], rollout={"strategy": "Canary"})
    assert ("PodDisruptionBudget", "resnet50-cpu") in by_kind(surroundings.surroundings(canary, settings))


def test_a_budget_is_of_a_targets_pods_be_they_the_canarys(make_engine, make_class, settings) -> None:
    engine = make_engine()
    (target,) = engine.spec.targets
    budget = surroundings.disruption_budget(engine, target)["spec"]
    assert budget["maxUnavailable"] == 1
    for track in serving.Track:
        pods = serving.deployment(engine, target, "s3://e/p", "0" * 64, make_class(), settings, track=track)
        labels = pods["spec"]["template"]["metadata"]["labels"]
        assert budget["selector"]["matchLabels"].items() <= labels.items()


def test_an_autoscaler_scales_the_engine_itself(make_engine) -> None:
    (scaler,) = surroundings.autoscalers(scaled(make_engine, requestsInFlight=4))
    assert scaler["spec"]["scaleTargetRef"]["kind"] == "InferenceEngine"
    (metric,) = scaler["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "enginewright_requests_in_flight"
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "4"}


def test_the_metric_of_the_autoscaler_is_one_that_the_server_has(make_engine) -> None:
    assert f"# TYPE {surroundings.IN_FLIGHT} gauge" in Metrics().exposition().decode()


def test_both_metrics_may_be_gone_by(make_engine) -> None:
    (scaler,) = surroundings.autoscalers(scaled(make_engine, requestsInFlight=4, cpuPercent=80, scaleDownAfter="90s"))
    assert [metric["type"] for metric in scaler["spec"]["metrics"]] == ["Pods", "Resource"]
    assert scaler["spec"]["behavior"] == {"scaleDown": {"stabilizationWindowSeconds": 90}}


def test_without_autoscaling_there_is_no_autoscaler(make_engine) -> None:
    assert surroundings.autoscalers(make_engine()) == []
