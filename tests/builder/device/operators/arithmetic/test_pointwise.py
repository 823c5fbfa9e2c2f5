"""Formulas of one element, against ONNX Runtime and against what the specification says at the edges."""

import numpy as np
import pytest

from enginewright_builder.device.operators.layer import Declined

UNARY = [
    "Abs", "Asinh", "Atan", "Celu", "Ceil", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish",
    "LeakyRelu", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh",
    "Softplus", "Softsign", "Tan", "Tanh", "ThresholdedRelu", "Gelu", "Identity",
]  # fmt: skip


@pytest.mark.parametrize("operator", UNARY)
def test_a_function_of_one_number_is_onnx_runtimes(agrees, numbers, operator):
    x = np.concatenate([numbers(37) * 3, np.float32([0, -0.0, 0.5, 1.5, 2.5, -0.5, 20, -20])])
    agrees(operator, x, rtol=2e-5)


@pytest.mark.parametrize("operator", ["Acos", "Asin", "Atanh"])
def test_a_function_on_the_unit_interval_is_onnx_runtimes(agrees, operator):
    agrees(operator, np.linspace(-0.99, 0.99, 23, dtype=np.float32), rtol=1e-5)


@pytest.mark.parametrize("operator", ["Log", "Sqrt", "Acosh"])
def test_a_function_of_large_numbers_is_onnx_runtimes(agrees, operator):
    agrees(operator, np.linspace(1, 400, 23, dtype=np.float32), rtol=1e-5)


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean"])
def test_two_inputs_broadcast_both_ways(agrees, numbers, operator):
    agrees(operator, abs(numbers(3, 1, 5)) + 1, numbers(7, 1), rtol=1e-5)


@pytest.mark.parametrize("operator", ["Elu", "Celu", "HardSigmoid", "LeakyRelu", "ThresholdedRelu"])
def test_an_attribute_is_heard(agrees, numbers, operator):
    agrees(operator, numbers(31), alpha=0.3, rtol=1e-5)


def test_gelu_in_its_other_form_is_approximated_by_a_tanh(agrees, numbers):
    agrees("Gelu", numbers(31), approximate="tanh", rtol=1e-5)


def test_softplus_does_not_overflow(lowered):
    (y,) = lowered("Softplus", [np.float32([1000, -1000])], [("float32", (2,))])
    assert y.tolist() == [1000, 0]


@pytest.mark.parametrize("operator", ["Max", "Min"])
def test_a_not_a_number_wins(lowered, operator):
    x, y = np.float32([1, np.nan, 2]), np.float32([np.nan, 1, 3])
    (z,) = lowered(operator, [x, y], [("float32", (3,))])
    assert np.isnan(z).tolist() == [True, True, False]


def test_whole_numbers_are_divided_towards_zero(lowered):
    (y,) = lowered("Div", [np.int32([7, -7, 7, -7]), np.int32([2, 2, -2, -2])], [("int32", (4,))])
    assert y.tolist() == [3, -3, -3, 3]


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8])
def test_whole_numbers_wrap(lowered, dtype):
    largest = np.array([np.iinfo(dtype).max], dtype)
    (y,) = lowered("Add", [largest, np.ones(1, dtype)], [(np.dtype(dtype).name, (1,))])
    assert y.tolist() == [np.iinfo(dtype).min]


@pytest.mark.parametrize(("fmod", "dtype"), [(0, np.int32), (1, np.int32), (1, np.float32), (0, np.int8)])
def test_a_remainder_has_the_sign_that_is_asked_for(agrees, fmod, dtype):
    agrees("Mod", np.array([7, -7, 7, -7, 4], dtype), np.array([3, 3, -3, -3, 2], dtype), fmod=fmod)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0, 0.5, -1.0])
def test_a_constant_exponent_gives_what_one_at_run_time_gives(agrees, numbers, exponent):
    agrees("Pow", abs(numbers(17)), np.float32([exponent]), constant=(1,), rtol=1e-5)


def test_a_power_of_whole_numbers_is_exact(agrees):
    agrees("Pow", np.int64([2, -3, 10]), np.int64([40, 3, 12]))


@pytest.mark.parametrize("bounds", [(-1, 1), (-1, None), (None, 1), (2, -2)])
@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_clip_takes_the_bounds_that_there_are(agrees, numbers, bounds, dtype):
    low, high = (None if bound is None else np.array(bound, dtype) for bound in bounds)
    agrees("Clip", numbers(29, dtype=dtype), low, high)


def test_clip_had_attributes_before_opset_11(agrees, numbers):
    agrees("Clip", numbers(29), opset=6, min=-0.5, max=0.25)


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.uint64])
def test_bits_are_shifted(agrees, direction, dtype):
    agrees("BitShift", np.array([16, 4, 255, 1], dtype), np.array([1, 2, 3, 7], dtype), direction=direction)


@pytest.mark.parametrize("operator", ["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
def test_bits_are_joined(agrees, numbers, operator):
    agrees(operator, numbers(5, 3, dtype=np.int16), numbers(3, dtype=np.int16, seed=4))


def test_a_slope_for_each_channel_broadcasts(agrees, numbers):
    agrees("PRelu", numbers(2, 3, 5, 7), numbers(3, 1, 1))


def test_before_opset_7_a_slope_of_one_dimension_is_one_a_channel(lowered, numbers):
    x, slope = numbers(2, 3, 5), numbers(3)
    (y,) = lowered("PRelu", [x, slope], [("float32", (2, 3, 5))], opset=6)
    np.testing.assert_array_equal(y, np.where(x < 0, x * slope[:, None], x))


def test_half_numbers_are_computed_in_single_precision_and_rounded_once(lowered):
    x = np.float16([1e-4, 3.3, 100])
    (y,) = lowered("Sigmoid", [x], [("float16", (3,))])
    assert y.tolist() == (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float16).tolist()


def test_before_opset_7_an_axis_says_where_the_second_input_stands(lowered, numbers):
    x, y = numbers(2, 3, 4), numbers(3)
    (z,) = lowered("Add", [x, y], [("float32", (2, 3, 4))], opset=6, broadcast=1, axis=1)
    np.testing.assert_array_equal(z, x + y[:, None])


def test_where_chooses_with_three_shapes(agrees, numbers):
    agrees("Where", numbers(3, 1, dtype=np.bool_), numbers(1, 4), numbers(2, 1, 1))


def test_dropout_drops_nothing_and_its_mask_says_so(lowered, numbers):
    x = numbers(5)
    y, mask = lowered("Dropout", [x], [("float32", (5,)), ("bool", (5,))])
    assert (y == x).all()
    assert mask.all()


def test_dropout_that_may_train_is_declined(lowered, numbers):
    with pytest.raises(Declined, match="told to train"):
        lowered("Dropout", [numbers(5), np.float32(0.5), np.array(True)], [("float32", (5,))])


def test_dropout_of_nothing_may_train(lowered, numbers):
    x = numbers(5)
    (y,) = lowered("Dropout", [x, np.float32(0), np.array(True)], [("float32", (5,))], constant=(1,))
    assert (y == x).all()
