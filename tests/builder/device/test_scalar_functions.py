"""What each function means, where NumPy's own answer is not it; and that the CUDA table has every one of them."""

import numpy as np
import pytest

from enginewright_builder.device import cuda_functions
from enginewright_builder.device.scalar_functions import FUNCTIONS


@pytest.mark.parametrize(
    ("function", "want"), [("//", [3, -3, -3, 3]), ("floordiv", [3, -4, -4, 3]), ("%", [1, -1, 1, -1]),
                           ("mod", [1, 1, -1, -1])],
)  # fmt: skip
def test_whole_numbers_are_divided_in_four_ways(function, want):
    a, b = np.int32([7, -7, 7, -7]), np.int32([2, 2, -2, -2])
    assert FUNCTIONS[function](a, b).tolist() == want


@pytest.mark.parametrize("function", ["min", "max"])
def test_a_not_a_number_wins(function):
    assert np.isnan(FUNCTIONS[function](np.float32(1), np.float32(np.nan)))


def test_halves_are_rounded_to_even():
    assert FUNCTIONS["round_even"](np.float32([0.5, 1.5, -2.5])).tolist() == [0, 2, -2]


def test_every_function_can_be_said_in_cuda():
    assert set(FUNCTIONS) - cuda_functions.functions() == set()
