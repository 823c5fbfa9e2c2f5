"""Folds over dimensions, wherever the axes come from."""

import numpy as np
import pytest

from enginewright_builder.device.operators.layer import Declined

FLOAT = ["ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
         "ReduceSumSquare"]  # fmt: skip


@pytest.mark.parametrize("operator", FLOAT)
@pytest.mark.parametrize("axes", [(0,), (-1,), (0, 2), (1, 2, 3)])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_fold_over_constant_axes(agrees, numbers, operator, axes, keepdims):
    agrees(operator, numbers(2, 3, 1, 5), np.int64(axes), constant=(1,), keepdims=keepdims, rtol=1e-5)


@pytest.mark.parametrize("operator", FLOAT)
def test_a_fold_over_axes_that_are_an_attribute(agrees, numbers, operator):
    agrees(operator, numbers(2, 3, 4), opset=11, axes=[-1, 0], rtol=1e-5)


def test_a_fold_without_axes_is_over_everything(agrees, numbers):
    agrees("ReduceSum", numbers(2, 3, 4), keepdims=0, rtol=1e-5)


def test_a_fold_without_axes_may_be_nothing(agrees, numbers):
    agrees("ReduceSum", numbers(2, 3), np.zeros(0, np.int64), constant=(1,), noop_with_empty_axes=1)


def test_axes_at_run_time_are_what_the_output_lost(agrees, numbers):
    agrees("ReduceSum", numbers(2, 3, 4), np.int64([1]), keepdims=0, rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_axes_at_run_time_are_looked_at_where_shapes_do_not_tell(agrees, numbers, axis):
    agrees("ReduceMax", numbers(3, 3, 3), np.int64([axis]), keepdims=0)


def test_too_many_choices_of_axes_are_declined(lowered, numbers):
    with pytest.raises(Declined, match="axes that the shapes do not tell"):
        lowered("ReduceMax", [numbers(2, 2, 2, 2, 2), np.int64([0, 1])], [("float32", (2, 2, 2))], keepdims=0)


@pytest.mark.parametrize(
    ("operator", "want"),
    [("ReduceSum", 0), ("ReduceProd", 1), ("ReduceMax", -np.inf), ("ReduceMin", np.inf), ("ReduceLogSumExp", -np.inf)],
)
def test_a_fold_over_nothing_is_the_neutral_element(lowered, operator, want):
    axes = np.int64([1])
    (y,) = lowered(operator, [np.zeros((2, 0), np.float32), axes], [("float32", (2, 1))], constant=(1,))
    assert y.tolist() == [[want], [want]]


def test_a_logarithm_of_a_sum_of_exponentials_does_not_overflow(lowered):
    (y,) = lowered("ReduceLogSumExp", [np.float32([[1000, 1000]])], [("float32", (1, 1))], axes=(1,), opset=13)
    np.testing.assert_allclose(y, 1000 + np.log(2), rtol=1e-6)


@pytest.mark.parametrize("operator", ["ReduceMax", "ReduceMin"])
def test_the_extreme_of_conditions_is_one(agrees, numbers, operator):
    agrees(operator, numbers(4, 5, dtype=np.bool_), np.int64([1]), constant=(1,), opset=20)


@pytest.mark.parametrize("operator", ["ReduceSum", "ReduceProd", "ReduceMin", "ReduceMean"])
def test_whole_numbers_stay_whole(agrees, numbers, operator):
    agrees(operator, numbers(3, 5, dtype=np.int32), np.int64([1]), constant=(1,), opset=18)


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize(("axis", "keepdims"), [(0, 1), (1, 0), (-1, 1)])
def test_the_first_or_last_of_equal_extremes_is_found(agrees, numbers, operator, last, axis, keepdims):
    x = numbers(3, 7, 4, dtype=np.int32)
    agrees(operator, x // 4, axis=axis, keepdims=keepdims, select_last_index=last)
