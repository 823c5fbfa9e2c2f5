"""Normalizations on odd shapes, with the outputs beside the first one."""

import numpy as np
import pytest

from enginewright_builder.device.operators.layer import Declined


@pytest.mark.parametrize("axis", [1, -1, 2])
def test_layers_are_normalized_and_say_with_what(agrees, numbers, axis):
    x = numbers(2, 3, 7)
    shape = x.shape[axis % 3 :]
    agrees("LayerNormalization", x, numbers(*shape), numbers(*shape), outputs=3, axis=axis, epsilon=1e-3, rtol=1e-5,
           atol=1e-5)  # fmt: skip


def test_a_mean_square_is_enough_for_some(lowered, numbers):
    x, scale = numbers(3, 7), numbers(7)
    (y,) = lowered("RMSNormalization", [x, scale], [("float32", (3, 7))], opset=23)
    want = x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + 1e-5) * scale
    np.testing.assert_allclose(y, want, rtol=1e-5)


def test_instances_are_normalized(agrees, numbers):
    agrees("InstanceNormalization", numbers(2, 3, 5, 7), numbers(3), numbers(3, seed=4), rtol=1e-5, atol=1e-5)


def test_groups_have_a_scale_for_each_channel(agrees, numbers):
    agrees("GroupNormalization", numbers(2, 6, 5), numbers(6), numbers(6, seed=4), num_groups=3, rtol=1e-5, atol=1e-5)


def test_groups_had_a_scale_for_each_group_before(lowered, numbers):
    x, scale, bias = numbers(2, 6, 5), numbers(3), numbers(3, seed=4)
    (y,) = lowered("GroupNormalization", [x, scale, bias], [("float32", (2, 6, 5))], opset=18, num_groups=3)
    parts = x.reshape(2, 3, 10).astype(np.float64)
    normal = (parts - parts.mean(-1, keepdims=True)) / np.sqrt(parts.var(-1, keepdims=True) + 1e-5)
    want = normal * scale[:, None] + bias[:, None]
    np.testing.assert_allclose(y, want.reshape(2, 6, 5), rtol=1e-4, atol=1e-5)


def test_batches_are_normalized_with_what_was_learned(agrees, numbers):
    agrees("BatchNormalization", numbers(2, 3, 5), numbers(3), numbers(3, seed=4), numbers(3, seed=5),
           abs(numbers(3, seed=6)), rtol=1e-4, atol=1e-5)  # fmt: skip


def test_statistics_for_each_position_are_declined(lowered, numbers):
    with pytest.raises(Declined, match="statistics for each position"):
        lowered("BatchNormalization", [numbers(2, 3)] * 5, [("float32", (2, 3))], opset=7, spatial=0)


@pytest.mark.parametrize("p", [1, 2])
def test_vectors_get_the_norm_one(agrees, numbers, p):
    agrees("LpNormalization", numbers(3, 5, 7), axis=1, p=p, rtol=1e-5)


def test_a_vector_of_zeros_stays_one(lowered):
    (y,) = lowered("LpNormalization", [np.zeros((1, 3), np.float32)], [("float32", (1, 3))])
    assert y.tolist() == [[0, 0, 0]]


def test_mean_and_variance_are_taken_out(agrees, numbers):
    agrees("MeanVarianceNormalization", numbers(2, 3, 4, 5), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [3, 5])
def test_neighbouring_channels_damp(agrees, numbers, size):
    agrees("LRN", numbers(2, 7, 3, 3) * 9, size=size, alpha=0.5, beta=0.6, bias=2.0, rtol=1e-5)
