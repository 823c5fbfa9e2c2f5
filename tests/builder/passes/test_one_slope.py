"""A slope that is one number becomes an attribute."""

import numpy as np

from enginewright_builder.network import lowering
from enginewright_builder.passes.fuse_epilogues import FuseEpilogues
from enginewright_builder.passes.one_slope import OneSlope

HEAD = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[1,3,8] x{more}) => (float[1,3,8] y) '


def model(body, more=""):
    return HEAD.format(more=more) + "{ " + body + " }"


def kinds(network):
    return [node.op_type for node in network.layers()]


def test_one_slope_for_all_is_a_leaky_relu(network_of, applied):
    network = network_of(model("y = PRelu(x, slope)"), slope=np.array([0.31], np.float32))
    assert applied(OneSlope(), network).changed == 1
    assert kinds(network) == ["LeakyRelu"]


def test_the_convolution_before_it_takes_it_along(network_of, applied):
    weights = np.random.default_rng(1).standard_normal((3, 3, 1)).astype(np.float32)
    network = network_of(model("c = Conv(x, w) y = PRelu(c, slope)"), w=weights, slope=np.float32([[0.2]]))
    applied(OneSlope(), network)
    applied(FuseEpilogues(), network)
    assert kinds(network) == ["FusedConv"]
    assert [node.op_type for node in lowering.to_onnx(network, contrib=True).graph] == ["FusedConv"]


def test_a_slope_for_each_channel_is_declined(network_of, applied):
    report = applied(OneSlope(), network_of(model("y = PRelu(x, slope)"), slope=np.float32([[0.1], [0.2], [0.3]])))
    assert report.changed == 0
    assert "3 slopes" in report.declined[0]


def test_a_slope_that_is_computed_stays(network_of, applied):
    network = network_of(model("y = PRelu(x, slope)", more=", float[1] slope"))
    assert applied(OneSlope(), network).changed == 0
