"""Running folds, and elements in order."""

import numpy as np
import pytest


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("constant", [(1,), ()])
def test_a_running_sum_along_any_axis(agrees, numbers, exclusive, reverse, axis, constant):
    agrees("CumSum", numbers(2, 5, 3), np.array(axis, np.int64), constant=constant, exclusive=exclusive,
           reverse=reverse, rtol=1e-5)  # fmt: skip


def test_a_running_product(lowered, numbers):
    x = numbers(2, 5)
    (y,) = lowered("CumProd", [x, np.array(1, np.int64)], [("float32", (2, 5))], constant=(1,))
    np.testing.assert_allclose(y, np.cumprod(x, axis=1), rtol=1e-5)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_greatest_come_in_order_with_their_places(agrees, numbers, largest, axis):
    agrees("TopK", numbers(4, 7, 5), np.int64([3]), outputs=2, axis=axis, largest=largest)


@pytest.mark.parametrize("largest", [0, 1])
def test_equal_ones_keep_their_order(agrees, largest):
    agrees("TopK", np.float32([[1, 2, 2, 1, 2]]), np.int64([4]), outputs=2, largest=largest)
