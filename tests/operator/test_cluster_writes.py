"""Writes are the least that is needed: the same again writes nothing, and nobody else's owners are dropped."""

import datetime
from typing import Any

import pytest
from operator_objects import deployment, engine, plan

from enginewright_operator import api
from enginewright_operator.cluster import Cluster
from enginewright_operator.errors import ClusterError, ConflictError, NamespaceTerminatingError, NameTakenError
from enginewright_operator.kube import _answer
from enginewright_operator.paths import path_of
from enginewright_operator.render import names

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class FakeKube:
    """Keeps what was sent; answers with the body."""

    def __init__(self, error: Exception | None = None, *, there: Any = None) -> None:
        self.sent: list[tuple[str, str, Any]] = []
        self.live: Any = None  # what the cache has
        self._there = there  # what the API server has
        self._error = error

    def known(self, kind: str, namespace: str, name: str) -> Any:
        return self.live

    async def metadata(self, kind: str, namespace: str, name: str) -> Any:
        return self._there

    async def send(self, method: str, path: str, body: Any = None, **_: Any) -> Any:
        if method == "GET":
            return self._there
        self.sent.append((method, path, body))
        if self._error:
            raise self._error
        return body


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


def cluster(kube: FakeKube) -> Cluster:
    return Cluster(kube, now=lambda: NOW)  # type: ignore[arg-type]


async def test_a_status_that_says_the_same_is_not_written(kube: FakeKube) -> None:
    one = engine(status={"observedGeneration": 3, "targetsReady": "1/1"})
    assert one.status is not None
    assert not await cluster(kube).patch_status(one, one.status)
    assert kube.sent == []
    assert await cluster(kube).patch_status(one, api.InferenceEngineStatus(observed_generation=4))
    assert [path for _, path, _ in kube.sent] == [
        "/apis/enginewright.dev/v1alpha1/namespaces/n/inferenceengines/e/status"
    ]


async def test_taking_up_a_plan_adds_an_owner_beside_all_others_and_only_to_that_very_plan(kube: FakeKube) -> None:
    await cluster(kube).own(plan(owner="twin-uid", resourceVersion="7"), engine())
    ((_, _, (test, add)),) = kube.sent
    assert (test["op"], test["value"]) == ("test", "plan-uid")
    assert (add["op"], add["path"], add["value"]["uid"]) == ("add", "/metadata/ownerReferences/-", "engine-uid")


async def test_letting_go_of_a_shared_plan_leaves_it_to_the_others(kube: FakeKube) -> None:
    shared = plan()
    owners = (*shared.metadata.owner_references, *plan(owner="twin-uid").metadata.owner_references)
    shared = shared.model_copy(update={"metadata": shared.metadata.model_copy(update={"owner_references": owners})})
    assert not await cluster(kube).release(shared, engine())
    ((method, _, body),) = kube.sent
    assert method == "PATCH"
    assert [owner["uid"] for owner in body["metadata"]["ownerReferences"]] == ["twin-uid"]


async def test_letting_go_of_a_plan_as_the_last_owner_deletes_just_what_was_read(kube: FakeKube) -> None:
    assert await cluster(kube).release(plan(resourceVersion="7"), engine())
    ((method, _, body),) = kube.sent
    assert method == "DELETE"
    assert body["preconditions"] == {"uid": "plan-uid", "resourceVersion": "7"}


async def test_a_child_is_owned_by_its_engine(kube: FakeKube) -> None:
    child = deployment() | {"kind": "Deployment"}
    await cluster(kube).apply(child, engine(), annotations={"a": "b"})
    ((_, _, body),) = kube.sent
    assert body["metadata"]["ownerReferences"][0]["controller"] is True
    assert body["metadata"]["annotations"]["a"] == "b"


