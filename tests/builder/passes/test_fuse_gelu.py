"""Gelu is found in each of the ways in which it is written, and in none that only looks like it."""

import numpy as np
import pytest

from enginewright_builder.passes.fuse_epilogues import FuseEpilogues
from enginewright_builder.passes.fuse_gelu import FuseGelu

NUMBERS = {
    "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "root": np.sqrt(2.0), "inverse": np.sqrt(0.5),
    "c": 0.044715, "s": np.sqrt(2 / np.pi),
}  # fmt: skip
ERF = {
    "half last": "a = Div(x, root) e = Erf(a) b = Add(e, one) p = Mul(x, b) y = Mul(p, half)",
    "half first": "a = Mul(x, inverse) e = Erf(a) b = Add(one, e) h = Mul(half, x) y = Mul(h, b)",
    "half inside": "a = Mul(x, inverse) e = Erf(a) b = Add(e, one) h = Mul(b, half) y = Mul(h, x)",
    "multiplied out": "a = Div(x, root) e = Erf(a) h = Mul(x, half) p = Mul(h, e) y = Add(p, h)",
}
TANH = {
    "power": "q = Pow(x, three) r = Mul(q, c) u = Add(x, r) v = Mul(u, s) t = Tanh(v) b = Add(t, one) h = Mul(x, half) "
    "y = Mul(h, b)",
    "products": "q = Mul(x, x) r = Mul(q, x) k = Mul(c, r) u = Add(k, x) v = Mul(s, u) t = Tanh(v) b = Add(one, t) "
    "p = Mul(x, b) y = Mul(half, p)",
    "factored": "q = Mul(x, x) k = Mul(c, q) u = Add(k, one) m = Mul(s, x) v = Mul(m, u) t = Tanh(v) b = Add(one, t) "
    "h = Mul(half, x) y = Mul(h, b)",
}


def head(opset=17, outputs="float[2,3,4] y"):
    return f'<ir_version: 8, opset_import: ["" : {opset}]> agraph (float[2,3,4] x) => ({outputs}) '


def numbers():
    return {name: np.float32(number) for name, number in NUMBERS.items()}


def used(body):
    return {name: array for name, array in numbers().items() if name in body.replace("(", " ").replace(",", " ")
            .replace(")", " ").split()}  # fmt: skip


@pytest.mark.parametrize("body", [*ERF.values(), *TANH.values()], ids=[*ERF, *TANH])
@pytest.mark.parametrize("opset", [13, 20])
def test_a_written_out_gelu_is_one_layer(network_of, applied, body, opset):
    network = network_of(head(opset) + "{ " + body + " }", **used(body))
    applied(FuseGelu(), network)
    (node,) = network.layers()
    assert node.op_type == "Gelu"
    assert node.attributes["approximate"].as_string() == ("tanh" if "Tanh" in body else "none")


@pytest.mark.parametrize(
    "body",
    [
        "a = Div(x, two) e = Erf(a) b = Add(e, one) p = Mul(x, b) y = Mul(p, half)",
        "a = Div(x, root) e = Erf(a) b = Add(e, one) y = Mul(p, b) ".replace("p,", "half,"),
        "a = Div(x, root) e = Erf(a) b = Add(e, one) p = Mul(x, b) y = Mul(p, two)",
    ],
    ids=["another scale", "no factor x", "another factor"],
)
def test_what_is_no_gelu_stays(network_of, applied, body):
    network = network_of(head() + "{ " + body + " }", **used(body))
    report = applied(FuseGelu(), network)
    assert (report.changed, report.declined) == (0, ("Erf:e: what surrounds it is no Gelu of one value",))


def test_a_gelu_whose_middle_is_an_output_stays(network_of, applied):
    body = ERF["half last"]
    network = network_of(head(outputs="float[2,3,4] y, float[2,3,4] b") + "{ " + body + " }", **used(body))
    assert applied(FuseGelu(), network).changed == 0


@pytest.mark.parametrize("body", [ERF["half first"], TANH["power"]], ids=["erf", "tanh"])
@pytest.mark.parametrize("opset", [17, 20])
def test_a_product_takes_it_as_its_activation(network_of, applied, body, opset):
    source = f'<ir_version: 8, opset_import: ["" : {opset}]> agraph (float[2,3,4] z) => (float[2,3,5] y) '
    weights = np.random.default_rng(1).standard_normal((4, 5)).astype(np.float32)
    network = network_of(source + "{ x = MatMul(z, w) " + body + " }", w=weights, **used(body))
    FuseGelu().apply(network)
    applied(FuseEpilogues(gelu=True), network)
    assert [node.op_type for node in network.layers()] == ["FusedMatMul"]


def test_on_the_cpu_no_product_takes_a_gelu(network_of, applied):
    source = '<ir_version: 8, opset_import: ["" : 20]> agraph (float[2,3,4] z) => (float[2,3,5] y) '
    weights = np.random.default_rng(1).standard_normal((4, 5)).astype(np.float32)
    network = network_of(source + "{ x = MatMul(z, w) y = Gelu(x) }", w=weights)
    assert applied(FuseEpilogues(), network).changed == 0
