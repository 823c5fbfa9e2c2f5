"""Max pools of 2x2 go into the convolutions before them."""

import numpy as np
import pytest

from enginewright_builder.network import fused
from enginewright_builder.passes.fuse_epilogues import FuseEpilogues
from enginewright_builder.passes.fuse_pools import FusePools
from enginewright_builder.passes.precision import NarrowFloats

GENERATOR = np.random.default_rng(23)
POOL = "kernel_shape = [2, 2], strides = [2, 2]"
ALONE = "r = Conv<pads = [1, 1, 1, 1]>(x, w, k) "
CONV = "a = Conv<pads = [1, 1, 1, 1]>(x, w, k) r = Relu(a) "


def narrow(network_of, body, channels=8, outputs=16, y="2,16,4,3"):
    head = f'<ir_version: 8, opset_import: ["" : 17]> agraph (float[2,{channels},9,7] x) => (float[{y}] y) '
    weights = (GENERATOR.standard_normal(shape).astype(np.float32) for shape in ((outputs, channels, 3, 3), (outputs,)))
    network = network_of(head + "{ " + body + " }", **dict(zip("wk", weights, strict=True)))
    FuseEpilogues().apply(network)
    NarrowFloats().apply(network)
    return network


def kinds(network):
    return [node.op_type for node in network.layers() if node.op_type != "Cast"]


@pytest.mark.parametrize("body", [CONV, CONV.replace("Relu", "Tanh"), ALONE])
def test_a_pool_of_twos_goes_into_its_convolution(network_of, near, body):
    network = narrow(network_of, body + f"p = MaxPool<{POOL}>(r) y = Neg(p)")
    report = near(FusePools(), network)
    assert (report.changed, kinds(network)) == (1, ["FusedConv", "Neg"])
    node = next(node for node in network.layers() if node.op_type == "FusedConv")
    assert fused.pool_of(node) == fused.Pool(kernel=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0))


@pytest.mark.parametrize(
    ("body", "changes", "reason"),
    [
        (CONV + "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(r)", {"y": "2,16,4,3"}, "it is not 2x2"),
        (CONV + f"y = MaxPool<{POOL}, ceil_mode = 1>(r)", {"y": "2,16,5,4"}, "it is not 2x2"),
        (CONV + "y = MaxPool<kernel_shape = [2, 2]>(r)", {"y": "2,16,8,6"}, "it is not 2x2"),
        (CONV + f"p = MaxPool<{POOL}>(r) s = Sigmoid(r) t = MaxPool<{POOL}>(s) y = Add(p, t)", {}, "read elsewhere"),
        (CONV + f"y = MaxPool<{POOL}>(r)", {"channels": 6}, "no multiples of 8"),
        (CONV + f"y = MaxPool<{POOL}>(r)", {"outputs": 12, "y": "2,12,4,3"}, "no multiples of 8"),
        (
            f"a = Conv<pads = [1, 1, 1, 1], strides = [2, 1]>(x, w, k) y = MaxPool<{POOL}>(a)",
            {"y": "2,16,2,3"},
            "grouped or has strides",
        ),
    ],
)
def test_a_pool_that_no_kernel_does_stays_with_a_reason(network_of, near, body, changes, reason):
    network = narrow(network_of, body, **changes)
    report = near(FusePools(), network)
    assert report.changed == 0
    assert any(reason in each for each in report.declined)
    assert "MaxPool" in kinds(network)


def test_in_float32_pools_stay(network_of, near):
    head = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[1,8,4,4] x) => (float[1,8,2,2] y) '
    w = GENERATOR.standard_normal((8, 8, 3, 3)).astype(np.float32)
    network = network_of(head + f"{{ a = Conv<pads = [1, 1, 1, 1]>(x, w) y = MaxPool<{POOL}>(a) }}", w=w)
    assert near(FusePools(), network).declined == ("MaxPool:y into Conv:a: they are not in a half type",)
