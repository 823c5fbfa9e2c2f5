"""Weights in half types: always a neighbour, errors that cancel, and what is special left alone."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from enginewright_builder.passes import balanced_rounding
from enginewright_builder.passes.balanced_rounding import balanced, form
from enginewright_builder.passes.precision import NarrowFloats

HALF = [ir.DataType.FLOAT16, ir.DataType.BFLOAT16]
GENERATOR = np.random.default_rng(5)
SHAPES = {"Conv": (24, 40, 3, 3), "ConvTranspose": (64, 24, 2, 2), "MatMul": (300, 20), "Gemm": (300, 20),
          "Gemm, transB": (20, 300)}  # fmt: skip


def drawn(*shape):
    return (GENERATOR.standard_normal(shape) * 0.05).astype(np.float32)


def errors(weights, dtype, of):
    """(places, outputs, inputs) of rounding to nearest, and of balanced rounding."""
    made = (weights.astype(dtype.numpy()), balanced(weights, dtype, of))
    return [balanced_rounding.FORMS[of](each.astype(np.float64) - weights.astype(np.float64)) for each in made]


def ordered(array):
    """A half type's numbers as integers in their order."""
    bits = array.view(np.int16).astype(np.int32)
    return np.where(bits < 0, -(bits & 0x7FFF), bits)


def assert_neighbours(weights, made):
    """Each number is exact, or the next one up or down of the type."""
    wide = made.astype(np.float32)
    nearest = weights.astype(made.dtype)
    steps = ordered(made) - ordered(nearest)
    assert np.abs(steps).max(initial=0) <= 1
    below = nearest.astype(np.float32) < weights
    assert (steps[below] >= 0).all()
    assert (steps[nearest.astype(np.float32) > weights] <= 0).all()
    assert (wide == weights)[nearest.astype(np.float32) == weights].all()


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("of", SHAPES)
def test_each_weight_becomes_one_of_its_two_neighbours(of, dtype):
    weights = drawn(*SHAPES[of])
    made = balanced(weights, dtype, of)
    assert (made.dtype, made.shape) == (dtype.numpy(), weights.shape)
    assert_neighbours(weights, made)


@pytest.mark.filterwarnings("ignore:overflow")  # of rounding to nearest, which this is held against
@settings(max_examples=60, deadline=None)
@given(
    weights=arrays.arrays(
        np.float32, arrays.array_shapes(min_dims=4, max_dims=4, max_side=5), elements=st.floats(-65000, 65000, width=32)
    ),
    dtype=st.sampled_from(HALF),
)
def test_so_does_any_number(weights, dtype):
    assert_neighbours(weights, balanced(weights, dtype, "Conv"))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("of", SHAPES)
def test_the_errors_of_an_output_cancel(of, dtype):
    nearest, made = errors(drawn(*SHAPES[of]), dtype, of)
    assert np.abs(made.sum((0, 2))).mean() < 0.2 * np.abs(nearest.sum((0, 2))).mean()
    assert np.square(made).sum() < 1.15 * np.square(nearest).sum()


@pytest.mark.parametrize("dtype", HALF)
def test_the_errors_of_a_window_cancel(dtype):
    nearest, made = errors(drawn(24, 40, 3, 3), dtype, "Conv")
    assert np.square(made.sum(0)).sum() < 0.1 * np.square(nearest.sum(0)).sum()


def test_results_of_positive_inputs_are_nearer():
    weights, x = drawn(64, 512), np.abs(GENERATOR.standard_normal((100, 512)))
    nearest, made = (np.sqrt(np.square(x @ each[0].T).mean()) for each in errors(weights, HALF[0], "Gemm, transB"))
    assert made < 0.7 * nearest


