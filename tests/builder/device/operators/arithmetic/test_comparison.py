"""Comparisons give bool, and nothing compares with a NaN."""

import numpy as np
import pytest


@pytest.mark.parametrize("operator", ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8])
def test_a_comparison_broadcasts(agrees, numbers, operator, dtype):
    agrees(operator, numbers(3, 5, dtype=dtype), numbers(5, dtype=dtype, seed=4), opset=18)


@pytest.mark.parametrize("operator", ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
def test_nothing_compares_with_what_is_not_a_number(lowered, operator):
    (y,) = lowered(operator, [np.float32([np.nan]), np.float32([np.nan])], [("bool", (1,))])
    assert y.tolist() == [False]


@pytest.mark.parametrize("operator", ["And", "Or", "Xor"])
def test_logic_is_onnx_runtimes(agrees, numbers, operator):
    agrees(operator, numbers(9, dtype=np.bool_), numbers(9, dtype=np.bool_, seed=5))


def test_not_is_the_other(lowered):
    assert lowered("Not", [np.array([True, False])], [("bool", (2,))])[0].tolist() == [False, True]


@pytest.mark.parametrize(("negative", "positive"), [(1, 1), (0, 1), (1, 0), (0, 0)])
def test_an_infinity_is_found_on_the_sides_that_are_asked_for(agrees, negative, positive):
    x = np.float32([np.inf, -np.inf, np.nan, 1])
    agrees("IsInf", x, detect_negative=negative, detect_positive=positive)


def test_what_is_not_a_number_is_found(agrees):
    agrees("IsNaN", np.float16([np.inf, np.nan, 0]))
