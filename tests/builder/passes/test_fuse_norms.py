"""Written-out normalizations over the last dimension become one layer."""

import numpy as np
import pytest

from enginewright_builder.passes.fuse_norms import FuseNorms

GENERATOR = np.random.default_rng(21)
MEAN = {13: "ReduceMean<axes = [-1]>({})", 18: "ReduceMean({}, axis)"}
LAYER = "m = {mean_x} d = Sub(x, m) q = {square} v = {mean_q} e = Add(v, eps) r = Sqrt(e) {quotient} "
AFFINE = "t = Mul(n, g) y = Add(t, b)"
QUOTIENTS = ("n = Div(d, r)", "i = Reciprocal(r) n = Mul(d, i)", "i = Div(one, r) n = Mul(i, d)")


def source(body, opset):
    return f'<ir_version: 8, opset_import: ["" : {opset}]> agraph (float[2,3,8] x) => (float[2,3,8] y) {{ {body} }}'


def written(opset, *, square="Mul(d, d)", quotient=QUOTIENTS[0], after=AFFINE):
    mean = MEAN[18 if opset >= 18 else 13]
    return LAYER.format(mean_x=mean.format("x"), mean_q=mean.format("q"), square=square, quotient=quotient) + after


def constants(body):
    values = {
        "eps": np.float32(1e-5), "two": np.float32(2), "one": np.float32(1), "axis": np.array([-1]),
        "g": GENERATOR.standard_normal(8).astype(np.float32), "b": GENERATOR.standard_normal(8).astype(np.float32),
    }  # fmt: skip
    words = body.replace("(", " ").replace(",", " ").replace(")", " ").split()
    return {name: array for name, array in values.items() if name in words}


def kinds(network):
    return [(node.domain, node.op_type) for node in network.layers()]


@pytest.mark.parametrize("opset", [13, 17, 18])
@pytest.mark.parametrize("square", ["Mul(d, d)", "Pow(d, two)"])
@pytest.mark.parametrize("quotient", QUOTIENTS)
def test_a_layer_normalization_is_one_layer(network_of, applied, opset, square, quotient):
    body = written(opset, square=square, quotient=quotient)
    network = network_of(source(body, opset), **constants(body))
    applied(FuseNorms(), network)
    assert kinds(network) == [("enginewright" if opset < 17 else "", "LayerNormalization")]


@pytest.mark.parametrize("after", ["y = Neg(n)", "y = Mul(n, g)"], ids=["neither", "scale alone"])
def test_scale_and_shift_may_be_missing(network_of, applied, after):
    body = written(17, after=after)
    network = network_of(source(body, 17), **constants(body))
    applied(FuseNorms(), network)
    assert kinds(network)[0] == ("", "LayerNormalization")


@pytest.mark.parametrize("opset", [13, 18, 23])
def test_a_root_mean_square_normalization_is_one_layer(network_of, applied, opset):
    mean = MEAN[18 if opset >= 18 else 13].format("q")
    body = f"q = Mul(x, x) v = {mean} e = Add(eps, v) r = Sqrt(e) n = Div(x, r) y = Mul(g, n)"
    network = network_of(source(body, opset), **constants(body))
    applied(FuseNorms(), network)
    assert kinds(network) == [("enginewright" if opset < 23 else "", "RMSNormalization")]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("axes = [-1]>(q)", "axes = [1]>(q)", "what is under the root is no mean of squares over the last dimension"),
        ("Div(d, r)", "Div(x, r)", "what was squared is not what is divided by the root"),
        ("y = Add(t, b)", "z = Add(t, b) y = Add(z, v)", "v is read elsewhere"),
    ],
)
def test_what_is_not_of_the_form_is_declined(network_of, applied, old, new, why):
    body = written(13).replace(old, new)
    network = network_of(source(body, 13), **constants(body))
    report = applied(FuseNorms(), network)
    assert (report.changed, report.declined) == (0, (f"Sqrt:r: {why}",))


def test_a_root_of_something_else_is_not_mentioned(network_of, applied):
    network = network_of(source("a = Abs(x) y = Sqrt(a)", 17))
    assert applied(FuseNorms(), network).declined == ()
