"""Stages of one layer become one where nothing is computed twice for it, and say the same as before."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from enginewright_builder.device import fusing, reference, stages
from enginewright_builder.device.stages import Holder
from enginewright_builder.importers import from_onnx
from enginewright_builder.network import extract, lowering
from enginewright_builder.passes.clusters import Clusters


@pytest.fixture
def network_of(tmp_path):
    def load(body, x="2,3,8", outputs="float[2,3,8] y", **constants):
        model = onnx.parser.parse_model(
            f'<ir_version: 10, opset_import: ["" : 20]> agraph (float[{x}] x) => ({outputs}) {{ {body} }}'
        )
        for name, array in constants.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        onnx.save(model, tmp_path / "m.onnx")
        return from_onnx.load(tmp_path / "m.onnx")

    return load


def evaluate(staged, feeds):
    """What the stages give, in NumPy."""
    known = {**staged.constants, **feeds}
    for stage in staged.stages:
        operands = [None if held is None else known[held.name] for held in stage.inputs]
        known[stage.output.name] = reference.evaluate(stage.computation, operands)
    return known


def fused(network):
    """The network's stages joined, held to ONNX Runtime's outputs; before and after."""
    before = stages.staged(network)
    after = fusing.fused(before)
    feeds = {"x": np.random.default_rng(3).standard_normal([*network.inputs[0].shape]).astype(np.float32)}
    model = ir.to_proto(lowering.to_onnx(network)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found = evaluate(after, feeds)
    for output, right in zip(network.outputs, session.run(None, feeds), strict=True):
        np.testing.assert_allclose(found[output.name], right, rtol=1e-5, atol=1e-5)
    return before.stages, after.stages


GAIN = np.linspace(0.5, 2, 8, dtype=np.float32)


@pytest.mark.parametrize(
    "body",
    [
        "a = Relu(x) b = Mul(a, g) y = Tanh(b)",
        "a = Neg(x) b = Softmax(a) y = Mul(b, g)",
        "a = Mul(x, g) b = LayerNormalization(a, g) y = Sigmoid(b)",
        "a = Exp(x) b = Transpose<perm = [1, 0, 2]>(a) c = Neg(b) y = Transpose<perm = [1, 0, 2]>(c)",
        "a = Relu(x) b = Reshape(a, s) c = Abs(b) d = Reshape(c, t) y = Add(d, g)",
        "a = ReduceMean(x, e) b = Sub(x, a) y = Abs(b)",
        "a = Mul(x, x) b = ReduceMean(a, e) c = Sqrt(b) y = Div(x, c)",
    ],
    ids=["pointwise", "softmax", "norm", "transposes", "reshapes", "mean", "root mean square"],
)
def test_a_chain_becomes_one_stage(network_of, body):
    constants = {"g": GAIN, "s": np.array([6, 8]), "t": np.array([2, 3, 8]), "e": np.array([-1])}
    words = body.replace("(", " ").replace(",", " ").replace(")", " ").split()
    before, after = fused(network_of(body, **{k: v for k, v in constants.items() if k in words}))
    assert (len(before) > 1, len(after)) == (True, 1)


def test_what_two_stages_read_stays_until_they_are_one(network_of):
    body = "m = ReduceMean(x, e) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, e) r = Sqrt(v) y = Div(d, r)"
    _, after = fused(network_of(body, e=np.array([-1])))
    assert len(after) == 1


def test_what_two_outputs_need_is_computed_once(network_of):
    _, after = fused(network_of("a = Exp(x) y = Neg(a) z = Abs(a)", outputs="float[2,3,8] y, float[2,3,8] z"))
    assert [stage.output.holder for stage in after] == [Holder.TEMPORARY, Holder.OPERAND, Holder.OPERAND]


def test_a_product_of_a_product_stays_two(network_of):
    _, after = fused(network_of("a = MatMul(x, w) y = MatMul(a, w)", w=np.eye(8, dtype=np.float32)[::-1].copy()))
    assert len(after) == 2


def test_a_cluster_of_a_network_is_one_kernel(network_of):
    network = network_of("a = Neg(x) b = Softmax(a) c = Mul(b, g) y = Sigmoid(c)", g=GAIN)
    Clusters().apply(network)
    (node,) = network.layers()
    assert node.op_type == "Cluster"
    assert len(fusing.fused(stages.staged(extract.alone(network, node))).stages) == 1
