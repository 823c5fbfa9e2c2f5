"""RBAC: every right that the operator has stands here by name, so that none is added unseen."""

import json

import pytest
from charts.chart import NAMESPACE, Object, Render, render, rules

APPLY = {"get", "list", "watch", "create", "patch", "delete"}
READ = {"get", "list", "watch"}
CLUSTER = {"enginewright.dev/gpuclasses": READ, "/nodes": {"list"}, "resource.k8s.io/resourceslices": {"list", "watch"}}
NAMESPACED = {
    "enginewright.dev/inferenceengines": READ,
    "enginewright.dev/inferenceengines/status": {"patch"},
    "enginewright.dev/inferenceengines/finalizers": {"update"},
    "enginewright.dev/engineplans": APPLY,
    "enginewright.dev/engineplans/status": {"patch"},
    "enginewright.dev/engineplans/finalizers": {"update"},
    "batch/jobs": APPLY,
    "apps/deployments": APPLY,
    "/services": APPLY,
    "policy/poddisruptionbudgets": APPLY,
    "autoscaling/horizontalpodautoscalers": APPLY,
    "gateway.networking.k8s.io/httproutes": {"get", "create", "patch", "delete"},
    "resource.k8s.io/resourceclaimtemplates": {"get", "create", "patch"},
    "/pods": {"list"},
    "/pods/log": {"get"},
    "/events": {"create", "list"},
    "/secrets": {"get"},
    "/configmaps": {"get"},
}


def rights(role: Object) -> dict[str, set[str]]:
    """{"group/resource": verbs} of one role."""
    found: dict[str, set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault(f"{group}/{resource}", set()).update(rule["verbs"])
    return found


def test_the_operator_of_a_whole_cluster_has_exactly_these_rights():
    rendered = render()
    assert rights(rendered.one("ClusterRole")) == CLUSTER | NAMESPACED
    assert [each["metadata"]["name"] for each in rendered.all("Role")] == ["ew-enginewright-leader"]


def test_the_operator_of_two_namespaces_has_its_rights_there_and_reads_cluster_scoped_objects():
    rendered = render({"watchNamespaces": ["team-a", "team-b"]})
    assert rights(rendered.one("ClusterRole")) == CLUSTER
    roles = {each["metadata"]["namespace"]: rights(each) for each in rendered.all("Role")}
    leader = roles.pop(NAMESPACE)
    assert roles == {"team-a": NAMESPACED, "team-b": NAMESPACED}
    assert set(leader) == {"coordination.k8s.io/leases"}


def test_with_roles_alone_nothing_is_cluster_scoped_and_the_classes_come_from_the_values():
    values = {"watchNamespaces": ["team-a"], "rbac": {"clusterReader": False}}
    rendered = render(values)
    assert {each["kind"] for each in rendered.objects if "namespace" not in each["metadata"]} == set()
    told = json.loads(rendered.environment()["ENGINEWRIGHT_OPERATOR_GPU_CLASSES"])
    made = {each["metadata"]["name"]: each["spec"] for each in render().all("GPUClass")}
    assert told == made
    assert "ENGINEWRIGHT_OPERATOR_GPU_CLASSES" not in render({"watchNamespaces": ["team-a"]}).environment()


def test_every_role_is_bound_to_the_operators_account_alone():
    rendered = render({"watchNamespaces": ["team-a"]})
    for kind in ("ClusterRole", "Role"):
        roles = {(each["metadata"]["name"], each["metadata"].get("namespace")) for each in rendered.all(kind)}
        bindings = rendered.all(f"{kind}Binding")
        assert {(each["roleRef"]["name"], each["metadata"].get("namespace")) for each in bindings} == roles
        for binding in bindings:
            account = {"kind": "ServiceAccount", "name": "ew-enginewright", "namespace": NAMESPACE}
            assert binding["subjects"] == [account]


@pytest.mark.parametrize("values", [{}, {"watchNamespaces": ["team-a"]}], ids=["cluster", "namespaced"])
def test_no_rule_has_a_wildcard(values):
    for role, rule in rules(render(values)):
        for part in ("apiGroups", "resources", "verbs"):
            assert rule[part], f"{role}: an empty list of {part} grants nothing"
            assert not any("*" in each for each in rule[part]), f"{role}: {rule}"


def test_the_lease_may_be_taken_only_under_the_name_that_the_operator_is_told():
    rendered = render()
    leases = [rule for _, rule in rules(rendered) if rule["resources"] == ["leases"]]
    assert [(rule["verbs"], rule.get("resourceNames")) for rule in leases] == [
        (["create"], None),
        (["get", "update"], ["ew-enginewright"]),
    ]
    assert lease_name(rendered) == "ew-enginewright"


def lease_name(rendered: Render) -> str:
    return rendered.environment()["ENGINEWRIGHT_OPERATOR_LEASE_NAME"]


def test_without_rbac_the_chart_makes_no_role():
    rendered = render({"rbac": {"create": False}})
    for kind in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"):
        assert rendered.all(kind) == []
