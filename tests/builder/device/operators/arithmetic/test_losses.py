"""Losses with weights, ignored targets and every reduction."""

import numpy as np
import pytest


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [{}, {"ignore_index": 2}])
def test_the_targets_logarithm_is_the_loss(agrees, numbers, reduction, weighted, ignored):
    target = np.arange(10).reshape(2, 5) % 4
    weights = [abs(numbers(4))] if weighted else []
    agrees("NegativeLogLikelihoodLoss", numbers(2, 4, 5), target, *weights, reduction=reduction, **ignored, rtol=1e-5)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_a_loss_of_scores_gives_their_log_softmax_too(agrees, numbers, reduction):
    target = np.arange(6).reshape(2, 3) % 5
    agrees("SoftmaxCrossEntropyLoss", numbers(2, 5, 3), target, outputs=2, reduction=reduction, rtol=1e-5)


def test_a_target_that_is_no_class_counts_nothing_where_it_is_ignored(lowered, numbers):
    target = np.int64([0, -1])
    (y,) = lowered(
        "SoftmaxCrossEntropyLoss", [numbers(2, 3), target], [("float32", (2,))], reduction="none", ignore_index=-1
    )
    assert y[1] == 0
    assert y[0] > 0
