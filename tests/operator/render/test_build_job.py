"""What build Jobs look like, as YAML that a person can review."""

import json

import pytest

from enginewright_operator import recipes
from enginewright_operator.errors import ManifestError
from enginewright_operator.render import build_job
from enginewright_operator.settings import Settings
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.request import BuildRequest


@pytest.fixture
def job(make_engine, make_class, make_plan, settings):
    def make(gpu_class=None, **spec):
        gpu_class = gpu_class or make_class()
        plan = make_plan(make_engine(**spec), gpu_class)
        return build_job.build_job(plan, recipes.build_request(plan), gpu_class, settings)

    return make


def container(job):
    return job["spec"]["template"]["spec"]["containers"][0]


def environment(job):
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(job)["env"]}


def test_the_request_travels_in_the_environment(job) -> None:
    request = BuildRequest.from_json(environment(job())["ENGINEWRIGHT_BUILD_REQUEST"])
    assert request.model == "s3://models/resnet50.onnx"


def test_a_dollar_in_a_key_is_not_replaced_by_kubernetes(job) -> None:
    text = environment(job(model={"uri": "s3://models/$(HOME).onnx"}))["ENGINEWRIGHT_BUILD_REQUEST"]
    assert json.loads(text)["model"] == "s3://models/$$(HOME).onnx"


def test_permanent_outcomes_fail_the_job_at_once_and_others_are_tried_again(job) -> None:
    rule = job()["spec"]["podFailurePolicy"]["rules"][0]
    codes = rule["onExitCodes"]["values"]
    assert rule["action"] == "FailJob"
    assert {Outcome.BAD_MODEL, Outcome.GATE_FAILED} <= set(codes)
    assert not {Outcome.DONE, Outcome.INTERNAL, Outcome.STORAGE, Outcome.OUT_OF_MEMORY} & set(codes)


def test_a_pod_that_was_moved_away_is_not_counted_as_a_try(job) -> None:
    rule = job()["spec"]["podFailurePolicy"]["rules"][1]
    assert (rule["action"], rule["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")


def test_a_build_without_enough_memory_is_not_run_again_as_it_was(job) -> None:
    moved, hungry = job()["spec"]["podFailurePolicy"]["rules"][1:]
    assert moved["action"] == "Ignore"  # it comes first: a pod that is moved may end by SIGKILL too
    assert (hungry["action"], hungry["onExitCodes"]["values"]) == ("FailJob", [int(Outcome.OUT_OF_MEMORY), 137])


def test_the_deadline_is_the_manifests(job) -> None:
    assert job(build={"deadline": "1h30m"})["spec"]["activeDeadlineSeconds"] == 5400


def test_credentials_are_references_and_a_session_token_may_be_absent(job) -> None:
    found = environment(job(storage={"uri": "s3://b/p", "credentialsSecret": "keys"}))
    assert found["AWS_ACCESS_KEY_ID"] == {"secretKeyRef": {"name": "keys", "key": "AWS_ACCESS_KEY_ID"}}
    assert found["AWS_SESSION_TOKEN"]["secretKeyRef"]["optional"] is True


def test_without_a_secret_no_credentials_are_named(job) -> None:
    assert not [name for name in environment(job()) if name.startswith("AWS_")]


def test_the_pods_identity_is_the_one_that_storage_names(job) -> None:
    pod = job(storage={"uri": "s3://b/p", "serviceAccountName": "reader"})["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("reader", False)


def test_the_certificates_lie_where_the_request_says(job) -> None:
    rendered = job(storage={"uri": "s3://b/p", "caBundle": {"secret": {"name": "ca", "key": "root.pem"}}})
    request = BuildRequest.from_json(environment(rendered)["ENGINEWRIGHT_BUILD_REQUEST"])
    mount = container(rendered)["volumeMounts"][-1]
    volume = rendered["spec"]["template"]["spec"]["volumes"][-1]
    assert request.storage.ca_bundle == f"{mount['mountPath']}/{volume['secret']['items'][0]['path']}"
    assert volume["secret"]["items"][0]["key"] == "root.pem"


def test_a_job_is_kept_as_long_as_its_plan(job) -> None:
    assert "ttlSecondsAfterFinished" not in job()["spec"]


def test_a_local_file_is_refused_in_a_cluster_with_what_to_do(job) -> None:
    with pytest.raises(ManifestError, match=r"'file:///x\.onnx' is a file of one machine.*enginewright up"):
        job(model={"uri": "file:///x.onnx"})


def test_a_local_file_is_let_through_where_the_operator_says_so(make_engine, make_class, make_plan) -> None:
    plan = make_plan(make_engine(storage={"uri": "file:///store"}), make_class())
    settings = Settings(allow_file_uris=True)
    assert build_job.build_job(plan, recipes.build_request(plan), make_class(), settings)["kind"] == "Job"


def test_rendering_twice_gives_the_same(job) -> None:
    assert json.dumps(job()) == json.dumps(job())


def test_a_queue_is_kueues_label_on_the_job_and_not_on_its_pod(make_engine, make_class, make_plan, settings) -> None:
    gpu_class = make_class()
    plan = make_plan(make_engine(build={"queue": "team-a"}), gpu_class)
    job = build_job.build_job(plan, recipes.build_request(plan), gpu_class, settings)
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert "kueue.x-k8s.io/queue-name" not in job["spec"]["template"]["metadata"]["labels"]


def test_the_builds_own_resources_come_before_the_operators(make_engine, make_class, make_plan, settings) -> None:
    gpu_class = make_class()
    wanted = {"requests": {"memory": "40Gi"}, "limits": {"memory": "48Gi"}}
    plan = make_plan(make_engine(build={"resources": wanted}), gpu_class)
    found = build_job.build_job(plan, recipes.build_request(plan), gpu_class, settings)
    resources = found["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources["requests"] == {"cpu": settings.build_cpu, "memory": "40Gi"}
    assert resources["limits"] == {"memory": "48Gi", "nvidia.com/gpu": "1"}
