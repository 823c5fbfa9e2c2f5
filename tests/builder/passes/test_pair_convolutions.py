"""The branch that changes the width of a residual block becomes further terms of the layer that adds it."""

import numpy as np
import pytest

from enginewright_builder.network import fused
from enginewright_builder.passes.fuse_epilogues import FuseEpilogues
from enginewright_builder.passes.pair_convolutions import PairConvolutions

GENERATOR = np.random.default_rng(17)
HEAD = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[2,4,6,6] x, float[2,3,3,3] t) => (float[2,8,3,3] y) '


def floats(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def constants(**more):
    return {"w": floats(8, 3, 1, 1), "v": floats(8, 4, 1, 1), "k": floats(8), "l": floats(8), **more}


@pytest.mark.parametrize(
    "body",
    [
        "a = Conv(t, w, k) b = Conv<strides = [2, 2]>(x, v, l) s = Add(a, b) y = Relu(s)",
        "b = Conv<strides = [2, 2]>(x, v, l) a = Conv(t, w) s = Add(b, a) y = Relu(s)",
        "b = Conv<strides = [2, 2]>(x, v) a = Conv(t, w) y = Add(b, a)",
    ],
    ids=["expansion first", "branch first", "neither bias nor activation"],
)
def test_both_convolutions_become_one_layer(network_of, applied, body):
    network = network_of(HEAD + "{ " + body + " }", **constants())
    FuseEpilogues().apply(network)
    assert applied(PairConvolutions(), network).changed == 1
    (node,) = network.layers()
    assert fused.pair_of(node) == fused.Pair(strides=(2, 2), pads=(0, 0, 0, 0))
    assert fused.pair_inputs(node)[0].name == "x"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("a = Conv(t, w) b = Conv<strides = [2, 2], pads = [1, 1, 1, 1], kernel_shape = [3, 3]>(x, u) s = Add(a, b) "
         "y = Relu(s)", "both kernels have to be 1x1"),
        ("a = Conv(t, w) b = Conv<strides = [2, 2], group = 2>(x, g) s = Add(a, b) y = Relu(s)",
         "it is grouped or padded"),
        ("a = Conv(t, w) b = Conv<strides = [2, 2]>(x, v) s = Add(a, b) r = Relu(s) y = Add(r, b)",
         "the result between them is read elsewhere"),
    ],
    ids=["kernel", "groups", "readers"],
)  # fmt: skip
def test_a_branch_of_another_form_is_declined(network_of, applied, body, why):
    network = network_of(HEAD + "{ " + body + " }", **constants(u=floats(8, 4, 3, 3), g=floats(8, 2, 1, 1)))
    FuseEpilogues().apply(network)
    report = applied(PairConvolutions(), network)
    assert (report.changed, report.declined) == (
        0,
        (f"Conv:b into Conv:a+Add:s+Relu:{'r' if 'r =' in body else 'y'}: {why}",),
    )


def test_an_ordinary_residual_is_none_of_its_business(network_of, applied):
    network = network_of(
        '<ir_version: 8, opset_import: ["" : 17]> agraph (float[1,4,3,3] x) => (float[1,4,3,3] y) '
        "{ a = Conv(x, w) r = Relu(a) b = Conv(r, w) y = Add(b, r) }",
        w=floats(4, 4, 1, 1),
    )
    FuseEpilogues().apply(network)
    assert applied(PairConvolutions(), network).declined == ()
