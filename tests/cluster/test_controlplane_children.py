"""What the operator makes of a child on the real API server: whose its fields are, and whom it leaves alone."""

import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from controlplane.cluster import ControlPlane
from kubernetes.aio import config

from enginewright_operator import api
from enginewright_operator.cached_kube import CachedKube
from enginewright_operator.cluster import Cluster
from enginewright_operator.errors import NameTakenError
from enginewright_operator.render import names
from enginewright_operator.watched import Watched

pytestmark = pytest.mark.cluster

OWNER = {
    "apiVersion": api.API_VERSION,
    "kind": "InferenceEngine",
    "metadata": {"name": "e"},
    "spec": {"model": {"uri": "s3://b/m.onnx"}, "targets": [{"gpuClass": "cpu"}], "paused": True},
}


@asynccontextmanager
async def writing(control_plane: ControlPlane, namespace: str) -> AsyncIterator[tuple[Cluster, api.InferenceEngine]]:
    """A writer whose cache knows of nothing yet, and an engine of the namespace."""
    control_plane.apply(OWNER, namespace)
    owner = api.read(api.InferenceEngine, control_plane.get("inferenceengine", "e", namespace) or {})
    watched = Watched(lambda *_: None)
    watched.listed("Service", (), 0)
    async with await config.new_client_from_config(str(control_plane.kubeconfig), persist_config=False) as connection:
        yield Cluster(CachedKube(connection, watched), now=lambda: datetime.datetime.now(datetime.UTC)), owner


def service(**labels: str) -> dict[str, Any]:
    metadata = {"name": "s", "labels": {names.MANAGED_BY_LABEL: names.MANAGER} | labels}
    spec = {"selector": {"app": "a"}, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


async def test_a_field_that_a_created_child_wants_no_more_goes_and_those_of_others_stay(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with writing(control_plane, namespace) as (writer, owner):
        await writer.apply(service(first="1", second="2"), owner, annotations={})
        control_plane.kubectl("label", "service", "s", "theirs=3", "--namespace", namespace)
        await writer.apply(service(first="1"), owner, annotations={})
        child: Any = control_plane.get("service", "s", namespace)
        assert child["metadata"]["labels"].keys() == {names.MANAGED_BY_LABEL, "first", "theirs"}
        ours = [row for row in child["metadata"]["managedFields"] if row["manager"] == names.MANAGER]
        assert [row["operation"] for row in ours] == ["Apply"]
        await writer.apply(service(), owner, annotations={})
        child = control_plane.get("service", "s", namespace)
        assert child["metadata"]["labels"].keys() == {names.MANAGED_BY_LABEL, "theirs"}


async def test_an_object_of_somebody_else_that_bears_a_childs_name_is_left_alone(
    control_plane: ControlPlane, namespace: str
) -> None:
    theirs = {"ports": [{"port": 81}]}
    control_plane.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": theirs}, namespace)
    before = control_plane.get("service", "s", namespace)
    async with writing(control_plane, namespace) as (writer, owner):
        with pytest.raises(NameTakenError, match="The Service s is in the namespace"):
            await writer.apply(service(), owner, annotations={})
    assert control_plane.get("service", "s", namespace) == before
