"""What follows a convolution or a matrix product becomes its epilogue, and expands back exactly."""

import numpy as np
import pytest

from enginewright_builder import passes
from enginewright_builder.device import layout, lower
from enginewright_builder.device.problem import Kind
from enginewright_builder.network import fused, lowering
from enginewright_builder.passes.fuse_epilogues import FuseEpilogues
from enginewright_runtime.plan.recipe import Precision

GENERATOR = np.random.default_rng(5)
CONV = "c = Conv<pads = [1, 1, 1, 1]>(x, w, k) "


def head(x="2,4,5,5", y="2,4,5,5", opset=17, more=""):
    return f'<ir_version: 8, opset_import: ["" : {opset}]> agraph (float[{x}] x{more}) => (float[{y}] y) '


def floats(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def weights():
    return {"w": floats(4, 4, 3, 3), "k": floats(4)}


@pytest.mark.parametrize(
    "activation",
    [
        "Relu(c)", "LeakyRelu<alpha = 0.2>(c)", "LeakyRelu(c)",
        "Sigmoid(c)", "Tanh(c)", "Elu<alpha = 0.7>(c)", "Selu(c)",
        "HardSigmoid<alpha = 0.3, beta = 0.4>(c)", "HardSigmoid(c)", "HardSwish(c)",
        "Softplus(c)", "Softsign(c)",
        "ThresholdedRelu<alpha = 0.5>(c)", "Celu(c)", "Clip(c, low, high)", "Clip(c, low)",
        "Clip(c, , high)", "Clip(c)",
    ],
)  # fmt: skip
def test_an_activation_joins_its_convolution(network_of, applied, activation):
    network = network_of(
        head() + "{ " + CONV + f"y = {activation} }}", low=np.float32(-0.25), high=np.float32(0.5), **weights()
    )
    applied(FuseEpilogues(), network)
    assert [node.op_type for node in network.layers()] == ["FusedConv"]


def test_a_clip_of_an_old_opset_keeps_its_attributes(network_of, applied, layer_lines):
    network = network_of(head(opset=9) + "{ " + CONV + "y = Clip<max = 6.0, min = 0.0>(c) }", **weights())
    applied(FuseEpilogues(), network)
    assert layer_lines(network) == [
        "Conv:c+Clip:y: y = enginewright.FusedConv(x, w, k, epilogue_activation='Clip', epilogue_parameter_max=6.0, "
        "epilogue_parameter_min=0.0, pads=[1,1,1,1]) : float32[2,4,5,5]"
    ]


def test_residual_and_activation_join_even_if_the_residual_comes_later(network_of, applied, layer_lines):
    network = network_of(head() + "{ " + CONV + "r = Neg(x) s = Add(r, c) y = Relu(s) }", **weights())
    report = applied(FuseEpilogues(), network)
    assert report.details == ("Conv:c (Conv) + Add:s (Add) + Relu:y (Relu)",)
    assert layer_lines(network) == [
        "Neg:r: r = Neg(x) : float32[2,4,5,5]",
        "Conv:c+Add:s+Relu:y: y = enginewright.FusedConv(x, w, k, r, epilogue_activation='Relu', pads=[1,1,1,1]) "
        ": float32[2,4,5,5]",
    ]


def test_of_two_convolutions_that_are_added_one_takes_the_other_as_residual(network_of, applied):
    network = network_of(head() + "{ " + CONV + "d = Conv<pads = [1, 1, 1, 1]>(x, w) y = Add(c, d) }", **weights())
    applied(FuseEpilogues(), network)
    assert [node.op_type for node in network.layers()] == ["Conv", "FusedConv"]


@pytest.mark.parametrize("gate", ["Sigmoid(c)", "HardSigmoid<alpha = 0.166667>(c)"])
def test_a_product_with_its_own_gate_joins(network_of, applied, gate):
    network = network_of(head() + "{ " + CONV + f"g = {gate} y = Mul(g, c) }}", **weights())
    applied(FuseEpilogues(), network)
    (node,) = network.layers()
    assert fused.epilogue_of(node).gated


def test_a_matrix_product_takes_bias_residual_and_activation(network_of, applied):
    network = network_of(
        head(x="2,3,4", y="2,3,6", more=", float[2,3,6] r")
        + "{ c = MatMul(x, w) d = Add(k, c) e = Add(d, r) y = Tanh(e) }",
        w=floats(4, 6),
        k=floats(6),
    )
    applied(FuseEpilogues(), network)
    assert [node.op_type for node in network.layers()] == ["FusedMatMul"]


def test_a_gemm_takes_its_activation(network_of, applied):
    network = network_of(
        head(x="2,4", y="2,6") + "{ c = Gemm<alpha = 0.5, transB = 1>(x, w, k) y = LeakyRelu(c) }",
        w=floats(6, 4),
        k=floats(6),
    )
    applied(FuseEpilogues(), network)
    assert [node.domain for node in lowering.to_onnx(network, contrib=True).graph] == ["com.microsoft"]


@pytest.mark.parametrize(
    ("body", "outputs", "why"),
    [
        ("y = Relu(c) z = Neg(c)", ", float[2,4,5,5] z", "c is read by 2 layers, so it has to be in memory"),
        ("y = Relu(c)", ", float[2,4,5,5] c", "c is an output of the network, so it has to be in memory"),
        ("y = Add(c, p)", "", "Add:y adds a tensor that is not known to be of the same shape"),
        ("y = Clip(c, free)", "", "Clip:y has arguments that are not constants a fused layer can keep"),
    ],
)
def test_a_candidate_that_does_not_fit_is_declined_with_its_reason(network_of, applied, body, outputs, why):
    source = head(more=", float[1,1,1,5] p, float free").replace(" y) ", f" y{outputs}) ", 1)
    network = network_of(source + "{ " + CONV + body + " }", **weights())
    report = applied(FuseEpilogues(), network)
    assert (report.changed, report.declined) == (0, (f"Conv:c: {why}",))


def test_what_a_body_captures_has_to_be_in_memory(network_of, applied):
    network = network_of(
        head(more=", bool t") + "{ " + CONV + "a = Relu(c) b = If(t) "
        "<then_branch = g () => (float[2,4,5,5] p) { p = Neg(c) }, "
        "else_branch = e () => (float[2,4,5,5] q) { q = Abs(c) }> y = Add(a, b) }",
        **weights(),
    )
    assert applied(FuseEpilogues(), network).changed == 0


def test_expanding_gives_back_operators_and_names(network_of):
    network = network_of(head() + "{ " + CONV + "s = Add(c, x) y = Relu(s) }", **weights())
    FuseEpilogues().apply(network)
    model = lowering.to_onnx(network)
    assert [(node.op_type, node.name) for node in model.graph] == [
        ("Conv", "Conv:c"),
        ("Add", "Add:s"),
        ("Relu", "Relu:y"),
    ]
    assert "enginewright" not in model.graph.opset_imports
    assert [node.op_type for node in network.layers()] == ["FusedConv"]


@pytest.mark.parametrize("group", [1, 2])
def test_a_transposed_convolution_takes_residual_and_activation_where_it_may(network_of, applied, group):
    network = network_of(
        head(y="2,4,7,7", more=", float[2,4,7,7] r")
        + f"{{ c = ConvTranspose<group = {group}>(x, w, k) s = Add(c, r) y = LeakyRelu<alpha = 0.3>(s) }}",
        w=floats(4, 4 // group, 3, 3),
        k=floats(4),
    )
    assert applied(FuseEpilogues(), network).changed == 0
    applied(FuseEpilogues(bases=("ConvTranspose",)), network)
    assert [node.op_type for node in network.layers()] == ["FusedConvTranspose"]


SCALED = {"s": np.array(0.3, np.float32), "k": floats(5)}


def scaled(network_of, body, **constants):
    text = head(x="2,3,4", y="2,3,5", more=", float[2,4,5] z") + "{ c = MatMul(x, z) " + body + " }"
    return network_of(text, **{**SCALED, **constants})


@pytest.mark.parametrize(
    "body",
    ["y = Mul(c, s)", "y = Mul(s, c)", "y = Div(c, s)", "a = Mul(c, s) b = Add(a, k) y = Relu(b)",
     "a = Mul(c, s) g = Sigmoid(a) y = Mul(a, g)"],
)  # fmt: skip
def test_a_product_of_computed_matrices_takes_its_factor(network_of, applied, body):
    network = scaled(network_of, body)
    applied(FuseEpilogues(scale=True), network)
    assert [node.op_type for node in network.layers()] == ["FusedMatMul"]


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("y = Div(s, c)", {}),
        ("y = Mul(c, s)", {"s": np.array(-0.3, np.float32)}),
        ("y = Mul(c, k)", {}),
    ],
    ids=["divides", "negative", "a factor for each column"],
)
def test_other_factors_stay(network_of, applied, body, constants):
    assert applied(FuseEpilogues(scale=True), scaled(network_of, body, **constants)).changed == 0


def test_on_the_cpu_a_factor_stays(network_of, applied):
    assert applied(FuseEpilogues(), scaled(network_of, "y = Mul(c, s)")).changed == 0


def test_on_a_gpu_the_factor_is_the_products_alpha(network_of):
    network = scaled(network_of, "a = Mul(c, s) y = Relu(a)")
    passes.run(network, passes.gpu_pipeline(Precision.FP16))
    placed = layout.assign(network)
    (product,) = [
        each for each in lower.lower(network, placed.places, placed.free) if each.problem.kind is Kind.PRODUCT
    ]
    assert product.problem.attributes["alpha"] == pytest.approx(0.3)
    assert product.problem.attributes["activation"] == "Relu"
