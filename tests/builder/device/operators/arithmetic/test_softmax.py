"""Softmax and its kin over one dimension, or over all that follow in old models."""

import numpy as np
import pytest


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_dimension_is_normalized(agrees, numbers, operator, axis):
    agrees(operator, numbers(3, 7, 5), axis=axis, rtol=1e-5)


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_before_opset_13_all_that_follow_are_one_dimension(agrees, numbers, operator, axis):
    agrees(operator, numbers(2, 3, 5), opset=11, axis=axis, rtol=1e-5)


def test_large_numbers_do_not_overflow(lowered):
    (y,) = lowered("Softmax", [np.float32([[1e4, 1e4, -1e4]])], [("float32", (1, 3))])
    assert y.tolist() == [[0.5, 0.5, 0]]


def test_the_first_of_equal_ones_is_the_hard_maximum(lowered):
    (y,) = lowered("Hardmax", [np.float32([[3, 1, 3]])], [("float32", (1, 3))])
    assert y.tolist() == [[1, 0, 0]]
