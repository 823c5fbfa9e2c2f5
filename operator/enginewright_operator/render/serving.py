"""The Deployment that serves one target's plan, and the Service in front of all targets of an engine.

A new plan is a new argument, so a roll-out: with RollingUpdate an old pod goes only when a new one is ready, which it
is when the plan's golden inputs gave the golden outputs.
"""

import math

from enginewright_operator import gpu
from enginewright_operator.api import (
    CA_BUNDLE_PATH,
    GPUClass,
    InferenceEngine,
    Storage,
    Strategy,
    Target,
    parse_duration,
)
from enginewright_operator.errors import ManifestError
from enginewright_operator.render import claims, names, pods, signing
from enginewright_operator.render.names import Track
from enginewright_operator.render.pods import Json
from enginewright_operator.settings import Settings

CONTAINER = "runtime"
CACHE = "/plans"
PORT_NAME = "http"
GRACE_MARGIN = 10  # seconds to end in, beyond what draining may take


def deployment(
    engine: InferenceEngine,
    target: Target,
    plan_uri: str,
    plan_digest: str,
    gpu_class: GPUClass,
    settings: Settings,
    *,
    storage: Storage | None = None,
    track: Track = Track.STABLE,
    replicas: int | None = None,
    surge: int | None = None,
    traceparent: str = "",
    driver: str = "",
) -> Json:
    """One Deployment of a target. `storage` is the plan's own; by default the engine's, else the operator's.

    `replicas` and `surge` are the target's and the rollout's own unless a canary needs others. `traceparent` is the
    plan's too: it changes with the plan alone, so no trace makes pods roll; `driver` is the branch it was built with.

    Raises ManifestError where there is no storage, or where pods cannot have file:// URIs.
    """
    storage = storage or engine.spec.storage or settings.default_storage
    if storage is None:
        raise ManifestError(
            f"The InferenceEngine {engine.metadata.name!r} names no storage and the operator has none by default: set "
            "spec.storage.uri, or defaultStorage.uri of the chart."
        )
    pods.require_reachable(storage, [plan_uri], settings)
    chosen = selector(engine, target.gpu_class, track)
    labels = names.labels(component="runtime", instance=engine.metadata.name) | chosen
    annotations = {names.DIGEST_ANNOTATION: plan_digest, names.PLAN_URI_ANNOTATION: plan_uri}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": names.deployment_name(engine.metadata.name, target.gpu_class, track),
            "namespace": engine.metadata.namespace or "default",
            "labels": labels,
            "annotations": annotations,
        },
        "spec": {
            "replicas": engine.spec.replicas_on(target) if replicas is None else replicas,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": math.ceil(deadline(engine, settings)),
            "strategy": _strategy(engine, engine.spec.rollout.max_surge if surge is None else surge),
            "selector": {"matchLabels": chosen},
            "template": {
                "metadata": {
                    "labels": labels | {names.DIGEST_LABEL: plan_digest[: names.DIGEST_LABEL_LENGTH]},
                    "annotations": dict(annotations),
                },
                "spec": pods.pod_spec(
                    _container(engine, plan_uri, storage, gpu_class, settings, traceparent),
                    storage=storage,
                    gpu_class=gpu_class,
                    driver=gpu.driver_requirement(gpu_class.spec, driver, building=False),
                    claim=claims.template_name(gpu_class, plan_digest, driver, building=False),
                    volumes=[
                        {"name": "plans", "emptyDir": {"sizeLimit": settings.serving_cache}},
                        *signing.trust_volumes(settings),
                    ],
                    more={
                        "terminationGracePeriodSeconds": math.ceil(settings.drain_delay + settings.drain_timeout)
                        + GRACE_MARGIN,
                        "topologySpreadConstraints": _spread(engine, target),
                    },
                ),
            },
        },
    }


def service(engine: InferenceEngine, settings: Settings, track: Track | None = None) -> Json:
    """One address for the engine, whatever targets serve it; or for the pods of one track alone."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(engine, names.service_name(engine.metadata.name, track)),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(engine, track=track),
            "ports": [
                {
                    "name": PORT_NAME,
                    "port": settings.serving_port,
                    "targetPort": PORT_NAME,
                    "protocol": "TCP",
                    "appProtocol": "http",
                }
            ],
        },
    }


def service_url(engine: InferenceEngine, settings: Settings) -> str:
    """Where the engine answers inside the cluster."""
    namespace = engine.metadata.namespace or "default"
    return f"http://{names.service_name(engine.metadata.name)}.{namespace}.svc:{settings.serving_port}"


def metadata(engine: InferenceEngine, name: str) -> Json:
    """Of something that is the whole engine's."""
    return {
        "name": name,
        "namespace": engine.metadata.namespace or "default",
        "labels": names.labels(component="runtime", instance=engine.metadata.name) | selector(engine),
    }


