"""The Job that builds one plan, on a node of exactly the plan's GPU class.

It is told everything by its environment and tells everything by its exit code and termination message: it has no
access to the cluster's API. It is kept until its plan goes, because the operator reads the result from its pod.
"""

import math
from collections.abc import Sequence

from enginewright_operator import gpu
from enginewright_operator.api import EnginePlan, GPUClass, parse_duration
from enginewright_operator.render import claims, names, pods, signing
from enginewright_operator.render.pods import Json
from enginewright_operator.settings import Settings
from enginewright_runtime.plan.outcome import PERMANENT, Outcome
from enginewright_runtime.plan.request import REQUEST_VARIABLE, TERMINATION_VARIABLE, BuildRequest

CONTAINER = "build"
SCRATCH = "/scratch"
TERMINATION_LOG = "/dev/termination-log"
KILLED = 137  # by SIGKILL, as the kernel does where memory is short


def build_job(plan: EnginePlan, request: BuildRequest, gpu_class: GPUClass, settings: Settings) -> Json:
    """The Job, of the plan's own name. Raises ManifestError for file:// URIs where pods cannot have them."""
    storage, driver = plan.spec.storage, request.recipe.target.driver
    one_each = (request.model, request.companion, request.calibration, request.accuracy_data)
    inputs = [uri for uri in (*one_each, *request.plugins) if uri]
    pods.require_reachable(storage, inputs, settings)
    labels = names.labels(component="build", instance=plan.metadata.name) | {
        names.PLAN: names.label(plan.metadata.name),
        names.GPU_CLASS_LABEL: names.label(gpu_class.metadata.name),
    }
    queued = {names.QUEUE_LABEL: plan.spec.queue} if plan.spec.queue else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": plan.metadata.name,
            "namespace": plan.metadata.namespace or "default",
            "labels": labels | queued,
            "annotations": {names.DIGEST_ANNOTATION: plan.spec.digest, names.PLAN_URI_ANNOTATION: plan.spec.plan_uri},
        },
        "spec": {
            "backoffLimit": settings.build_retries,
            "activeDeadlineSeconds": max(1, math.ceil(parse_duration(plan.spec.deadline))),
            "podFailurePolicy": _failure_policy(),
            "template": {
                "metadata": {
                    "labels": dict(labels),
                    # An autoscaler that empties nodes would throw away minutes of timing.
                    "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
                },
                "spec": pods.pod_spec(
                    _container(plan, request, gpu_class, settings),
                    storage=storage,
                    gpu_class=gpu_class,
                    driver=gpu.driver_requirement(gpu_class.spec, driver, building=True),
                    claim=claims.template_name(gpu_class, plan.spec.digest, driver, building=True),
                    volumes=[
                        {"name": "scratch", "emptyDir": {"sizeLimit": settings.build_scratch}},
                        *signing.key_volumes(settings),
                    ],
                    more={"restartPolicy": "Never"},
                ),
            },
        },
    }


def _container(plan: EnginePlan, request: BuildRequest, gpu_class: GPUClass, settings: Settings) -> Json:
    storage = plan.spec.storage
    return {
        "name": CONTAINER,
        "image": settings.builder_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["enginewright"],
        "args": ["build", "--request-from-environment"],
        "env": [
            {"name": REQUEST_VARIABLE, "value": _literal(request.to_json())},
            {"name": TERMINATION_VARIABLE, "value": TERMINATION_LOG},
            {"name": "TMPDIR", "value": SCRATCH},
            {"name": "HOME", "value": SCRATCH},
            *signing.key_environment(settings),
            *pods.tracing(settings, plan.metadata.annotations.get(names.TRACEPARENT, "")),
            *pods.credentials(storage),
        ],
        "resources": pods.resources(
            gpu_class, plan.spec.resources, requests={"cpu": settings.build_cpu, "memory": settings.build_memory}
        ),
        "securityContext": dict(pods.CONTAINER_SECURITY),
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "scratch", "mountPath": SCRATCH},
            *signing.key_mounts(settings),
            *pods.ca_mounts(storage),
        ],
    }


def _failure_policy() -> Json:
    """A permanent outcome fails the Job at once; a pod that was moved away does not count as a try.

    A build without enough memory fails its Job too, since the Job would only ask for as much again: the operator makes
    one that asks for less.
    """
    moved = [{"type": "DisruptionTarget", "status": "True"}]
    return {
        "rules": [
            _fail_at_once([int(outcome) for outcome in PERMANENT]),
            {"action": "Ignore", "onPodConditions": moved},  # before what is said of SIGKILL: that ends such pods too
            _fail_at_once([int(Outcome.OUT_OF_MEMORY), KILLED]),
        ]
    }


def _fail_at_once(codes: Sequence[int]) -> Json:
    listed = {"containerName": CONTAINER, "operator": "In", "values": sorted(codes)}
    return {"action": "FailJob", "onExitCodes": listed}


def _literal(text: str) -> str:
    """Kubernetes replaces $(NAME) in an environment value: a key or a layer's name may hold it as it is."""
    return text.replace("$", "$$")
