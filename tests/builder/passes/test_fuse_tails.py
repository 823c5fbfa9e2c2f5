"""Pointwise layers behind a convolution or product become its tail, and expand back exactly."""

import numpy as np
import onnx_ir as ir
import pytest

from enginewright_builder import passes
from enginewright_builder.device import layout, lower
from enginewright_builder.network import expansion, fused, lowering
from enginewright_builder.network.network import reads
from enginewright_builder.network.tail import texts
from enginewright_builder.passes import fuse_tails
from enginewright_builder.passes.fuse_epilogues import FuseEpilogues
from enginewright_builder.passes.fuse_tails import FuseTails
from enginewright_runtime.plan.recipe import Precision

GENERATOR = np.random.default_rng(5)
CONV = "c = Conv<pads = [1, 1, 1, 1]>(x, w, k) "


def floats(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def behind_a_convolution(network_of, body, outputs="", opset=18, more=", float[2,4,5,5] r"):
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> net (float[2,4,5,5] x{more}) => (float[2,4,5,5] y{outputs}) '
    constants = {
        "w": floats(4, 4, 3, 3), "k": floats(4), "h": np.array(0.3, np.float32), "two": np.array(2, np.float32),
        "half": np.array(0.5, np.float32), "each": floats(4, 1, 1), "odd": np.array(1.7, np.float32),
    }  # fmt: skip
    used = {name: value for name, value in constants.items() if name in text + CONV + body}
    network = network_of(text + "{ " + CONV + body + " }", **used)
    FuseEpilogues(gelu=True).apply(network)
    return network


def tail_of(network):
    node = next(node for node in network.layers() if fused.is_fused(node))
    return texts(fused.epilogue_of(node).tail)


@pytest.mark.parametrize(
    ("body", "tail"),
    [
        ("y = Exp(c)", ["Exp(v)"]),
        ("a = Mul(c, h) y = Erf(a)", ["Mul(v, 0.30000001192092896)", "Erf(s0)"]),
        ("a = Softplus(c) b = Tanh(a) y = Mul(b, c)", ["Softplus(v)", "Tanh(s0)", "Mul(s1, v)"]),
        ("a = Abs(c) b = Add(a, h) d = Log(b) y = Sub(h, d)",
         ["Abs(v)", "Add(s0, 0.30000001192092896)", "Log(s1)", "Sub(0.30000001192092896, s2)"]),
        ("a = Relu(c) y = Add(r, a)", ["Add(r, v)"]),
        ("a = Sigmoid(c) y = Mul(a, r)", ["Mul(v, r)"]),
        ("a = Add(c, r) b = Relu(a) y = Neg(b)", ["Neg(v)"]),
        ("a = Pow(c, two) y = Pow(a, half)", ["Pow(v, 2.0)", "Sqrt(s0)"]),
        ("a = Neg(c) y = Clip(a, , h)", ["Neg(v)", "Clip(s0, max=0.30000001192092896)"]),
        ("a = Neg(c) y = LeakyRelu<alpha = 0.5>(a)", ["Neg(v)", "LeakyRelu(s0, alpha=0.5)"]),
        ("a = Max(c, h) b = Min(a, r) y = Div(b, two)", ["Max(v, 0.30000001192092896)", "Min(s0, r)", "Div(s1, 2.0)"]),
    ],
)  # fmt: skip
def test_what_stands_behind_a_convolution_is_its_tail(network_of, applied, body, tail):
    network = behind_a_convolution(network_of, body)
    applied(FuseTails(), network)
    assert [fused.is_fused(node) for node in network.layers()] == [True]
    assert tail_of(network) == tuple(tail)


def test_a_convolution_without_more_than_an_epilogue_stays_as_it_is(network_of, applied):
    network = behind_a_convolution(network_of, "a = Add(c, r) y = Relu(a)")
    before = [dict(node.attributes) for node in network.layers()]
    assert applied(FuseTails(), network).changed == 0
    assert [dict(node.attributes) for node in network.layers()] == before


def test_problems_without_a_tail_say_nothing_of_one(network_of):
    network = behind_a_convolution(network_of, "a = Add(c, r) y = Relu(a)")
    passes.run(network, passes.gpu_pipeline(Precision.FP16))
    placed = layout.assign(network)
    said = [set(each.problem.attributes) for each in lower.lower(network, placed.places, placed.free)]
    known = {"strides", "pads", "dilations", "groups", "activation", "activation_parameters", "gated"}
    assert known in said
    assert not any("tail" in each for each in said)


def test_a_problem_says_its_tail(network_of):
    network = behind_a_convolution(network_of, "a = Relu(c) b = Mul(a, r) y = Exp(b)")
    passes.run(network, passes.gpu_pipeline(Precision.FP16))
    placed = layout.assign(network)
    (tail,) = [
        each.problem.attributes["tail"]
        for each in lower.lower(network, placed.places, placed.free)
        if "tail" in each.problem.attributes
    ]
    assert tail == ("Mul(v, r)", "Exp(s0)")


@pytest.mark.parametrize(
    ("body", "outputs", "why"),
    [
        ("y = Exp(c) z = Conv<pads = [1, 1, 1, 1]>(c, w)", ", float[2,4,5,5] z",
         "Conv:c: c is read by 2 layers, so it has to be in memory"),
        ("y = Exp(c)", ", float[2,4,5,5] c", "Conv:c: c is an output of the network, so it has to be in memory"),
        ("a = Relu(c) y = Mul(a, each)", "",
         "Conv:c+Relu:a: Mul:y reads each, which is neither one number nor of the result's shape and type"),
        ("a = Add(c, r) b = Relu(a) y = Mul(b, x)", "",
         "Conv:c+Add:a+Relu:b: Mul:y reads x, and there is room for one tensor, which is taken"),
        ("a = Neg(c) b = Mul(a, r) y = Add(b, x)", "",
         "Conv:c+Neg:a+Mul:b: Add:y reads x, and there is room for one tensor, which is taken"),
        ("y = Pow(c, odd)", "", "Conv:c: Pow:y has an exponent that is neither 2 nor 3 nor a half"),
        ("a = Neg(c) y = Clip(a, free)", "",
         "Conv:c+Neg:a: Clip:y has arguments that are not constants a fused layer can keep"),
    ],
)  # fmt: skip
def test_a_layer_that_stays_is_declined_with_its_reason(network_of, applied, body, outputs, why):
    network = behind_a_convolution(network_of, body, outputs, more=", float[2,4,5,5] r, float free")
    assert applied(FuseTails(), network).declined == (why,)


@pytest.mark.parametrize("body", ["y = Floor(c)", "y = Round(c)", "y = Sign(c)", "y = Max(c, h, two)", "y = Max(c)"])
def test_what_jumps_or_has_another_number_of_operands_is_none_of_a_tail(network_of, applied, body):
    report = applied(FuseTails(), behind_a_convolution(network_of, body))
    assert (report.changed, len(report.declined)) == (0, 1)
    assert "which is no step of a tail" in report.declined[0]


def test_a_tail_ends_where_somebody_else_reads_what_it_gives(network_of, applied):
    network = behind_a_convolution(network_of, "a = Exp(c) b = Neg(a) y = Add(b, r) z = Abs(a)", ", float[2,4,5,5] z")
    applied(FuseTails(), network)
    assert tail_of(network) == ("Exp(v)",)


def test_a_tensor_that_is_computed_of_the_same_result_is_no_residual(network_of, applied):
    network = behind_a_convolution(network_of, "a = Exp(c) b = Conv<pads = [1, 1, 1, 1]>(a, w) y = Add(a, b)")
    applied(FuseTails(), network)
    assert [node.op_type for node in network.layers()] == ["FusedConv", "FusedConv"]
    assert tail_of(network) == ("Exp(v)",)


def test_of_two_convolutions_the_one_that_can_adds_as_before(network_of, applied):
    network = behind_a_convolution(network_of, "a = Relu(c) d = Conv<pads = [1, 1, 1, 1]>(r, w) y = Add(a, d)")
    before = [node.op_type for node in network.layers()]
    assert applied(FuseTails(), network).changed == 0
    assert [node.op_type for node in network.layers()] == before == ["FusedConv", "FusedConv"]


def test_a_tail_is_no_longer_than_it_may_be(network_of, applied):
    network = behind_a_convolution(network_of, "a = Neg(c) b = Neg(a) d = Neg(b) y = Neg(d)")
    applied(FuseTails(most=3), network)
    assert len(tail_of(network)) == 3


@pytest.mark.parametrize("opset", [9, 18, 20])
def test_a_gelu_in_a_tail_expands_in_any_opset(network_of, applied, opset):
    gelu = "d = Gelu(b)" if opset == 20 else "d = Tanh(b)"
    network = behind_a_convolution(network_of, f"a = Relu(c) b = Neg(a) {gelu} y = Add(d, r)", opset=opset)
    applied(FuseTails(), network)
    assert len(tail_of(network)) == 3


def test_only_the_last_of_the_two_passes_says_why_a_layer_stays(network_of):
    network = behind_a_convolution(network_of, "a = Softplus(c) b = Tanh(a) d = Mul(b, c) y = Add(d, each)")
    told = passes.run(network, passes.gpu_pipeline(Precision.FP16))
    declined = {each.name: each.declined for each in told if each.name in ("fuse-epilogues", "fuse-tails")}
    assert declined["fuse-epilogues"] == ()
    assert [line.partition(": ")[0] for line in declined["fuse-tails"]] == ["Conv:c+Softplus:a+Tanh:b+Mul:d"]


def test_expanding_gives_back_operators_and_names(network_of):
    network = behind_a_convolution(network_of, "a = Relu(c) b = Add(a, r) y = Exp(b)")
    FuseTails().apply(network)
    assert [(node.op_type, node.name) for node in lowering.to_onnx(network).graph] == [
        ("Conv", "Conv:c"),
        ("Relu", "Relu:a"),
        ("Add", "Add:b"),
        ("Exp", "Exp:y"),
    ]


def test_matrix_products_and_transposed_convolutions_have_tails_too(network_of, applied):
    for body, w in (("MatMul(x, w)", floats(5, 5)), ("ConvTranspose(x, w)", floats(4, 4, 1, 1))):
        text = '<ir_version: 8, opset_import: ["" : 18]> net (float[2,4,5,5] x) => (float[2,4,5,5] y) '
        network = network_of(text + f"{{ c = {body} a = Exp(c) y = Neg(a) }}", w=w)
        applied(FuseTails(), network)
        assert tail_of(network) == ("Exp(v)", "Neg(s0)")


def test_in_a_half_type_a_tail_is_computed_in_float32(network_of):
    network = behind_a_convolution(network_of, "a = Exp(c) y = Add(a, h)")
    passes.run(network, passes.gpu_pipeline(Precision.FP16))
    (node,) = (node for node in network.layers() if fused.is_fused(node))
    types = {made.op_type: made.outputs[0].dtype for made in expansion.expand(network, node)}
    half, single = ir.DataType.FLOAT16, ir.DataType.FLOAT
    assert types == {"Conv": half, "Exp": single, "Add": single, "Cast": half}


def test_a_deep_network_is_not_searched_from_its_begin_for_every_layer(network_of, monkeypatch):
    deep = 60
    body = " ".join(
        f"a{n} = MatMul(z{n}, w) b{n} = Exp(a{n}) c{n} = Add(b{n}, z{n}) z{n + 1} = Softmax(c{n})" for n in range(deep)
    )
    text = f'<ir_version: 8, opset_import: ["" : 18]> net (float[4,8] z0) => (float[4,8] z{deep}) {{ {body} }}'
    network = network_of(text, w=floats(8, 8))
    looked = []
    monkeypatch.setattr(fuse_tails, "reads", lambda node: looked.append(node) or reads(node))
    assert FuseTails().apply(network).changed == deep
    assert len(looked) <= 3 * deep
