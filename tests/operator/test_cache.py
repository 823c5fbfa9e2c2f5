"""The cache is never wrong in order, and whoever is concerned by news has to look."""

from typing import Any

from enginewright_operator.watched import Watched

PUT = list[tuple[str, str, str]]


def seen(name: str = "a", version: int = 1, kind: str = "InferenceEngine", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "n", "uid": f"uid-{name}", "resourceVersion": str(version)}
    metadata |= more.pop("metadata", {})
    spec = {"targets": [{"gpuClass": "cpu"}], "planURI": "s3://p/x"}
    return {"kind": kind, "metadata": metadata, "spec": spec} | more


def world() -> tuple[Watched, PUT]:
    told: PUT = []
    return Watched(lambda *key: told.append(key)), told


def test_an_older_version_never_replaces_a_newer_one() -> None:
    watched, told = world()
    assert watched.saw("InferenceEngine", seen(version=5, status={"a": 2}))
    assert not watched.saw("InferenceEngine", seen(version=4, status={"a": 1}))
    assert not watched.saw("InferenceEngine", seen(version=5))
    found = watched["InferenceEngine"].get("n", "a")
    assert found is not None
    assert found["status"] == {"a": 2}
    assert told == [("InferenceEngine", "n", "a")]


def test_what_is_gone_does_not_come_back_by_a_late_event() -> None:
    watched, _ = world()
    watched.saw("InferenceEngine", seen(version=5))
    watched.saw("InferenceEngine", seen(version=7), gone=True)
    assert not watched.saw("InferenceEngine", seen(version=6))
    assert watched["InferenceEngine"].get("n", "a") is None
    assert watched.saw("InferenceEngine", seen(version=8)), "one of the same name that was made since"


def test_what_a_list_lacked_does_not_come_back_by_an_event_from_before_it() -> None:
    watched, _ = world()
    watched.saw("InferenceEngine", seen(version=5))
    watched.listed("InferenceEngine", set(), 10)
    assert not watched.saw("InferenceEngine", seen(version=7)), "it came and went before the list"
    assert watched["InferenceEngine"].get("n", "a") is None
    assert watched.saw("InferenceEngine", seen(version=11))


def test_a_late_deletion_does_not_take_away_what_was_made_since() -> None:
    watched, _ = world()
    watched.saw("InferenceEngine", seen(version=8))
    assert not watched.saw("InferenceEngine", seen(version=7), gone=True)
    assert watched["InferenceEngine"].get("n", "a") is not None


def test_a_list_drops_what_it_lacks_but_not_what_came_after_it() -> None:
    watched, told = world()
    for name, version in (("gone", 3), ("kept", 4), ("new", 11)):
        watched.saw("InferenceEngine", seen(name, version))
    told.clear()
    assert watched.listed("InferenceEngine", {("n", "kept")}, 10) == 1
    assert [each["metadata"]["name"] for each in watched["InferenceEngine"].list()] == ["kept", "new"]
    assert told == [("InferenceEngine", "n", "gone")]


def test_an_index_follows_the_object() -> None:
    watched, _ = world()
    owner = {"apiVersion": "enginewright.dev/v1alpha1", "kind": "InferenceEngine", "name": "a", "uid": "one"}
    plans = watched["EnginePlan"]
    watched.saw("EnginePlan", seen("p", 1, "EnginePlan", metadata={"ownerReferences": [owner]}))
    assert len(list(plans.list("n", ("owner", "one")))) == 1
    assert list(plans.list("other", ("owner", "one"))) == []
    watched.saw("EnginePlan", seen("p", 2, "EnginePlan", metadata={"ownerReferences": [owner | {"uid": "two"}]}))
    assert list(plans.list("n", ("owner", "one"))) == []
    assert len(list(plans.list("n", ("owner", "two")))) == 1


def test_a_plan_concerns_itself_and_its_owners_and_its_own_report_only_them() -> None:
    watched, told = world()
    owner = {"apiVersion": "enginewright.dev/v1alpha1", "kind": "InferenceEngine", "name": "e", "uid": "one"}
    plan = seen("p", 1, "EnginePlan", metadata={"ownerReferences": [owner]})
    watched.saw("EnginePlan", plan)
    assert told == [("EnginePlan", "n", "p"), ("InferenceEngine", "n", "e")]
    told.clear()
    newer = plan | {"metadata": plan["metadata"] | {"resourceVersion": "2"}}
    watched.saw("EnginePlan", newer, itself=False)
    assert told == [("InferenceEngine", "n", "e")]


def test_a_gpu_class_concerns_the_engines_that_name_it() -> None:
    watched, told = world()
    watched.saw("InferenceEngine", seen("a"))
    told.clear()
    watched.saw("GPUClass", {"metadata": {"name": "l4", "resourceVersion": "2"}, "spec": {}})
    assert told == []
    watched.saw("GPUClass", {"metadata": {"name": "cpu", "resourceVersion": "3"}, "spec": {}})
    assert told == [("InferenceEngine", "n", "a")]


def test_managed_fields_are_not_kept_and_every_reader_has_a_copy() -> None:
    watched, _ = world()
    watched.saw("InferenceEngine", seen(metadata={"managedFields": [{"manager": "kubectl"}]}))
    held = watched["InferenceEngine"]
    first = held.get("n", "a")
    assert first is not None
    assert "managedFields" not in first["metadata"]
    first["spec"] = None
    second = held.get("n", "a")
    assert second is not None
    assert second["spec"] is not None


def test_what_happens_to_a_child_is_told_its_owner_soon_and_what_happens_to_itself_at_once() -> None:
    at_once: PUT = []
    soon: PUT = []
    watched = Watched(lambda *key: at_once.append(key), lambda *key: soon.append(key))
    owner = {"apiVersion": "enginewright.dev/v1alpha1", "kind": "InferenceEngine", "name": "e", "uid": "uid-e"}
    watched.saw("EnginePlan", seen(kind="EnginePlan", metadata={"ownerReferences": [owner]}))
    assert at_once == [("EnginePlan", "n", "a")]
    assert soon == [("InferenceEngine", "n", "e")]


def test_a_slice_that_comes_changes_or_goes_is_told_soon_to_the_engines_whose_class_claims() -> None:
    soon: PUT = []
    watched = Watched(lambda *_: None, lambda *key: soon.append(key))
    for name, resources in (("claims", "DynamicResourceAllocation"), ("asks", "DevicePlugin")):
        watched.saw("InferenceEngine", seen(name, spec={"targets": [{"gpuClass": name}]}))
        gpu_class = seen(name, kind="GPUClass", spec={"kind": "cuda", "resources": resources})
        del gpu_class["metadata"]["namespace"]
        watched.saw("GPUClass", gpu_class)
    for version, gone in ((5, False), (6, False), (7, True)):
        watched.saw("ResourceSlice", seen("node", version, kind="ResourceSlice"), gone=gone)
    assert soon == [("InferenceEngine", "n", "claims")] * 3
    assert watched["ResourceSlice"].changes == 3
