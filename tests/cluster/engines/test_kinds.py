"""The kinds on a real API server: every rule refuses what it must with its own message, and explain is a manual."""

import copy
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from controlplane.cluster import ControlPlane

pytestmark = pytest.mark.cluster

API = "enginewright.dev/v1alpha1"
CRDS = Path(__file__).resolve().parents[3] / "crds"


def engine(**spec: Any) -> dict[str, Any]:
    """The smallest InferenceEngine, with fields of its spec replaced."""
    least: dict[str, Any] = {"model": {"uri": "s3://models/m.onnx"}, "targets": [{"gpuClass": "cpu"}]}
    return {"apiVersion": API, "kind": "InferenceEngine", "metadata": {"name": "e"}, "spec": least | spec}


def canary(**rules: Any) -> dict[str, Any]:
    """An engine with these rules for its canaries."""
    return engine(rollout={"strategy": "Canary", "canary": rules})


def autoscaled(**scaling: Any) -> dict[str, Any]:
    """An engine with this autoscaling."""
    return engine(serving={"autoscaling": scaling})


def gpu_class(**spec: Any) -> dict[str, Any]:
    """A GPUClass with this spec."""
    return {"apiVersion": API, "kind": "GPUClass", "metadata": {"name": "refused"}, "spec": spec}


REFUSED = [
    (engine(model={"uri": "http://example.com/m.onnx"}), "model.uri must be s3://bucket/key or file:///path"),
    (engine(model={"uri": "m.onnx"}), "model.uri must be s3://bucket/key or file:///path"),
    (engine(model={"uri": "s3://m/n.caffemodel", "prototxt": "n.prototxt"}), "model.prototxt must be s3://bucket/key"),
    (engine(model={"uri": "s3://m/net.caffemodel"}), "needs model.prototxt"),
    (engine(model={"uri": "s3://m/net", "format": "caffe"}), "needs model.prototxt"),
    (engine(model={"uri": "s3://m/m.onnx", "sha256": "abc"}), "sha256"),
    (engine(model={"uri": "s3://m/m.onnx", "format": "keras"}), "keras"),
    (engine(targets=[]), "targets"),
    (engine(targets=[{"gpuClass": "cpu"}, {"gpuClass": "cpu"}]), "a target only once"),
    (engine(targets=[{"gpuClass": "cpu", "replicas": -1}]), "replicas"),
    (engine(shapes=[{"image": [1, 1, 8, 8]}], batchSizes=[1]), "not both"),
    (engine(batchSizes=[0]), "batchSizes"),
    (engine(precision={"allow": ["int8"]}), "needs calibration.uri"),
    (engine(precision={"allow": ["fp64"]}), "fp64"),
    (engine(calibration={"uri": "data.npz"}), "calibration.uri must be s3://bucket/key or file:///path"),
    (
        engine(gates={"accuracy": {"data": "x.npz", "maxDrop": 0.1}}),
        "gates.accuracy.data must be s3://bucket/key or file:///path",
    ),
    (engine(gates={"accuracy": {"data": "s3://b/x.npz", "maxDrop": 2}}), "maxDrop"),
    (engine(gates={"latency": {"p99": "fast"}}), "p99"),
    (engine(build={"workspace": "a lot"}), "workspace"),
    (engine(rollout={"strategy": "BlueGreen"}), "BlueGreen"),
    (engine(rollout={"maxSurge": -1}), "maxSurge"),
    (engine(rollout={"progressDeadline": "soon"}), "progressDeadline"),
    (engine(rollout={"canary": {}}), "set rollout.strategy to Canary"),
    (canary(steps=[{"setWeight": 20, "pause": {}}]), "has either setWeight or pause"),
    (canary(steps=[{"pause": {}}]), "must begin with a setWeight"),
    (canary(steps=[{"setWeight": 100}]), "setWeight"),
    (engine(rollout={"strategy": "Canary", "maxSurge": 0}), "a canary of one replica is a second pod"),
    (autoscaled(minReplicas=3, maxReplicas=2, requestsInFlight=4), "may not be more than maxReplicas"),
    (autoscaled(maxReplicas=2), "needs something to go by"),
    (autoscaled(maxReplicas=2, cpuPercent=80), "set serving.resources.requests.cpu"),
    (
        engine(
            targets=[{"gpuClass": "cpu", "replicas": 2}],
            serving={"autoscaling": {"maxReplicas": 2, "requestsInFlight": 4}},
        ),
        "give a single target, without replicas of its own",
    ),
    (engine(serving={"route": {"parentRefs": []}}), "parentRefs"),
    (
        engine(
            targets=[{"gpuClass": "cpu"}, {"gpuClass": "nvidia-h200"}],
            serving={"route": {"parentRefs": [{"name": "g"}]}},
            rollout={"strategy": "Canary"},
        ),
        "serving.route has one weight for a canary",
    ),
    (engine(targets=[{"gpuClass": "cpu-canary"}]), "may not end in -canary"),
    (engine(storage={"uri": "plans"}), "storage.uri must be s3://bucket"),
    (engine(storage={"uri": "s3://b", "endpoint": "minio:9000"}), "storage.endpoint must be a URL"),
    (engine(storage={"uri": "s3://b", "caBundle": {}}), "exactly one of the two"),
    (gpu_class(kind="cuda"), "a GPU class of kind cuda needs spec.product"),
    (gpu_class(kind="cpu", product="H200"), "a GPU class of kind cpu needs no GPU"),
    (gpu_class(kind="cuda", product="H200", resources="Plugin"), "Plugin"),
    (
        gpu_class(kind="cuda", product="H200", resources="DynamicResourceAllocation", resource="nvidia.com/gpu"),
        "claims a device of its own",
    ),
    (gpu_class(kind="cuda", product="H200", deviceClassName="gpu.nvidia.com"), "deviceClassName is of claims"),
]


