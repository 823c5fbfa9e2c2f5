"""Layers that do nothing go, layers that look like it stay."""

import numpy as np
import pytest

from enginewright_builder.network import layers
from enginewright_builder.passes.no_ops import NoOps

HEAD = '<ir_version: 8, opset_import: ["" : {opset}]> agraph (float[2,3,4] x) => (float[{out}] y) '


def model(body, opset=17, out="2,3,4"):
    """A model of `body` between two layers that stay, so that names of inputs and outputs are not in the way."""
    return HEAD.format(opset=opset, out=out) + "{ a = Relu(x) " + body + " y = Neg(b) }"


@pytest.mark.parametrize(
    ("body", "opset"),
    [
        ("b = Identity(a)", 17),
        ("b = Dropout(a)", 17),
        ("b, mask = Dropout(a)", 13),
        ("b = Dropout<ratio = 0.5>(a)", 7),
        ("b = Cast<to = 1>(a)", 17),
        ("b = CastLike(a, x)", 17),
        ("b = Transpose<perm = [0, 1, 2]>(a)", 17),
        ("s = Constant<value = int64[3] {2, 3, 4}>() b = Reshape(a, s)", 17),
        ("s = Constant<value = int64[3] {0, -1, 4}>() b = Reshape(a, s)", 17),
        ("s = Constant<value = int64[3] {1, 3, 1}>() b = Expand(a, s)", 17),
        ("s = Constant<value = int64[3] {1, 1, 1}>() b = Tile(a, s)", 17),
        ("p = Constant<value = int64[6] {0, 0, 0, 0, 0, 0}>() b = Pad(a, p)", 17),
        ("b = Pad<pads = [0, 0, 0, 0, 0, 0]>(a)", 9),
        ("b = Concat<axis = 1>(a)", 17),
        ("b = AveragePool<kernel_shape = [1]>(a)", 17),
        ("b = MaxPool<kernel_shape = [1], strides = [1], pads = [0, 0]>(a)", 17),
        ("b = Sum(a)", 17),
        ("b = Mean(a)", 17),
        ("b = Max(a)", 17),
        ("b = Slice<starts = [0], ends = [99], axes = [1]>(a)", 9),
        ("s = Constant<value = int64[1] {0}>() e = Constant<value = int64[1] {99}>() b = Slice(a, s, e)", 17),
        ("b = Split<axis = 0>(a)", 11),
        ("z = Constant<value = float {0.0}>() b = Add(z, a)", 17),
        ("z = Constant<value = float {1.0}>() b = Div(a, z)", 17),
    ],
)
def test_a_layer_that_hands_its_input_through_is_removed(network_of, applied, body, opset):
    network = network_of(model(body, opset))
    report = applied(NoOps(), network)
    assert report.changed == 1
    assert layers.count(network) == 2


@pytest.mark.parametrize(
    ("body", "out"),
    [
        ("r = Constant<value = float {0.5}>() t = Constant<value = bool {1}>() b = Dropout<seed = 3>(a, r, t)", None),
        ("b = Cast<to = 11>(a) ", "double"),
        ("b = Transpose<perm = [0, 2, 1]>(a)", "2,4,3"),
        ("p = Constant<value = int64[6] {0, 0, 1, 0, 0, -1}>() b = Pad(a, p)", "2,3,4"),
        ("o = Constant<value = int64[1] {1}>() s = Constant<value = int64[1] {-1}>() "
         "e = Constant<value = int64[1] {-99}>() m = Constant<value = int64[1] {-1}>() "
         "b = Slice(a, s, e, o, m)", "2,3,4"),
        ("z = Constant<value = float[5,1,1,1] {1.0, 1.0, 1.0, 1.0, 1.0}>() b = Mul(a, z)", "5,2,3,4"),
        ("z = Constant<value = float {1.0}>() b = Div(z, a)", "2,3,4"),
        ("z = Constant<value = float {0.0}>() b = Sub(z, a)", "2,3,4"),
    ],
)  # fmt: skip
def test_a_layer_that_only_looks_like_a_no_op_stays(network_of, body, out):
    source = model(body, out=out or "2,3,4")
    network = network_of(source.replace("(float[double] y)", "(double[2,3,4] y)"))
    assert NoOps().apply(network).changed == 0


def test_the_name_of_an_output_survives_its_layer(network_of, applied):
    network = network_of(HEAD.format(opset=17, out="2,3,4") + "{ a = Relu(x) y = Identity(a) }")
    assert applied(NoOps(), network).changed == 1
    assert [value.name for value in network.outputs] == ["y"]
    assert layers.count(network) == 1


def test_a_layer_between_an_input_and_an_output_stays_and_says_so(network_of, applied):
    network = network_of(HEAD.format(opset=17, out="2,3,4") + "{ y = Identity(x) }")
    report = applied(NoOps(), network)
    assert report.declined == ("Identity:y: Identity stays, it names the output 'y'",)


def test_a_dropout_whose_mask_is_read_stays(network_of, applied):
    network = network_of(
        '<ir_version: 8, opset_import: ["" : 13]> agraph (float[2] x) => (float[2] y, bool[2] mask) '
        "{ a = Relu(x) b, mask = Dropout(a) y = Neg(b) }"
    )
    assert applied(NoOps(), network).changed == 0


def test_a_shape_that_is_free_is_not_assumed_to_stay(network_of, applied):
    network = network_of(
        '<ir_version: 8, opset_import: ["" : 17]> agraph (float[N,3] x) => (float[K,3] y) '
        "{ a = Relu(x) s = Constant<value = int64[2] {-1, 3}>() b = Reshape(a, s) y = Neg(b) }"
    )
    assert applied(NoOps(), network).changed == 0


def test_a_value_that_a_body_captures_is_rewired_there(network_of, applied):
    network = network_of(
        '<ir_version: 8, opset_import: ["" : 17]> agraph (float[2] x, bool c) => (float[2] y) '
        "{ a = Relu(x) b = Identity(a) "
        "y = If(c) <then_branch = t () => (float[2] p) { p = Neg(b) }, "
        "else_branch = e () => (float[2] q) { q = Abs(b) }> }"
    )
    assert applied(NoOps(), network).changed == 1
    assert np.all([node.op_type != "Identity" for node in network.layers()])
