"""Channels are filled up to what kernels read at once, and nothing else changes."""

import numpy as np
import pytest

from enginewright_builder.device import layout
from enginewright_builder.network.network import static_shape
from enginewright_builder.passes.fuse_epilogues import FuseEpilogues
from enginewright_builder.passes.pad_channels import PadChannels
from enginewright_builder.passes.unread import Unread

GENERATOR = np.random.default_rng(29)


def floats(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def network(network_of, body, channels, opset=17, **weights):
    head = f'<ir_version: 8, opset_import: ["" : {opset}]> agraph (float[2,{channels},5,5] x) => (float[n,m,o,p] y) '
    return network_of(head + "{ " + body + " }", **weights)


def kinds(net):
    return [node.op_type for node in net.layers()]


@pytest.mark.parametrize("opset", [9, 11, 17])
def test_odd_input_channels_get_zeros(network_of, applied, opset):
    net = network(network_of, "a = Conv(x, w) y = Neg(a)", 12, opset, w=floats(8, 12, 3, 3))
    report = applied(PadChannels(), net)
    assert kinds(net) == ["Pad", "Conv", "Neg"]
    assert static_shape(next(iter(net.layers())).outputs[0]) == (2, 16, 5, 5)
    assert report.details == ("Conv:a: 12 to 16 input channels",)


@pytest.mark.parametrize("opset", [9, 17])
def test_odd_output_channels_are_cut_off_by_a_view(network_of, applied, opset):
    net = network(network_of, "a = Conv(x, w, k) y = Neg(a)", 8, opset, w=floats(5, 8, 1, 1), k=floats(5))
    applied(PadChannels(), net)
    assert kinds(net) == ["Conv", "Slice", "Neg"]
    assert layout.executed_kinds(net, layout.assign(net)) == {"Conv": 1, "Neg": 1}


def test_between_two_convolutions_the_zeros_are_there_already(network_of, applied):
    net = network(network_of, "a = Conv(x, w, k) b = Relu(a) c = Conv(b, v) y = Neg(c)", 8, w=floats(5, 8, 1, 1),
                  k=floats(5), v=floats(8, 5, 1, 1))  # fmt: skip
    FuseEpilogues().apply(net)
    applied(PadChannels(), net)
    Unread().apply(net)
    assert kinds(net) == ["FusedConv", "Conv", "Neg"]


def test_behind_an_activation_that_is_not_zero_at_zero_zeros_are_put_in_again(network_of, applied):
    net = network(network_of, "a = Conv(x, w) b = Sigmoid(a) c = Conv(b, v) y = Neg(c)", 8, w=floats(5, 8, 1, 1),
                  v=floats(8, 5, 1, 1))  # fmt: skip
    FuseEpilogues().apply(net)
    applied(PadChannels(), net)
    assert kinds(net) == ["FusedConv", "Slice", "Pad", "Conv", "Neg"]


@pytest.mark.parametrize(("stem", "channels"), [(0, 3), (4, 4), (8, 8)])
def test_a_stem_is_padded_only_where_it_is_asked_for(network_of, applied, stem, channels):
    net = network(network_of, "a = Conv(x, w) y = Neg(a)", 3, w=floats(8, 3, 3, 3))
    applied(PadChannels(stem=stem), net)
    conv = next(node for node in net.layers() if node.op_type == "Conv")
    assert static_shape(conv.inputs[1]) == (8, channels, 3, 3)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("a = Conv<group = 2>(x, w) y = Neg(a)", "Conv:a: it is grouped, and each group's channels lie together"),
        ("y = Conv(x, v)", "Conv:y: its 5 output channels stay, a residual or the border has as many"),
    ],
)
def test_what_cannot_be_padded_is_declined(network_of, applied, body, why):
    weights = {"w": floats(6, 4, 1, 1)} if "w" in body else {"v": floats(5, 8, 1, 1)}
    assert applied(PadChannels(), network(network_of, body, 8, **weights)).declined == (why,)
