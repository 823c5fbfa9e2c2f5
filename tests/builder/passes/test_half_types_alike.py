"""bfloat16, with which NumPy computes through another library, gets every fusion that float16 gets."""

import numpy as np
import pytest

from enginewright_builder.network import fused
from enginewright_builder.passes.pipeline import gpu_pipeline, run
from enginewright_runtime.plan.recipe import Precision

GENERATOR = np.random.default_rng(31)
RESIDUAL = """{
  s = Conv<strides = [2, 2], pads = [3, 3, 3, 3]>(x, w0, b0) r = Relu(s)
  t = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(r)
  o = Conv(t, w1, b1) p = Relu(o) q = Conv<pads = [1, 1, 1, 1]>(p, w2, b2) a = Relu(q)
  e = Conv(a, w3, b3) d = Conv(t, w4, b4) f = Add(e, d) g = Relu(f)
  h = Conv<pads = [1, 1, 1, 1]>(g, w5, b5) i = Relu(h) j = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(i)
  y = Conv(j, w6, b6) }"""
ATTENTION = """{
  q1 = MatMul(x, wq) q2 = Add(q1, bq) q3 = Reshape(q2, split) q = Transpose<perm = [0, 2, 1, 3]>(q3)
  k1 = MatMul(x, wk) k2 = Add(k1, bk) k3 = Reshape(k2, split) k = Transpose<perm = [0, 2, 3, 1]>(k3)
  v1 = MatMul(x, wv) v2 = Add(v1, bv) v3 = Reshape(v2, split) v = Transpose<perm = [0, 2, 1, 3]>(v3)
  s1 = MatMul(q, k) s2 = Div(s1, root) s3 = Add(s2, mask) p = Softmax<axis = -1>(s3) c1 = MatMul(p, v)
  c2 = Transpose<perm = [0, 2, 1, 3]>(c1) c = Reshape(c2, whole)
  o1 = MatMul(c, wo) o2 = Add(o1, bo) o = Add(o2, x) n = LayerNormalization<axis = -1>(o, scale, shift)
  f1 = MatMul(n, wf) f2 = Add(f1, bf) g1 = Div(f2, root2) g2 = Erf(g1) g3 = Add(g2, one) g4 = Mul(f2, g3)
  g = Mul(g4, half) h1 = MatMul(g, wg) h2 = Add(h1, bo) h = Add(h2, n)
  y = LayerNormalization<axis = -1>(h, scale, shift) }"""


def floats(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def residual():
    shapes = [(16, 3, 7, 7), (8, 16, 1, 1), (8, 8, 3, 3), (32, 8, 1, 1), (32, 16, 1, 1), (16, 32, 3, 3), (8, 16, 1, 1)]
    made = {f"w{index}": floats(*shape) for index, shape in enumerate(shapes)}
    return "float[1,3,32,32] x", "float[1,8,4,4] y", RESIDUAL, made | {
        f"b{index}": floats(shape[0]) for index, shape in enumerate(shapes)
    }  # fmt: skip


def attention():
    square = {f"w{letter}": floats(32, 32) for letter in "qkvo"}
    vectors = {name: floats(32) for name in ("bq", "bk", "bv", "bo", "scale", "shift")}
    sizes = {"split": np.array([1, 8, 2, 16]), "whole": np.array([1, 8, 32])}
    numbers = {"root": 4.0, "root2": np.sqrt(2), "one": 1.0, "half": 0.5}
    more = {"wf": floats(32, 64), "bf": floats(64), "wg": floats(64, 32), "mask": floats(1, 1, 8, 8)}
    return "float[1,8,32] x", "float[1,8,32] y", ATTENTION, square | vectors | sizes | more | {
        name: np.float32(number) for name, number in numbers.items()
    }  # fmt: skip


def layers(network):
    """What each layer is, with what was fused into it."""
    return [
        (
            node.op_type, len(node.inputs), fused.pair_of(node), fused.pool_of(node),
            node.outputs[0].dtype.name.replace("BFLOAT16", "FLOAT16"),
        )
        for node in network.layers()
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "wanted"), [(residual, {"FusedConv": 5}), (attention, {"Attention": 1, "FusedMatMul": 4})]
)
def test_both_half_types_get_the_same_layers(network_of, model, wanted):
    x, y, body, constants = model()
    made = {}
    for precision in (Precision.FP16, Precision.BF16):
        network = network_of(f'<ir_version: 8, opset_import: ["" : 17]> agraph ({x}) => ({y}) ' + body, **constants)
        run(network, gpu_pipeline(precision))
        made[precision] = layers(network)
    assert made[Precision.BF16] == made[Precision.FP16]
    kinds = [kind for kind, *_ in made[Precision.FP16]]
    assert {kind: kinds.count(kind) for kind in wanted} == wanted


def test_the_residual_network_has_a_stem_a_pair_and_a_pool(network_of):
    x, y, body, constants = residual()
    network = network_of(f'<ir_version: 8, opset_import: ["" : 17]> agraph ({x}) => ({y}) ' + body, **constants)
    run(network, gpu_pipeline(Precision.BF16))
    made = list(network.layers())
    assert made[0].inputs[0].name == "x"
    assert [fused.pool_of(node).kernel for node in made if fused.pool_of(node)] == [(3, 3), (2, 2)]
    assert sum(fused.pair_of(node) is not None for node in made) == 1
