"""Casts go into the layers beside them; a stem reads a picture as it is given."""

import numpy as np
import onnx_ir as ir
import pytest

from enginewright_builder.network import fused
from enginewright_builder.passes.fuse_casts import FuseCasts, FuseStem
from enginewright_builder.passes.fuse_epilogues import FuseEpilogues
from enginewright_builder.passes.precision import NarrowFloats

GENERATOR = np.random.default_rng(19)


def floats(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def narrow(network):
    FuseEpilogues().apply(network)
    NarrowFloats().apply(network)
    return network


def kinds(network):
    return [node.op_type for node in network.layers()]


def dense(network_of, body):
    head = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[2,4] x) => (float[2,6] y) '
    return narrow(network_of(head + "{ " + body + " }", w=floats(4, 6), k=floats(6)))


def test_a_product_gives_float32_where_it_is_wanted(network_of, near):
    network = dense(network_of, "y = Gemm(x, w, k)")
    near(FuseCasts(), network)
    assert [(node.op_type, node.outputs[0].dtype.name) for node in network.layers()] == [
        ("Cast", "FLOAT16"), ("FusedGemm", "FLOAT")
    ]  # fmt: skip


def test_a_softmax_after_a_product_is_in_float32_too(network_of, near):
    network = dense(network_of, "a = Gemm(x, w, k) b = Softmax(a) y = Sigmoid(b)")
    near(FuseCasts(), network)
    assert kinds(network) == ["Cast", "FusedGemm", "Softmax", "Sigmoid"]


def test_other_casts_stay(network_of, near):
    network = dense(network_of, "a = MatMul(x, w) b = Neg(a) y = Abs(b)")
    near(FuseCasts(), network)
    assert kinds(network) == ["Cast", "MatMul", "Neg", "Abs", "Cast"]


def stem(network_of, body, channels=3, y="2,8,4,4"):
    head = f'<ir_version: 8, opset_import: ["" : 17]> agraph (float[2,{channels},16,16] x) => (float[{y}] y) '
    return narrow(network_of(head + "{ " + body + " }", w=floats(8, channels, 3, 3), k=floats(8)))


CONV = "a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w, k) r = Relu(a) "
POOL = "p = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(r) "


def test_a_stem_takes_the_cast_before_and_the_pool_after_it(network_of, near):
    network = stem(network_of, CONV + POOL + "y = Neg(p)")
    report = near(FuseStem(), network)
    assert kinds(network) == ["FusedConv", "Neg", "Cast"]
    node = next(iter(network.layers()))
    assert (node.inputs[0].dtype, node.outputs[0].dtype) == (ir.DataType.FLOAT, ir.DataType.FLOAT16)
    assert fused.pool_of(node) == fused.Pool(kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    assert report.details == ("Cast:x:float16 (Cast) + Conv:a+Relu:r (FusedConv) + MaxPool:p (MaxPool)",)


def test_a_stem_without_a_pool_takes_the_cast_alone(network_of, near):
    network = stem(network_of, CONV + "y = Neg(r)", y="2,8,8,8")
    near(FuseStem(), network)
    assert kinds(network) == ["FusedConv", "Neg", "Cast"]


def test_an_odd_pool_stays_and_is_declined(network_of, near):
    odd = POOL.replace("pads = [1, 1, 1, 1]", "ceil_mode = 1")
    network = stem(network_of, CONV + odd + "y = Neg(p)")
    report = near(FuseStem(), network)
    assert report.declined == ("MaxPool:p: not a plain max pool of pictures, so Conv:a+Relu:r goes without it",)


@pytest.mark.parametrize("channels", [5, 8])
def test_a_convolution_of_many_channels_is_no_stem(network_of, near, channels):
    network = stem(network_of, CONV + POOL + "y = Neg(p)", channels=channels)
    assert near(FuseStem(), network).changed == 0
