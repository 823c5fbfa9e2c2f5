"""Small layers become one cluster, without doing any work twice."""

import numpy as np
import pytest

from enginewright_builder.passes.clusters import Clusters

HEAD = '<ir_version: 8, opset_import: ["" : {opset}]> agraph (float[2,3,8] x, float[2,3,8] z{more}) => ({outputs}) '
CONSTANTS = {
    "g": np.linspace(0.5, 2, 8, dtype=np.float32), "h": np.float32(3), "s": np.array([6, 8]), "axis": np.array([-1]),
    "t": np.array([2, 3, 8]), "w": np.eye(8, dtype=np.float32),
    "i": np.array([1, 0, 1]),
}  # fmt: skip


def network(network_of, body, outputs="float[2,3,8] y", opset=17, more=""):
    words = body.replace("(", " ").replace(",", " ").replace(")", " ").split()
    constants = {name: array for name, array in CONSTANTS.items() if name in words}
    return network_of(HEAD.format(outputs=outputs, opset=opset, more=more) + "{ " + body + " }", **constants)


def kinds(net):
    return [node.op_type for node in net.layers()]


@pytest.mark.parametrize(
    "body",
    [
        "a = Relu(x) b = Mul(a, g) y = Add(b, z)",
        "a = Exp(x) b = Tanh(z) c = Add(a, b) d = Sub(c, h) y = Abs(d)",
        "a = Relu(x) b = Softmax(a) y = Mul(b, z)",
        "a = Add(x, z) b = LayerNormalization(a, g) y = Sigmoid(b)",
        "a = Relu(x) b = Reshape(a, s) c = Reshape(b, t) y = Add(c, z)",
    ],
    ids=["chain", "tree", "softmax", "norm", "moves between"],
)
def test_a_group_is_one_layer(network_of, applied, body):
    net = network(network_of, body)
    report = applied(Clusters(), net)
    assert (kinds(net), report.changed) == (["Cluster"], 1)


def test_rows_are_gathered_where_they_are_read(network_of, applied):
    net = network_of(
        '<ir_version: 8, opset_import: ["" : 17]> agraph (int64[2,3] x, float[2,3,8] z) => (float[2,3,8] y) '
        "{ a = Gather(table, x) b = Add(a, z) y = LayerNormalization(b, g) }",
        g=CONSTANTS["g"],
        table=np.arange(32, dtype=np.float32).reshape(4, 8),
    )
    applied(Clusters(), net)
    assert kinds(net) == ["Cluster"]


def test_what_rows_are_gathered_from_is_computed_before(network_of, applied):
    net = network(network_of, "a = Exp(x) b = Gather(a, i) c = Relu(b) y = Neg(c)", "float[3,3,8] y")
    applied(Clusters(), net)
    assert kinds(net) == ["Exp", "Cluster"]


def test_what_is_read_outside_ends_a_cluster(network_of, applied):
    net = network(network_of, "a = Relu(x) b = Mul(a, g) c = MatMul(b, w) d = Neg(b) y = Add(c, d)")
    applied(Clusters(), net)
    assert kinds(net) == ["Cluster", "MatMul", "Cluster"]


def test_an_output_in_the_middle_stays_an_output(network_of, applied):
    net = network(network_of, "a = Relu(x) b = Mul(a, g) y = Neg(b)", "float[2,3,8] y, float[2,3,8] b")
    applied(Clusters(), net)
    assert kinds(net) == ["Cluster", "Neg"]


def test_a_layer_alone_is_no_cluster(network_of, applied):
    net = network(network_of, "a = MatMul(x, w) b = Relu(a) c = Reshape(b, s) d = Reshape(c, t) y = MatMul(d, w)")
    assert applied(Clusters(), net).changed == 0


def test_moves_at_an_input_stay_views(network_of, applied):
    net = network(network_of, "a = MatMul(x, w) b = Reshape(a, s) c = Relu(b) d = Neg(c) y = Reshape(d, t)")
    applied(Clusters(), net)
    assert kinds(net) == ["MatMul", "Reshape", "Cluster", "Reshape"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("a = Softmax(x) b = Mul(a, g) y = Softmax(b)",
         "Softmax:a into Softmax:y: a cluster has one reduction at most"),
        ("a = ReduceMean(x, axis) b = Sub(z, a) y = Abs(b)",
         "ReduceMean:a into Abs:y: its result is spread out, and would be reduced again for every element"),
        ("a = Erf(x) b = Softmax(a) y = Mul(b, z)",
         "Erf:a into Mul:y: it would be computed more than once for each element that the reduction reads"),
    ],
    ids=["two reductions", "a mean for many", "dear work"],
)  # fmt: skip
def test_what_would_be_done_again_is_declined(network_of, applied, body, why):
    report = applied(Clusters(), network(network_of, body, opset=18))
    assert why in report.declined


def test_a_cluster_holds_only_so_much(network_of, applied):
    body = (
        "".join(f"v{i} = {'Neg' if i % 2 else 'Abs'}({f'v{i - 1}' if i else 'x'}) " for i in range(12))
        + "y = Relu(v11)"
    )
    net = network(network_of, body)
    applied(Clusters(most=5), net)
    assert kinds(net) == ["Cluster"] * 3


def test_equal_clusters_have_equal_bodies(network_of):
    body = "a = Relu(x) b = Mul(a, g) c = Relu(z) d = Mul(c, g) y = Concat<axis = 0>(b, d)"
    net = network(network_of, body, "float[4,3,8] y")
    Clusters().apply(net)
    bodies = {str(node.attributes["body"].as_graph()) for node in net.layers() if node.op_type == "Cluster"}
    assert len(bodies) == 1


def test_what_a_body_captures_ends_a_cluster(network_of, applied):
    net = network(
        network_of,
        "a = Relu(x) b = Neg(a) c = If(cond) <then_branch = g () => (float[2,3,8] p) { p = Neg(a) }, "
        "else_branch = e () => (float[2,3,8] q) { q = Abs(a) }> y = Add(b, c)",
        more=", bool cond",
    )
    applied(Clusters(), net)
    assert "Relu" in kinds(net)