@pytest.fixture
def kinds(operator: str) -> str:
    """The CRDs are there: the chart has brought them."""
    return operator


@pytest.mark.parametrize(("manifest", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_the_api_server_refuses_a_wrong_manifest_and_says_why(
    kinds: str, control_plane: ControlPlane, namespace: str, manifest: dict[str, Any], message: str
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        control_plane.apply(manifest, namespace)
    assert message in refused.value.stderr


def rules(schema: Any) -> Iterator[str]:
    """The messages of all CEL rules in a CRD."""
    if isinstance(schema, dict):
        yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from rules(part)


def test_no_rule_is_without_a_manifest_that_it_refuses() -> None:
    tried = [message for _, message in REFUSED] + ["never changes"]
    messages = {message for path in CRDS.glob("*.yaml") for message in rules(yaml.safe_load(path.read_text()))}
    assert messages
    assert [message for message in messages if not any(part in message for part in tried)] == []


def test_a_typo_in_a_field_is_refused_by_name(kinds: str, control_plane: ControlPlane, namespace: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        control_plane.apply(engine(batchSize=[1]), namespace)
    assert "batchSize" in refused.value.stderr


def test_the_smallest_manifest_is_taken(kinds: str, control_plane: ControlPlane, namespace: str) -> None:
    control_plane.apply(engine(), namespace)


def test_an_engine_plans_spec_never_changes(kinds: str, control_plane: ControlPlane, namespace: str) -> None:
    storage = {"uri": "s3://plans"}
    spec: dict[str, Any] = {"digest": "0" * 64, "gpuClass": "cpu", "recipe": {}, "model": "s3://m/m.onnx"}
    spec |= {"planURI": "s3://plans/p", "storage": storage}
    plan: dict[str, Any] = {"apiVersion": API, "kind": "EnginePlan", "metadata": {"name": "p"}, "spec": spec}
    # Owned by nobody and in no GPU class's reach, it is only looked at.
    control_plane.apply(plan, namespace)
    changed = copy.deepcopy(plan)
    changed["spec"]["digest"] = "1" * 64
    with pytest.raises(subprocess.CalledProcessError) as refused:
        control_plane.apply(changed, namespace)
    assert "never changes" in refused.value.stderr


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("inferenceengine", "served"),
        ("inferenceengine.spec.model.sha256", "its ETag"),
        ("inferenceengine.spec.gates.accuracy", "maxDrop"),
        ("engineplan.status.outcome", "GATE_FAILED"),
        ("gpuclass.spec", "products"),
    ],
)
def test_kubectl_explain_is_a_manual(
    kinds: str, kubectl: Callable[..., str], eventually: Callable[..., Any], path: str, words: str
) -> None:
    eventually(lambda: words in kubectl("explain", path), 20)


def test_get_shows_at_a_glance_what_a_person_wants(
    kinds: str, control_plane: ControlPlane, kubectl: Callable[..., str], namespace: str
) -> None:
    control_plane.apply(engine(), namespace)
    heading = kubectl("get", "ie", "--namespace", namespace).splitlines()[0].split()
    assert heading[0] == "NAME"
    assert {"READY", "TARGETS", "AGE"} <= set(heading)
