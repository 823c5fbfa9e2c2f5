"""A picture is flattened as it lies, and the weights after it are reordered."""

import numpy as np
import pytest

from enginewright_builder.device import layout
from enginewright_builder.passes.flatten_pixels import FlattenPixels

GENERATOR = np.random.default_rng(23)
CONV = "a = Conv(x, w) r = Relu(a) "


def floats(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def network(network_of, body, x="2,4,3,3", outputs="float[2,6] y", **more):
    head = f'<ir_version: 8, opset_import: ["" : 17]> agraph (float[{x}] x) => ({outputs}) '
    return network_of(head + "{ " + body + " }", w=floats(4, 4, 1, 1), **more)


@pytest.mark.parametrize(
    ("product", "shape"),
    [("Gemm(f, v)", (36, 6)), ("Gemm<transB = 1>(f, v)", (6, 36)), ("MatMul(f, v)", (36, 6))],
    ids=["Gemm", "transposed", "MatMul"],
)
def test_no_copy_is_left_between_pixels_and_product(network_of, applied, product, shape):
    net = network(network_of, CONV + f"f = Flatten(r) y = {product}", v=floats(*shape))
    assert applied(FlattenPixels(), net).changed == 1
    assert set(layout.executed_kinds(net, layout.assign(net))) == {"Conv", "Relu", product.split("(")[0].split("<")[0]}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (CONV + "f = Flatten(r) y = Abs(f)", "Abs reads it, which has no weights to reorder"),
        (CONV + "f = Flatten(r) g = Gemm(f, v) z = Neg(f) y = Abs(g)", "not one layer alone reads it"),
    ],
)
def test_a_flattening_for_others_is_declined(network_of, applied, body, why):
    outputs = "float[2,36] y" if "Gemm" not in body else "float[2,6] y, float[2,36] z"
    net = network(network_of, body, outputs=outputs, **({"v": floats(36, 6)} if "Gemm" in body else {}))
    assert applied(FlattenPixels(), net).declined == (f"Flatten:f: {why}",)


def test_one_pixel_needs_nothing(network_of, applied):
    net = network(network_of, CONV + "f = Flatten(r) y = Gemm(f, v)", x="2,4,1,1", v=floats(4, 6))
    assert applied(FlattenPixels(), net).changed == 0


def test_what_no_convolution_made_stays(network_of, applied):
    net = network(network_of, "z = Conv(x, w) f = Flatten(x) y = Gemm(f, v)", v=floats(36, 6),
                  outputs="float[2,6] y, float[2,4,3,3] z")  # fmt: skip
    assert applied(FlattenPixels(), net).changed == 0
