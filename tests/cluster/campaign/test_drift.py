"""A class of nodes that becomes another one: said, built anew where there are such nodes, till then left alone."""

from collections.abc import Callable
from typing import Any

import pytest
from campaign.replicas import Replicas

pytestmark = pytest.mark.cluster


def gpu_class(name: str, **spec: str) -> dict[str, Any]:
    metadata = {"name": name}
    return {"apiVersion": "enginewright.dev/v1alpha1", "kind": "GPUClass", "metadata": metadata} | {
        "spec": {"kind": "cpu"} | spec
    }


def test_a_class_that_changed_leaves_the_pods_alone_until_a_node_of_the_new_kind_has_built(
    replicas: Replicas, eventually: Callable[..., Any]
) -> None:
    name = replicas.namespace  # cluster-scoped, so it is to be nobody else's
    replicas.plane.apply(gpu_class(name, architecture="x86_64"))
    replicas.start()
    replicas.apply("engine", gpu_class=name)
    eventually(lambda: replicas.ready("engine"), 60)
    served = replicas.status("engine")["targets"][0]["plan"]
    before = template(replicas)

    replicas.plane.apply(gpu_class(name, architecture="aarch64"))
    told = eventually(lambda: replicas.condition("engine", "Stale", "True"), 30)
    assert "the target's architecture (was x86_64, is aarch64)" in told["message"]
    row = eventually(lambda: [one for one in replicas.status("engine")["targets"] if one["desiredPlan"] != served], 30)[
        0
    ]
    assert row["reason"] == "NoMatchingNode"
    assert row["plan"] == served
    assert template(replicas) == before, "its pods would have been sent to nodes that its plan is not for"

    node = {"kubernetes.io/arch": "arm64"}
    replicas.plane.kubectl("label", "node", "stub-1", "--overwrite", *(f"{key}={value}" for key, value in node.items()))
    try:
        eventually(lambda: replicas.status("engine")["targets"][0]["plan"] == row["desiredPlan"], 90)
        eventually(lambda: replicas.condition("engine", "Stale", "False"), 30)
    finally:
        replicas.plane.kubectl("label", "node", "stub-1", "--overwrite", "kubernetes.io/arch=amd64")
    why = replicas.plane.get("engineplan", row["desiredPlan"], replicas.namespace)
    assert "the target's architecture (was x86_64, is aarch64)" in str(why)


def template(replicas: Replicas) -> Any:
    """What the engine's pods are made from."""
    deployment: Any = replicas.plane.get("deployment", f"engine-{replicas.namespace}", replicas.namespace)
    return deployment["spec"]["template"]
