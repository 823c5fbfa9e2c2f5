"""Batch norm and per-channel constants disappear into weights, in every opset, or say why not."""

import numpy as np
import pytest

from enginewright_builder.network import layers
from enginewright_builder.passes.affine_into_weights import AffineIntoWeights

GENERATOR = np.random.default_rng(3)


def head(opset, x="2,4,5,5", y="2,6,5,5"):
    return f'<ir_version: 8, opset_import: ["" : {opset}]> agraph (float[{x}] x) => (float[{y}] y) '


def floats(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def statistics(channels):
    return {name: floats(channels) for name in "sbm"} | {"v": np.abs(floats(channels)) + np.float32(0.1)}


@pytest.mark.parametrize(
    ("opset", "attributes"),
    [(17, ""), (15, "<epsilon = 0.01>"), (14, "<training_mode = 0>"), (9, ""), (8, "<spatial = 1>"), (7, "")],
)
def test_a_batch_norm_after_a_convolution_goes_into_its_weights(network_of, applied, opset, attributes):
    network = network_of(
        head(opset) + f"{{ c = Conv<pads = [1, 1, 1, 1]>(x, w) y = BatchNormalization{attributes}(c, s, b, m, v) }}",
        w=floats(6, 4, 3, 3),
        **statistics(6),
    )
    assert applied(AffineIntoWeights(), network).changed == 1
    assert layers.count(network) == 1


def test_a_chain_of_scales_and_shifts_goes_into_weights_and_bias(network_of, applied):
    network = network_of(
        head(17) + "{ c = Conv<group = 2, pads = [1, 1, 1, 1]>(x, w, k) d = Mul(c, p) e = Add(q, d) "
        "f = Sub(e, r) y = Div(f, p) }",
        w=floats(6, 2, 3, 3),
        k=floats(6),
        p=floats(1, 6, 1, 1),
        q=floats(6, 1, 1),
        r=np.float32(0.5),
    )
    assert applied(AffineIntoWeights(), network).changed == 4
    assert layers.count(network) == 1


@pytest.mark.parametrize("group", [1, 2])
def test_a_transposed_convolution_scales_its_output_channels(network_of, applied, group):
    network = network_of(
        head(17, y="2,6,7,7") + f"{{ c = ConvTranspose<group = {group}>(x, w) y = BatchNormalization(c, s, b, m, v) }}",
        w=floats(4, 6 // group, 3, 3),
        **statistics(6),
    )
    assert applied(AffineIntoWeights(), network).changed == 1


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_keeps_its_alpha_and_folds_its_beta(network_of, applied, transposed):
    network = network_of(
        head(17, x="2,4", y="2,6") + f"{{ c = Gemm<alpha = 0.5, beta = 2.0, transB = {transposed}>(x, w, k) "
        "y = BatchNormalization(c, s, b, m, v) }",
        w=floats(6, 4) if transposed else floats(4, 6),
        k=floats(6),
        **statistics(6),
    )
    assert applied(AffineIntoWeights(), network).changed == 1


def test_a_matrix_product_takes_the_scale_and_leaves_the_shift(network_of, applied):
    network = network_of(
        head(17, x="2,4", y="2,6") + "{ c = MatMul(x, w) y = BatchNormalization(c, s, b, m, v) }",
        w=floats(4, 6),
        **statistics(6),
    )
    applied(AffineIntoWeights(), network)
    assert [node.op_type for node in network.layers()] == ["MatMul", "Add"]


def test_an_opset_in_which_constants_did_not_broadcast_is_declined(network_of):
    network = network_of(
        head(6) + "{ c = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w) "
        "y = Mul<broadcast = 1, axis = 1>(c, p) }",
        w=floats(6, 4, 3, 3),
        p=floats(6),
    )
    report = AffineIntoWeights().apply(network)
    assert report.declined == ("Conv:c + Mul:y: opset 6 is older than 7, where constants began to broadcast",)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("y = BatchNormalization(c, s, b, m, bad)", "its variance is not positive"),
        ("y = BatchNormalization(c, x0, b, m, v)", "its statistics are not constant"),
        ("y = Mul(c, places)", "its constant of shape [1, 1, 5, 5] is not one number for each channel"),
        ("y = Div(c, zeros)", "it divides by zero"),
        ("d = Relu(c) e = Mul(c, p) y = Add(d, e)", "the result between them is read elsewhere"),
    ],
)
def test_a_candidate_that_does_not_fit_is_declined_with_its_reason(network_of, body, why):
    network = network_of(
        '<ir_version: 8, opset_import: ["" : 17]> agraph (float[2,4,5,5] x, float[6] x0) => (float[2,6,5,5] y) '
        "{ c = Conv<pads = [1, 1, 1, 1]>(x, w) " + body + " }",
        w=floats(6, 4, 3, 3), p=floats(6, 1, 1), places=floats(1, 1, 5, 5), zeros=np.zeros((6, 1, 1), np.float32),
        bad=-np.ones(6, np.float32), **statistics(6),
    )  # fmt: skip
    report = AffineIntoWeights().apply(network)
    assert report.changed == 0
    assert [line.split(": ", 2)[-1] for line in report.declined] == [why]


def test_weights_that_two_layers_share_are_left_alone(network_of, applied):
    network = network_of(
        head(17)
        + "{ c = Conv<pads = [1, 1, 1, 1]>(x, w) d = Conv<pads = [1, 1, 1, 1]>(x, w) e = Mul(c, p) y = Add(d, e) }",
        w=floats(6, 4, 3, 3),
        p=floats(6, 1, 1),
    )
    assert applied(AffineIntoWeights(), network).declined == (
        "Conv:c + Mul:e: its weights are shared with another layer",
    )


def test_half_precision_weights_that_would_overflow_are_left_alone(network_of):
    network = network_of(
        '<ir_version: 8, opset_import: ["" : 17]> agraph (float16[2,4] x) => (float16[2,6] y) '
        "{ c = MatMul(x, w) y = Mul(c, p) }",
        w=np.full((4, 6), 300, np.float16),
        p=np.full(6, 300, np.float16),
    )
    report = AffineIntoWeights().apply(network)
    assert report.declined == ("MatMul:c + Mul:y: the new weights would not be finite in float16",)


def test_a_batch_norm_that_trains_is_left_alone(network_of):
    network = network_of(
        head(17) + "{ c = Conv<pads = [1, 1, 1, 1]>(x, w) "
        "y, rm, rv = BatchNormalization<training_mode = 1>(c, s, b, m, v) }",
        w=floats(6, 4, 3, 3),
        **statistics(6),
    )
    assert "it is in training mode" in AffineIntoWeights().apply(network).declined[0]


def test_the_new_weights_are_not_kept_beside_the_old(network_of):
    network = network_of(
        head(17) + "{ c = Conv<pads = [1, 1, 1, 1]>(x, w) y = BatchNormalization(c, s, b, m, v) }",
        w=floats(6, 4, 3, 3),
        **statistics(6),
    )
    AffineIntoWeights().apply(network)
    once, again = (network.constant(network.graph.initializers["w_folded"]) for _ in range(2))
    assert once is not again
    np.testing.assert_array_equal(once, again)
