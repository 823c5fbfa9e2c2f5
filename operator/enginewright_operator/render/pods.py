"""What build and serving pods have in common: restricted Pod Security, storage, and the GPU class's placement."""

from collections.abc import Mapping, Sequence
from typing import Any

from enginewright_operator import gpu
from enginewright_operator.api import (
    CA_BUNDLE_PATH,
    CREDENTIAL_KEYS,
    SESSION_TOKEN,
    GPUClass,
    GPUClassSpec,
    Resources,
    Storage,
)
from enginewright_operator.errors import ManifestError
from enginewright_operator.settings import Settings

USER = 65532  # the images' own user; a number, so that runAsNonRoot can be checked before the container starts

GPU_CLAIM = "gpu"  # the claim of a pod, to which its container refers

Json = dict[str, Any]

CONTAINER_SECURITY: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "privileged": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
}


def pod_spec(
    container: Json,
    *,
    storage: Storage,
    gpu_class: GPUClass,
    driver: Sequence[gpu.Requirement] = (),
    claim: str = "",
    volumes: Sequence[Json],
    more: Mapping[str, Any],
) -> Json:
    """A Pod's spec around one container, with nothing that restricted Pod Security refuses.

    `driver` is what the plan asks of a node's driver, `claim` the ResourceClaimTemplate of its GPU, where it has one.
    """
    spec = gpu_class.spec
    rendered: Json = {
        **more,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [*volumes, *_ca_volumes(storage)],
    }
    if claim:
        rendered["resourceClaims"] = [{"name": GPU_CLAIM, "resourceClaimTemplateName": claim}]
    if storage.service_account_name:
        rendered["serviceAccountName"] = storage.service_account_name
    if spec.runtime_class_name:
        rendered["runtimeClassName"] = spec.runtime_class_name
    if affinity := node_affinity(spec, driver):
        rendered["affinity"] = affinity
    if spec.tolerations:
        rendered["tolerations"] = [
            each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in spec.tolerations
        ]
    return rendered


def node_affinity(spec: GPUClassSpec, driver: Sequence[gpu.Requirement] = ()) -> Json:
    """The nodes of a class and no others: what `gpu.matches` asks, for the scheduler; and what its plan asks."""
    expressions = [
        {"key": each.label, "operator": each.operator, "values": list(each.values)}
        for each in (*gpu.requirements(spec), *driver)
    ]
    if not expressions:
        return {}
    terms = {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def resources(gpu_class: GPUClass, given: Resources | None, *, requests: Mapping[str, str] | None = None) -> Json:
    """Requests and limits with one of the class's GPU, which the manifest's own amounts cannot take away."""
    wanted: dict[str, int | str] = {**(requests or {}), **((given.requests if given else None) or {})}
    limits: dict[str, int | str] = dict((given.limits if given else None) or {})
    if name := gpu_class.spec.resource_name:
        wanted.pop(name, None)  # for an extended resource the limit is the request
        limits[name] = "1"
    amounts: Json = {kind: each for kind, each in (("requests", wanted), ("limits", limits)) if each}
    return amounts | ({"claims": [{"name": GPU_CLAIM}]} if gpu_class.spec.claims else {})


def require_reachable(storage: Storage, uris: Sequence[str], settings: Settings) -> None:
    """Raise ManifestError where a pod of a cluster would look for a file of some machine."""
    for uri in (storage.uri, *uris):
        if uri.startswith("file://") and not settings.allow_file_uris:
            raise ManifestError(
                f"{uri!r} is a file of one machine, and a pod may run on any: use s3://bucket/key, or try the manifest "
                "on this machine with `enginewright up`."
            )


def credentials(storage: Storage) -> list[Json]:
    """Environment from the engine's Secret, read by the kubelet: the operator never puts a key into a manifest."""
    if not storage.credentials_secret:
        return []
    keys = [(key, False) for key in CREDENTIAL_KEYS] + [(SESSION_TOKEN, True)]
    return [_from_secret(storage.credentials_secret, key, optional=optional) for key, optional in keys]


def tracing(settings: Settings, traceparent: str) -> list[Json]:
    """Where the container's spans go, and which trace they are of, in OpenTelemetry's own variables."""
    if not settings.tracing_endpoint:
        return []
    values = {"OTEL_EXPORTER_OTLP_ENDPOINT": settings.tracing_endpoint, "TRACEPARENT": traceparent}
    return [{"name": name, "value": value} for name, value in values.items() if value]


def ca_mounts(storage: Storage) -> list[Json]:
    """Where the container finds the certificates of the storage's authority."""
    if storage.ca_bundle is None:
        return []
    return [{"name": "ca", "mountPath": CA_BUNDLE_PATH.rpartition("/")[0], "readOnly": True}]


def _ca_volumes(storage: Storage) -> list[Json]:
    bundle = storage.ca_bundle
    if bundle is None:
        return []
    file = CA_BUNDLE_PATH.rpartition("/")[2]
    if bundle.config_map is not None:
        items = [{"key": bundle.config_map.key, "path": file}]
        return [{"name": "ca", "configMap": {"name": bundle.config_map.name, "items": items}}]
    if bundle.secret is not None:
        items = [{"key": bundle.secret.key, "path": file}]
        return [{"name": "ca", "secret": {"secretName": bundle.secret.name, "items": items}}]
    raise ManifestError("storage.caBundle names neither a configMap nor a secret: give exactly one of the two.")


def _from_secret(secret: str, key: str, *, optional: bool) -> Json:
    reference: Json = {"name": secret, "key": key}
    if optional:
        reference["optional"] = True
    return {"name": key, "valueFrom": {"secretKeyRef": reference}}
