"""explain says what would be built, where, and why, with and without a cluster."""

from enginewright_operator.api import GPUClassSpec, ObjectMeta
from enginewright_operator.gpu import Node
from enginewright_operator.local import cluster, explain
from enginewright_runtime.plan.target import TargetKind

H200 = GPUClassSpec(kind=TargetKind.CUDA, product="H200", product_labels=("NVIDIA-H200",))
LABEL = "nvidia.com/gpu.product"
NAMED = ObjectMeta(name="e")


def node(name: str, product: str) -> Node:
    return Node(name=name, labels={LABEL: product}, allocatable={"nvidia.com/gpu": "8"})


def test_without_a_cluster_the_rule_is_said() -> None:
    said = explain.nodes_in_words(H200, None)
    shared = "nvidia.com/gpu.sharing-strategy not in (time-slicing, mps)"
    assert said == f"nodes where {LABEL} in (NVIDIA-H200), and {shared}, and there is a nvidia.com/gpu to have"


def test_a_class_that_asks_for_nothing_takes_any_node() -> None:
    assert explain.nodes_in_words(GPUClassSpec(kind=TargetKind.CPU), None) == "any node"


def test_with_a_cluster_the_matching_nodes_are_named() -> None:
    nodes = [node("b", "NVIDIA-H200"), node("a", "NVIDIA-H200"), node("c", "NVIDIA-L4")]
    assert explain.nodes_in_words(H200, nodes) == "a, b"


def test_where_none_matches_the_clusters_products_are_listed() -> None:
    said = explain.nodes_in_words(H200, [node("c", "NVIDIA-L4")])
    assert said == "none of the cluster's 1 nodes, which have these GPU products: NVIDIA-L4 (1 node)"


def test_an_unknown_class_is_said_to_be_so_with_those_that_are_known(given) -> None:
    found = given()
    row = explain.unknown(found, found.engine.spec.targets[0])
    assert "only cpu" in row.nodes
    assert row.to_json()["known"] is False


def test_no_kubeconfig_is_no_cluster(tmp_path) -> None:
    seen = cluster.look(NAMED, {"KUBECONFIG": str(tmp_path / "absent")})
    assert (seen.nodes, seen.why_not) == (None, "there is no kubeconfig")


def test_a_kubeconfig_that_is_damaged_is_no_cluster_and_says_why(tmp_path) -> None:
    (tmp_path / "config").write_text("{}")
    assert "cannot be used" in cluster.look(NAMED, {"KUBECONFIG": str(tmp_path / "config")}).why_not


def test_a_cluster_that_does_not_answer_is_no_cluster_and_says_why(tmp_path) -> None:
    (tmp_path / "config").write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: u, user: {}}]\n"
    )
    assert "gave no answer" in cluster.look(NAMED, {"KUBECONFIG": str(tmp_path / "config")}).why_not
