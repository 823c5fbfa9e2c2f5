"""What serving pods and their Service look like, as YAML that a person can review."""

import pytest

from enginewright_operator.errors import ManifestError
from enginewright_operator.render import names, serving
from enginewright_operator.settings import Settings

URI = "s3://engines/team/plans/vision/" + "ab" * 32 + "/engine.plan"


@pytest.fixture
def deployment(make_engine, make_class, settings):
    def make(uri=URI, digest="ab" * 32, engine_settings=None, **spec):
        engine = make_engine(**spec)
        return serving.deployment(
            engine, engine.spec.targets[0], uri, digest, make_class(), engine_settings or settings
        )

    return make


def pod(deployment):
    return deployment["spec"]["template"]["spec"]


def test_the_server_is_told_the_engines_name_and_the_plans_uri(deployment) -> None:
    assert pod(deployment())["containers"][0]["args"][:2] == ["serve", f"resnet50={URI}"]


def test_the_server_binds_the_pods_own_address(deployment) -> None:
    host = pod(deployment())["containers"][0]["env"][0]
    assert host == {"name": "ENGINEWRIGHT_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


def test_a_new_plan_changes_the_pod_but_not_what_selects_it(deployment) -> None:
    old, new = deployment(), deployment(uri=URI.replace("ab", "cd"), digest="cd" * 32)
    assert old["spec"]["template"] != new["spec"]["template"]
    assert old["spec"]["selector"] == new["spec"]["selector"]


def test_the_selector_selects_the_pods(deployment) -> None:
    spec = deployment()["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def test_the_service_reaches_the_pods_of_every_target(make_engine, deployment, settings) -> None:
    selector = serving.service(make_engine(), settings)["spec"]["selector"]
    assert selector.items() <= deployment()["spec"]["template"]["metadata"]["labels"].items()
    assert names.GPU_CLASS_LABEL not in selector


def test_a_rolling_update_never_has_fewer_pods_than_are_wanted(deployment) -> None:
    assert deployment()["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_recreate_is_for_those_without_a_spare_gpu(deployment) -> None:
    assert deployment(rollout={"strategy": "Recreate"})["spec"]["strategy"] == {"type": "Recreate"}


def test_a_pod_is_given_longer_to_end_than_draining_takes(deployment) -> None:
    slow = Settings(drain_delay=20, drain_timeout=100)
    assert pod(deployment(engine_settings=slow))["terminationGracePeriodSeconds"] > 120


def test_the_gpu_is_added_and_the_manifests_own_amounts_stay(deployment) -> None:
    given = {"resources": {"requests": {"cpu": 2}, "limits": {"memory": "4Gi"}}}
    resources = pod(deployment(serving=given))["containers"][0]["resources"]
    assert resources == {"requests": {"cpu": 2}, "limits": {"memory": "4Gi", "nvidia.com/gpu": "1"}}


def test_a_manifest_cannot_ask_for_no_gpu_on_a_gpu_class(deployment) -> None:
    given = {"resources": {"limits": {"nvidia.com/gpu": 0}, "requests": {"nvidia.com/gpu": 0}}}
    resources = pod(deployment(serving=given))["containers"][0]["resources"]
    assert resources == {"limits": {"nvidia.com/gpu": "1"}}


def test_only_nodes_with_the_whole_label_will_do(deployment) -> None:
    affinity = pod(deployment())["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert affinity["nodeSelectorTerms"] == [
        {
            "matchExpressions": [
                {"key": "nvidia.com/gpu.compute.major", "operator": "In", "values": ["9"]},
                {"key": "nvidia.com/gpu.compute.minor", "operator": "In", "values": ["0"]},
                {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-H200"]},
                {"key": "nvidia.com/gpu.sharing-strategy", "operator": "NotIn", "values": ["time-slicing", "mps"]},
            ]
        }
    ]


def test_tolerations_and_runtime_class_are_the_gpu_classs(make_engine, make_class, settings) -> None:
    gpu_class = make_class(
        kind="cuda",
        product="H200",
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        runtimeClassName="nvidia",
    )
    engine = make_engine()
    found = pod(serving.deployment(engine, engine.spec.targets[0], URI, "ab" * 32, gpu_class, settings))
    assert found["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert found["runtimeClassName"] == "nvidia"


def test_an_engine_without_storage_is_refused_with_what_to_set(make_engine, make_class, settings) -> None:
    engine = make_engine()
    engine = engine.model_copy(update={"spec": engine.spec.model_copy(update={"storage": None})})
    with pytest.raises(ManifestError, match=r"'resnet50' names no storage.*spec\.storage\.uri"):
        serving.deployment(engine, engine.spec.targets[0], URI, "ab" * 32, make_class(), settings)


def test_a_certificate_bundle_that_names_nothing_is_refused(deployment) -> None:
    with pytest.raises(ManifestError, match="exactly one of the two"):
        deployment(storage={"uri": "s3://b/p", "caBundle": {}})


@pytest.mark.parametrize("name", ["9lives", "a.b", "x" * 80])
def test_a_name_that_no_service_may_have_is_made_into_one(name) -> None:
    made = names.service_name(name)
    assert len(made) <= 63
    assert made.startswith("engine-")
    assert "." not in made


def test_long_names_give_different_labels() -> None:
    one, other = names.label("x" * 70 + "1"), names.label("x" * 70 + "2")
    assert one != other
    assert len(one) <= 63


def test_pods_run_a_plans_python_only_where_the_operator_allows_it(deployment) -> None:
    allowed = {"name": "ENGINEWRIGHT_ALLOW_PLUGINS", "value": "true"}
    assert allowed not in pod(deployment())["containers"][0]["env"]
    assert allowed in pod(deployment(engine_settings=Settings(allow_plugins=True)))["containers"][0]["env"]


def test_pods_are_spread_over_zones_and_nodes_where_there_is_room(deployment) -> None:
    spread = pod(deployment())["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert {each["whenUnsatisfiable"] for each in spread} == {"ScheduleAnyway"}


def test_without_a_surge_an_old_pod_goes_before_its_new_one_comes(deployment) -> None:
    assert deployment(rollout={"maxSurge": 0})["spec"]["strategy"]["rollingUpdate"] == {
        "maxUnavailable": 1,
        "maxSurge": 0,
    }


def test_a_targets_own_replicas_go_before_the_engines(deployment) -> None:
    assert deployment()["spec"]["replicas"] == 2
    assert deployment(replicas=5)["spec"]["replicas"] == 2
    assert deployment(replicas=5, targets=[{"gpuClass": "nvidia-h200"}])["spec"]["replicas"] == 5


def test_a_canary_has_a_deployment_and_pods_of_its_own_behind_the_same_service(
    make_engine, make_class, settings
) -> None:
    engine = make_engine()
    (target,) = engine.spec.targets
    stable, canary = (
        serving.deployment(engine, target, URI, "ab" * 32, make_class(), settings, track=track)
        for track in serving.Track
    )
    assert canary["metadata"]["name"] == stable["metadata"]["name"] + "-canary"
    labels = canary["spec"]["template"]["metadata"]["labels"]
    assert not stable["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert serving.service(engine, settings)["spec"]["selector"].items() <= labels.items()