def as_applied(body: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """What the API server makes of an apply: a uid, a generation, and defaults."""
    return body | {"metadata": body["metadata"] | {"uid": "d", "generation": 1}, "spec": body["spec"] | spec}


async def test_a_child_that_is_what_it_should_be_is_not_applied_again(kube: FakeKube) -> None:
    writer, child = cluster(kube), deployment() | {"kind": "Deployment"}
    await writer.apply(child, engine(), annotations={})
    kube.live = as_applied(kube.sent[0][2], paused=False)
    await cluster(kube).apply(child, engine(), annotations={})
    assert len(kube.sent) == 1


async def test_a_child_is_created_and_so_takes_nothing_from_another_that_bears_its_name() -> None:
    child = deployment() | {"kind": "Deployment"}
    kube = FakeKube(ConflictError("there"), there=deployment())
    with pytest.raises(NameTakenError, match="not of the InferenceEngine e: delete it"):
        await cluster(kube).apply(child, engine(), annotations={})
    assert [method for method, _, _ in kube.sent] == ["POST"]


@pytest.mark.parametrize("there", [{"metadata": {"ownerReferences": [{"uid": "engine-uid"}]}}, None])
async def test_a_child_that_the_cache_did_not_know_of_yet_is_read_again(there: Any) -> None:
    kube = FakeKube(ConflictError("there"), there=there)
    with pytest.raises(ConflictError):
        await cluster(kube).apply(deployment() | {"kind": "Deployment"}, engine(), annotations={})


@pytest.mark.parametrize(("operation", "patches"), [("Update", 2), ("Apply", 1)])
async def test_what_was_created_is_owned_by_apply_before_it_is_first_applied(operation: str, patches: int) -> None:
    rows = [
        {"manager": names.MANAGER, "operation": operation, "fieldsV1": {"f:spec": {}}},
        {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status"},
    ]
    kube = FakeKube(there={"metadata": {"managedFields": rows, "resourceVersion": "7"}})
    kube.live = deployment()
    await cluster(kube).apply(deployment() | {"kind": "Deployment"}, engine(), annotations={})
    assert len(kube.sent) == patches
    if patches == 2:
        owned = kube.sent[0][2]["metadata"]
        assert owned["resourceVersion"] == "7"
        assert owned["managedFields"] == [rows[0] | {"operation": "Apply"}, rows[1]]


@pytest.mark.parametrize("change", [{"replicas": 5}, {"template": None}])
async def test_a_child_that_somebody_changed_is_applied_again(kube: FakeKube, change: dict[str, Any]) -> None:
    child = deployment() | {"kind": "Deployment", "spec": {"replicas": 1, "template": {"a": [1, 2]}}}
    await cluster(kube).apply(child, engine(), annotations={})
    kube.live = as_applied(kube.sent[0][2], **change)
    await cluster(kube).apply(child, engine(), annotations={})
    assert len(kube.sent) == 2


async def test_a_field_that_is_wanted_no_more_is_taken_away_by_another_apply(kube: FakeKube) -> None:
    child = deployment() | {"kind": "Deployment", "spec": {"replicas": 1, "minReadySeconds": 3}}
    await cluster(kube).apply(child, engine(), annotations={})
    kube.live = as_applied(kube.sent[0][2])
    await cluster(kube).apply(child | {"spec": {"replicas": 1}}, engine(), annotations={})
    assert len(kube.sent) == 2


async def test_a_plan_that_somebody_else_created_is_told_from_a_refusal() -> None:
    assert await cluster(FakeKube(ConflictError("there"))).create_plan(plan(), engine()) is None
    with pytest.raises(ClusterError):
        await cluster(FakeKube(ClusterError("refused"))).create_plan(plan(), engine())


def test_paths_are_kubernetes_own() -> None:
    assert path_of("Pod", "n", "p") == "/api/v1/namespaces/n/pods/p"
    assert path_of("GPUClass", "", "cpu") == "/apis/enginewright.dev/v1alpha1/gpuclasses/cpu"
    assert path_of("Deployment") == "/apis/apps/v1/deployments"


def test_an_answer_becomes_an_object_nothing_or_one_sentence() -> None:
    assert _answer("GET", "/x", 200, b'{"a": 1}', False) == {"a": 1}
    assert _answer("GET", "/x", 404, b"", True) is None
    with pytest.raises(ClusterError, match=r"refused GET /x with status 422: spec is wrong\."):
        _answer("GET", "/x", 422, b'{"message": "spec is wrong"}', False)
    with pytest.raises(ConflictError):
        _answer("PATCH", "/x", 409, b"", False)
    with pytest.raises(NamespaceTerminatingError):
        _answer("POST", "/x", 403, b'{"message": "unable to create: it is being terminated"}', False)
