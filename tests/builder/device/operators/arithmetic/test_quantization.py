"""Scales and zero points per tensor, per axis and per block, and where rounding and saturation bite."""

import numpy as np
import pytest


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_numbers_are_rounded_to_even_shifted_and_saturated(agrees, dtype):
    x = np.float32([0, 1.25, 3.75, -1.25, 1e6, -1e6, 0.2])
    agrees("QuantizeLinear", x, np.float32(0.5), np.array(3, dtype))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_each_place_of_an_axis_has_its_scale(agrees, numbers, axis):
    x = numbers(3, 4, 5) * 20
    size = x.shape[axis]
    agrees("QuantizeLinear", x, abs(numbers(size)) + 0.1, numbers(size, dtype=np.int8), axis=axis)


def test_each_block_of_an_axis_has_its_scale(agrees, numbers):
    agrees("QuantizeLinear", numbers(3, 8) * 9, abs(numbers(3, 2)) + 0.1, numbers(3, 2, dtype=np.uint8), axis=1,
           block_size=4)  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
def test_integers_become_numbers_again(agrees, numbers, dtype):
    zero = None if dtype is np.int32 else np.array(3, dtype)
    agrees("DequantizeLinear", numbers(3, 7, dtype=dtype), np.float32(0.3), zero)


def test_blocks_of_integers_become_numbers_again(agrees, numbers):
    agrees("DequantizeLinear", numbers(6, 5, dtype=np.int8), numbers(2, 5), numbers(2, 5, dtype=np.int8), axis=0,
           block_size=3)  # fmt: skip


@pytest.mark.parametrize("x", [[0, 2, -3, -2.5, 1.34, 0.5], [1, 2.1, 1.3, 2.5], [-1, -2.1]])
def test_a_scale_is_made_of_the_extremes_and_zero(agrees, x):
    agrees("DynamicQuantizeLinear", np.float32(x), outputs=3)


def test_zeros_alone_have_a_scale_of_one(lowered):
    y, scale, zero = lowered(
        "DynamicQuantizeLinear", [np.zeros(3, np.float32)], [("uint8", (3,)), ("float32", ()), ("uint8", ())]
    )
    assert (y.tolist(), float(scale), int(zero)) == ([0, 0, 0], 1.0, 0)