def selector(engine: InferenceEngine, gpu_class: str = "", track: Track | None = None) -> dict[str, str]:
    """The labels of an engine's pods: of all, of one target's, or of one of its Deployments."""
    chosen = {names.ENGINE_LABEL: names.label(engine.metadata.name)}
    if gpu_class:
        chosen[names.GPU_CLASS_LABEL] = names.label(gpu_class)
    return chosen | ({names.TRACK_LABEL: str(track)} if track else {})


def deadline(engine: InferenceEngine, settings: Settings) -> float:
    """Seconds without progress after which a rollout is given up."""
    given = engine.spec.rollout.progress_deadline
    return max(1.0, parse_duration(given)) if given else float(settings.progress_deadline)


def _spread(engine: InferenceEngine, target: Target) -> list[Json]:
    """Pods of one template over zones and nodes, as evenly as there is room: a lost node takes few of them."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector(engine, target.gpu_class)},
            "matchLabelKeys": ["pod-template-hash"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


def _strategy(engine: InferenceEngine, surge: int) -> Json:
    if engine.spec.rollout.strategy is Strategy.RECREATE:
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0 if surge else 1, "maxSurge": surge}}


def _container(
    engine: InferenceEngine,
    plan_uri: str,
    storage: Storage,
    gpu_class: GPUClass,
    settings: Settings,
    traceparent: str,
) -> Json:
    return {
        "name": CONTAINER,
        "image": settings.runtime_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["enginewright"],
        "args": [
            "serve",
            # Kubernetes replaces $(NAME) in arguments: a key may hold it as it is.
            f"{engine.metadata.name}={plan_uri}".replace("$", "$$"),
            "--http-port",
            str(settings.serving_port),
            "--cache",
            CACHE,
        ],
        "env": [
            # The pod's own address, not 0.0.0.0: it is where the probes and the Service come, and nothing else is.
            {"name": "ENGINEWRIGHT_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "ENGINEWRIGHT_DRAIN_DELAY", "value": f"{settings.drain_delay:g}"},
            {"name": "ENGINEWRIGHT_DRAIN_TIMEOUT", "value": f"{settings.drain_timeout:g}"},
            {"name": "TMPDIR", "value": CACHE},
            {"name": "HOME", "value": CACHE},
            *([{"name": "ENGINEWRIGHT_ALLOW_PLUGINS", "value": "true"}] if settings.allow_plugins else []),
            *signing.trust_environment(settings),
            *pods.tracing(settings, traceparent),
            *_storage_environment(storage),
            *pods.credentials(storage),
        ],
        "ports": [{"name": PORT_NAME, "containerPort": settings.serving_port, "protocol": "TCP"}],
        "startupProbe": _probe("/v2/health/live", periodSeconds=1, failureThreshold=60),
        "livenessProbe": _probe("/v2/health/live", periodSeconds=10, timeoutSeconds=5, failureThreshold=3),
        "readinessProbe": _probe("/v2/health/ready", periodSeconds=2, timeoutSeconds=2, failureThreshold=2),
        "resources": pods.resources(gpu_class, engine.spec.serving.resources),
        "securityContext": dict(pods.CONTAINER_SECURITY),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "plans", "mountPath": CACHE},
            *signing.trust_mounts(settings),
            *pods.ca_mounts(storage),
        ],
    }


def _storage_environment(storage: Storage) -> list[Json]:
    values = {
        "ENDPOINT": storage.endpoint or "",
        "REGION": storage.region or "",
        "PATH_STYLE": "true" if storage.path_style else "",
        "CA_BUNDLE": CA_BUNDLE_PATH if storage.ca_bundle else "",
    }
    return [{"name": f"ENGINEWRIGHT_STORAGE_{name}", "value": value} for name, value in values.items() if value]


def _probe(path: str, **more: int) -> Json:
    return {"httpGet": {"path": path, "port": PORT_NAME}, **more}
