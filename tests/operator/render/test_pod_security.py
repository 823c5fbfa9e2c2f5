"""What Kubernetes' restricted Pod Security asks for, of every pod that is rendered."""

import pytest

from enginewright_operator import recipes
from enginewright_operator.render import build_job, serving


@pytest.fixture(params=["build", "serving"])
def pod(request, make_engine, make_class, make_plan, settings):
    engine, gpu_class = make_engine(), make_class()
    plan = make_plan(engine, gpu_class)
    if request.param == "build":
        rendered = build_job.build_job(plan, recipes.build_request(plan), gpu_class, settings)
    else:
        rendered = serving.deployment(engine, engine.spec.targets[0], plan.spec.plan_uri, "0" * 64, gpu_class, settings)
    return rendered["spec"]["template"]["spec"]


def test_a_pod_runs_as_an_unprivileged_user_by_number(pod) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 1000


def test_a_pod_has_the_runtimes_seccomp_profile(pod) -> None:
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_a_container_has_no_capability_and_cannot_get_one(pod) -> None:
    security = pod["containers"][0]["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["allowPrivilegeEscalation"] is False


def test_a_container_writes_into_bounded_volumes_alone(pod) -> None:
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert all("sizeLimit" in volume["emptyDir"] for volume in pod["volumes"])


def test_a_pod_holds_no_token_of_the_cluster(pod) -> None:
    assert pod["automountServiceAccountToken"] is False


def test_a_pod_uses_only_the_kinds_of_volume_that_are_allowed(pod) -> None:
    assert {kind for volume in pod["volumes"] for kind in volume} <= {"name", "emptyDir", "secret", "configMap"}
