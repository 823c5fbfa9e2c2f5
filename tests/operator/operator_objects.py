"""Objects of the three kinds for tests, each as small as its CRD allows."""

from typing import Any

from enginewright_operator import api, recipes
from enginewright_operator.gather import EngineInput, TargetInput

NOW = "2026-01-01T00:00:00Z"
IDENTITIES = recipes.Identities(model="version:etag", accuracy_data="version:data")


def engine(status: dict[str, Any] | None = None, **spec: Any) -> api.InferenceEngine:
    """An engine for the class cpu, with fields of its spec replaced."""
    least = {"model": {"uri": "s3://m/m.onnx"}, "targets": [{"gpuClass": "cpu"}], "storage": {"uri": "s3://p"}}
    metadata = {"name": "e", "namespace": "n", "uid": "engine-uid", "generation": 3}
    manifest = {"apiVersion": api.API_VERSION, "kind": "InferenceEngine", "metadata": metadata, "spec": least | spec}
    return api.read(api.InferenceEngine, manifest | ({"status": status} if status else {}))


def gpu_class(name: str = "cpu", **spec: Any) -> api.GPUClass:
    """A class that needs no GPU, unless its spec says otherwise."""
    manifest = {"apiVersion": api.API_VERSION, "kind": "GPUClass", "metadata": {"name": name}}
    return api.read(api.GPUClass, manifest | {"spec": {"kind": "cpu"} | spec})


def plan(*, phase: str = "", message: str = "", owner: str = "engine-uid", **metadata: Any) -> api.EnginePlan:
    """The plan of `engine()`, with a status where a phase is given."""
    made = recipes.engine_plan(
        engine(), api.Storage(uri="s3://p"), gpu_class(), recipes.recipe_for(engine().spec, gpu_class(), IDENTITIES)
    )
    owners = [{"apiVersion": api.API_VERSION, "kind": "InferenceEngine", "name": "e", "uid": owner}]
    manifest = made.to_manifest()
    manifest["metadata"] |= {"uid": "plan-uid", "generation": 1, "ownerReferences": owners} | metadata
    if phase:
        manifest["status"] = {"phase": phase, "message": message}
    return api.read(api.EnginePlan, manifest)


def engine_input(**changes: Any) -> EngineInput:
    """What is gathered of an engine for which everything is as it should be."""
    one = changes.pop("engine", engine())
    target = TargetInput(target=one.spec.targets[0], gpu_class=gpu_class(), deployment=None, row=None)
    usual: dict[str, Any] = {
        "engine": one,
        "storage": one.spec.storage,
        "targets": (target,),
        "plans": {},
        "credential_keys": frozenset(api.CREDENTIAL_KEYS),
        "identities": IDENTITIES,
    }
    return EngineInput(**usual | changes)


def deployment(*, plan: str = "plan-a", wanted: int = 1, generation: int = 1, **status: Any) -> dict[str, Any]:
    """A Deployment that serves a plan."""
    metadata = {"name": "e-cpu", "generation": generation, "annotations": {"enginewright.dev/plan": plan}}
    return {"metadata": metadata, "spec": {"replicas": wanted}, "status": {"observedGeneration": generation} | status}
