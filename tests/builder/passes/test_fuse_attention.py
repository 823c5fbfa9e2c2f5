"""Attention as it is written out becomes one layer, its transposes views beside it."""

import numpy as np
import pytest

from enginewright_builder.network.network import static_shape
from enginewright_builder.passes.fuse_attention import FuseAttention

HEAD = (
    '<ir_version: 8, opset_import: ["" : {opset}]> agraph (float[2,5,3,8] a, float[2,7,3,8] b, float[2,3,7,4] v, '
    "float[2,1,1,7] mask{more}) => (float[2,3,5,4] y) "
)
HEADS = "q = Transpose<perm = [0, 2, 1, 3]>(a) "
TURNED = "k = Transpose<perm = [0, 2, 3, 1]>(b) "
END = "p = Softmax<axis = {axis}>(m) y = MatMul(p, v)"
SCALE = float(np.float32(8**-0.5))


def network(network_of, body, opset=17, more="", **constants):
    words = body.replace("(", " ").replace(",", " ").replace(")", " ").split()
    values = {"scale": np.float32(SCALE), "root": np.float32(8**0.5), **constants}
    values = {name: array for name, array in values.items() if name in words}
    return network_of(HEAD.format(opset=opset, more=more) + "{ " + body.replace("{axis}", "-1") + " }", **values)


def attention(network):
    (node,) = (node for node in network.layers() if node.op_type == "Attention")
    return node


@pytest.mark.parametrize(
    "scores",
    [
        "s = MatMul(q, k) t = Mul(s, scale) m = Add(t, mask) ",
        "s = MatMul(q, k) t = Div(s, root) m = Add(mask, t) ",
        "r = Mul(q, scale) s = MatMul(r, k) m = Add(s, mask) ",
        "r = Mul(scale, k) s = MatMul(q, r) m = Add(s, mask) ",
    ],
    ids=["product of scores", "quotient of scores", "of queries", "of keys"],
)
def test_masked_attention_is_one_layer(network_of, applied, scores):
    net = network(network_of, HEADS + TURNED + scores + END)
    applied(FuseAttention(), net)
    assert [node.op_type for node in net.layers()] == ["Transpose", "Transpose", "Attention"]
    assert attention(net).attributes["scale"].as_float() == pytest.approx(SCALE)
    assert len(attention(net).inputs) == 4


def test_attention_needs_neither_mask_nor_scale(network_of, applied):
    net = network(network_of, HEADS + TURNED + "m = MatMul(q, k) z = Abs(mask) " + END)
    applied(FuseAttention(), net)
    assert len(attention(net).inputs) == 3


@pytest.mark.parametrize("low", [-1e4, -np.inf, np.finfo(np.float32).min])
def test_a_constant_choice_is_a_mask_too(network_of, applied, low):
    net = network(
        network_of,
        HEADS + TURNED + "s = MatMul(q, k) t = Mul(s, scale) m = Where(shown, t, low) z = Abs(mask) " + END,
        shown=np.tril(np.ones((5, 7), np.bool_)),
        low=np.float32(low),
    )
    applied(FuseAttention(), net)
    assert static_shape(attention(net).inputs[3]) == (1, 1, 5, 7)


def test_a_mask_of_fewer_dimensions_gets_ones_in_front(network_of, applied):
    net = network(network_of, HEADS + TURNED + "s = MatMul(q, k) m = Add(s, few) z = Abs(mask) " + END,
                  more=", float[5,7] few")  # fmt: skip
    applied(FuseAttention(), net)
    assert static_shape(attention(net).inputs[3]) == (1, 1, 5, 7)


def test_a_mask_of_zeros_is_none(network_of, applied):
    body = HEADS + TURNED + "s = MatMul(q, k) m = Add(s, none) z = Abs(mask) " + END
    net = network(network_of, body, none=np.zeros((1, 1, 5, 7), np.float32))
    applied(FuseAttention(), net)
    assert len(attention(net).inputs) == 3


def test_keys_that_are_scaled_before_they_are_turned_are_read_as_they_are(network_of, applied):
    body = HEADS + "h = Transpose<perm = [0, 2, 1, 3]>(b) c = Mul(h, scale) k = Transpose<perm = [0, 1, 3, 2]>(c) "
    net = network(network_of, body + "m = MatMul(q, k) " + END)
    applied(FuseAttention(), net)
    assert [value.name for value in attention(net).inputs] == ["q", "h", "v"]


def test_keys_that_come_turned_are_turned_back(network_of, applied):
    net = network(network_of, HEADS + "m = MatMul(q, k) " + END, more=", float[2,3,8,7] k")
    applied(FuseAttention(), net)
    assert [node.op_type for node in net.layers()].count("Transpose") == 2


@pytest.mark.parametrize(
    ("middle", "why"),
    [
        ("s = MatMul(q, k) t = Tanh(s) m = Mul(t, scale) ", "Tanh stands between its scores and their product"),
        (
            "s = MatMul(q, k) c = Abs(mask) d = Cast<to = 9>(c) m = Where(d, s, scale) ",
            "Where masks its scores with something else than a constant and a very low number",
        ),
        ("s = MatMul(q, k) t = Tanh(s) m = Add(t, mask) ", "what is added to its scores hides the product"),
    ],
)
def test_another_form_is_declined(network_of, applied, middle, why):
    report = applied(FuseAttention(), network(network_of, HEADS + TURNED + middle + END))
    assert report.declined == (f"Softmax:p: {why}",)


def test_scores_that_are_an_output_stay(network_of, applied):
    source = HEAD.replace("=> (", "=> (float[2,3,5,7] s, ").format(opset=17, more="")
    net = network_of(
        source + "{ " + HEADS + TURNED + "s = MatMul(q, k) " + END.format(axis=-1).replace("m)", "s)") + " }"
    )
    assert applied(FuseAttention(), net).changed == 0


def test_a_softmax_that_ends_a_classifier_is_not_mentioned(network_of, applied):
    net = network_of('<ir_version: 8, opset_import: ["" : 17]> agraph (float[2,3] x) => (float[2,3] y) '
                     "{ y = Softmax(x) }")  # fmt: skip
    assert applied(FuseAttention(), net).declined == ()
