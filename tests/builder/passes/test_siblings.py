"""Layers that read one input the same way become one wider layer."""

import numpy as np
import pytest

from enginewright_builder.passes.fuse_epilogues import FuseEpilogues
from enginewright_builder.passes.siblings import WidenSiblings

GENERATOR = np.random.default_rng(13)
OUTPUTS = "float[n,m,o,p] y, float[n,k,o,p] z"


def floats(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def head(x="2,4,5,5", outputs=OUTPUTS, opset=17):
    return f'<ir_version: 8, opset_import: ["" : {opset}]> agraph (float[{x}] x) => ({outputs}) '


def kinds(network):
    return [node.op_type for node in network.layers()]


@pytest.mark.parametrize("opset", [11, 17, 21])
def test_convolutions_of_one_input_become_one(network_of, applied, opset):
    network = network_of(
        head(opset=opset) + "{ a = Conv(x, w) b = Conv(x, v, k) c = Relu(a) d = Relu(b) y = Neg(c) z = Abs(d) }",
        w=floats(3, 4, 1, 1), v=floats(5, 4, 1, 1), k=floats(5),
    )  # fmt: skip
    FuseEpilogues().apply(network)
    report = applied(WidenSiblings(), network)
    assert kinds(network) == ["FusedConv", "Split", "Neg", "Abs"]
    assert report.details == ("Conv:a+Relu:c | Conv:b+Relu:d: one FusedConv",)


@pytest.mark.parametrize(
    "body",
    [
        "a = Conv(x, w) b = Conv<pads = [1, 1, 1, 1]>(x, u)",
        "a = Conv<strides = [2, 2]>(x, w) b = Conv(x, w)",
        "t = Neg(x) a = Conv(x, w) b = Conv(t, w)",
        "a = Conv<group = 2>(x, g) b = Conv<group = 2>(x, g)",
        "q = Conv(x, w) a = Relu(q) b = Conv(x, w)",
    ],
    ids=["kernel", "stride", "input", "groups", "activation"],
)
def test_what_is_not_alike_stays_apart(network_of, applied, body):
    network = network_of(
        head() + "{ " + body + " y = Neg(a) z = Abs(b) }", w=floats(3, 4, 1, 1), u=floats(3, 4, 3, 3),
        g=floats(4, 2, 1, 1),
    )  # fmt: skip
    FuseEpilogues().apply(network)
    assert applied(WidenSiblings(), network).changed == 0


def test_products_of_one_input_become_one(network_of, applied):
    network = network_of(
        head("2,3,4", "float[n,m,o] y, float[n,m,p] z")
        + "{ a = MatMul(x, w) b = MatMul(x, v) c = Add(b, k) y = Neg(a) z = Abs(c) }",
        w=floats(4, 3), v=floats(4, 5), k=floats(5),
    )  # fmt: skip
    FuseEpilogues().apply(network)
    applied(WidenSiblings(), network)
    assert kinds(network).count("FusedMatMul") == 1  # the one with a bias: they are not of one kind


def test_queries_keys_and_values_become_one(network_of, applied):
    network = network_of(
        head("2,3,4", "float[n,m,o] y, float[n,m,p] z, float[n,m,p] t")
        + "{ a = MatMul(x, w) b = MatMul(x, v) c = MatMul(x, v) d = Add(a, k) e = Add(b, l) f = Add(l, c) "
        "y = Neg(d) z = Abs(e) t = Neg(f) }",
        w=floats(4, 3), v=floats(4, 5), k=floats(3), l=floats(5),
    )  # fmt: skip
    FuseEpilogues().apply(network)
    applied(WidenSiblings(), network)
    assert kinds(network) == ["FusedMatMul", "Split", "Neg", "Abs", "Neg"]


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemms_of_one_input_become_one(network_of, applied, transposed):
    network = network_of(
        head("2,4", "float[n,m] y, float[n,k] z")
        + f"{{ a = Gemm<transB = {transposed}>(x, w, k) b = Gemm<transB = {transposed}>(x, v) y = Neg(a) z = Abs(b) }}",
        w=floats(*((3, 4) if transposed else (4, 3))), v=floats(*((5, 4) if transposed else (4, 5))), k=floats(3),
    )  # fmt: skip
    applied(WidenSiblings(), network)
    assert kinds(network) == ["Gemm", "Split", "Neg", "Abs"]


def test_of_a_concatenation_only_the_first_joins_and_stands_last(network_of, applied):
    network = network_of(
        head(outputs="float[n,m,o,p] y")
        + "{ a = Conv(x, w) b = Conv(x, v) c = Conv(x, u) d = Relu(b) e = Concat<axis = 1>(a, d, c) y = Neg(e) }",
        w=floats(3, 4, 1, 1), v=floats(5, 4, 1, 1), u=floats(6, 4, 1, 1),
    )  # fmt: skip
    report = applied(WidenSiblings(), network)
    split = next(node for node in network.layers() if node.op_type == "Split")
    assert [value.name for value in split.outputs] == ["b", "a"]
    assert report.declined == ("Conv:c: is written into the concatenation Concat:e where it belongs",)