@pytest.mark.parametrize("dtype", HALF)
def test_what_is_special_stays(dtype):
    kept = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.5, -0.25, 1e-45, 2.0**-24, 2.0**-133], np.float32)
    weights = np.concatenate([kept[None], drawn(1, 10)])
    made = balanced(weights, dtype, "MatMul")[0].astype(np.float32)
    np.testing.assert_array_equal(made[:7], kept[:7])
    assert np.signbit(made[1])
    assert_neighbours(kept[7:], made[7:].astype(dtype.numpy()))


def test_a_number_that_is_not_finite_spoils_no_other_output():
    weights = drawn(8, 100)
    spoilt = weights.copy()
    spoilt[3, 7] = np.nan
    made, other = (balanced(each, HALF[0], "Gemm, transB") for each in (weights, spoilt))
    np.testing.assert_array_equal(np.delete(made, 3, 0), np.delete(other, 3, 0))
    assert np.isfinite(np.delete(other[3], 7)).all()


def test_what_rounds_to_infinity_still_does():
    weights = np.full((1, 4), 65504, np.float32)
    weights[0, 0] = 65519.9
    np.testing.assert_array_equal(balanced(weights, HALF[0], "MatMul"), np.full((1, 4), 65504, np.float16))


def test_zeros_of_a_pruned_matrix_stay_and_the_rest_is_balanced():
    weights = drawn(20, 3000)
    weights[:, GENERATOR.permutation(3000)[:2700]] = 0
    nearest, made = errors(weights, HALF[0], "Gemm, transB")
    assert not made[0][weights == 0].any()
    assert np.abs(made.sum((0, 2))).mean() < 0.2 * np.abs(nearest.sum((0, 2))).mean()


def test_the_same_weights_are_rounded_the_same_on_any_number_of_processors(monkeypatch):
    weights = drawn(300, 200, 3, 3)
    made = []
    for processors in (1, 5):
        monkeypatch.setattr(balanced_rounding.available, "processors", lambda count=processors: count)
        made.append(balanced(weights, HALF[0], "Conv"))
    np.testing.assert_array_equal(made[0], made[1])


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1)])
def test_nothing_and_one_number_are_weights_too(shape):
    weights = drawn(*shape)
    np.testing.assert_array_equal(balanced(weights, HALF[0], "MatMul"), weights.astype(np.float16))


SOURCE = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[4,6] x) => (float[4,6] y) '


def forms(network):
    return {
        name: form((use.node, use.idx) for use in value.uses()) for name, value in network.graph.initializers.items()
    }


def test_only_what_is_summed_over_has_a_form(network_of):
    network = network_of(
        SOURCE + "{ a = MatMul(x, w) b = Gemm<transB = 1>(a, v, c) d = Add(b, k) e = MatMul(d, t) f = Gather(t, i) "
        "g = MatMul(f, u) y = Add(e, g) }",
        w=drawn(6, 6), v=drawn(6, 6), c=drawn(6), k=drawn(6), t=drawn(6, 6), i=np.arange(4), u=drawn(6, 6),
    )  # fmt: skip
    assert forms(network) == {"w": "MatMul", "v": "Gemm, transB", "c": "", "k": "", "t": "", "i": "", "u": "MatMul"}


def test_a_grouped_transposed_convolution_has_none(network_of):
    network = network_of(
        '<ir_version: 8, opset_import: ["" : 17]> agraph (float[1,4,5,5] x) => (float[1,4,7,7] y) '
        "{ y = ConvTranspose<group = 2>(x, w) }",
        w=drawn(4, 2, 3, 3),
    )
    assert forms(network) == {"w": ""}


def test_the_pass_for_half_types_rounds_weights_so(network_of, near):
    weights = drawn(6, 6)
    network = network_of(SOURCE + "{ a = Relu(x) y = MatMul(a, w) }", w=weights)
    near(NarrowFloats(), network)
    (made,) = (value.const_value.numpy() for value in network.graph.initializers.values())
    np.testing.assert_array_equal(made, balanced(weights, HALF[0], "MatMul"))
