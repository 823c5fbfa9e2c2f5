"""Casts: ONNX's rules for each pair of kinds, float8's table of what does not fit included."""

import ml_dtypes
import numpy as np
import pytest

SPECIAL = np.float32([0, -0.0, 1.5, -2.5, 1e9, -1e9, np.inf, -np.inf, np.nan, 0.1])


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_numbers_lose_their_fraction(lowered, dtype):
    (y,) = lowered("Cast", [np.float32([1.9, -1.9, 0.5])], [(np.dtype(dtype).name, (3,))])
    assert y.tolist() == [1, -1, 0]


def test_a_number_that_does_not_fit_an_integer_becomes_the_nearest(lowered):
    (y,) = lowered("Cast", [np.float32([1e20, -1e20, np.nan])], [("int32", (3,))])
    assert y.tolist() == [2**31 - 1, -(2**31), 0]


def test_integers_wrap_into_narrower_ones(agrees, numbers):
    agrees("Cast", np.int32([300, -1, 128]), to=2)


def test_everything_but_zero_is_true(lowered):
    (y,) = lowered("Cast", [np.float32([0, -0.0, 0.1, np.nan])], [("bool", (4,))])
    assert y.tolist() == [False, False, True, True]


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_numbers_are_rounded_to_even(lowered, name):
    x = np.float32([1 + 2**-11, 1 + 2**-8, 1 + 3 * 2**-8, 65519, 1e30])
    (y,) = lowered("Cast", [x], [(name, (5,))])
    with np.errstate(over="ignore"):
        want = x.astype(getattr(ml_dtypes, name, np.float16) if name == "bfloat16" else np.float16)
    assert y.tobytes() == want.tobytes()


def test_a_double_is_rounded_once_on_its_way_to_half(lowered):
    x = np.array([1 + 2**-11 + 2**-40])  # to float32 first, it would lie between two halves and go down
    assert lowered("Cast", [x], [("float16", (1,))])[0][0] == np.float16(1 + 2**-10)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"])
def test_what_is_too_large_for_float8_becomes_the_largest(lowered, name):
    (y,) = lowered("Cast", [SPECIAL], [(name, (10,))], saturate=1)
    largest = float(ml_dtypes.finfo(name).max)
    assert y.astype(np.float32).tolist()[4:8] == [largest, -largest, largest, -largest]
    assert np.isnan(y.astype(np.float32)[8])


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_without_saturation_what_is_too_large_for_float8_is_lost(lowered, name):
    (y,) = lowered("Cast", [SPECIAL], [(name, (10,))], saturate=0)
    assert not np.isfinite(y.astype(np.float32)[4:9]).any()


def test_cast_like_takes_the_type_of_the_other_input(lowered):
    (y,) = lowered("CastLike", [np.float32([2.7]), np.int8([0])], [("int8", (1,))])
    assert y.tolist() == [2]
