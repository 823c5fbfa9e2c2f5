"""Where the API server keeps each kind that this operator reads or writes."""

from collections.abc import Mapping

# kind -> (prefix, plural, namespaced)
RESOURCES: Mapping[str, tuple[str, str, bool]] = {
    "InferenceEngine": ("/apis/enginewright.dev/v1alpha1", "inferenceengines", True),
    "EnginePlan": ("/apis/enginewright.dev/v1alpha1", "engineplans", True),
    "GPUClass": ("/apis/enginewright.dev/v1alpha1", "gpuclasses", False),
    "Job": ("/apis/batch/v1", "jobs", True),
    "Deployment": ("/apis/apps/v1", "deployments", True),
    "Service": ("/api/v1", "services", True),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets", True),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers", True),
    "HTTPRoute": ("/apis/gateway.networking.k8s.io/v1", "httproutes", True),
    "ResourceClaimTemplate": ("/apis/resource.k8s.io/v1", "resourceclaimtemplates", True),
    "ResourceSlice": ("/apis/resource.k8s.io/v1", "resourceslices", False),
    "Pod": ("/api/v1", "pods", True),
    "Secret": ("/api/v1", "secrets", True),
    "ConfigMap": ("/api/v1", "configmaps", True),
    "Event": ("/api/v1", "events", True),
    "Node": ("/api/v1", "nodes", False),
}


def path_of(kind: str, namespace: str = "", name: str = "", *, sub: str = "") -> str:
    """The path of one object, or of a list of them (in every namespace where none is given)."""
    prefix, plural, namespaced = RESOURCES[kind]
    parts = [prefix]
    if namespaced and namespace:
        parts += ["namespaces", namespace]
    return "/".join(part for part in (*parts, plural, name, sub) if part)


def named_by(path: str) -> tuple[str, str, str] | None:
    """Kind, namespace and name of the object at a path; None for a path of a list, or of no kind of ours."""
    for kind, (prefix, plural, namespaced) in RESOURCES.items():
        if not path.startswith(f"{prefix}/"):
            continue
        parts = path.removeprefix(f"{prefix}/").split("/")
        namespace = parts[1] if namespaced and parts[0] == "namespaces" and len(parts) > 2 else ""
        rest = parts[2:] if namespace else parts
        if rest[0] == plural:
            return (kind, namespace, rest[1]) if len(rest) > 1 else None
    return None
