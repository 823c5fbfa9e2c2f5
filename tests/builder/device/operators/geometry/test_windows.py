"""Convolutions and pooling over windows of all ranks, against ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Agrees = Callable[..., None]
_random = np.random.default_rng(6)


def numbers(*shape: int) -> Any:
    return _random.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ((1, 3, 7), (4, 3, 3), {"strides": [2], "pads": [1, 2]}),
        ((2, 4, 7, 5), (6, 2, 3, 2), {"group": 2, "dilations": [2, 1], "pads": [1, 0, 2, 1]}),
        ((1, 3, 5, 5), (6, 1, 3, 3), {"group": 3, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((1, 2, 6, 5), (2, 2, 2, 2), {"auto_pad": "SAME_LOWER"}),
        ((1, 2, 6, 5), (2, 2, 2, 3), {"auto_pad": "VALID", "strides": [3, 1]}),
        ((1, 2, 4, 5, 3), (3, 2, 2, 3, 1), {"pads": [1, 1, 0, 0, 1, 0], "strides": [1, 2, 1]}),
        ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    ],
)
def test_convolutions_agree(agrees: Agrees, x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any]) -> None:
    agrees("Conv", [numbers(*x), numbers(*w), numbers(w[0])], settled=[1, 2], **attributes)


@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ((1, 3, 4), (3, 2, 3), {"strides": [2], "output_padding": [1]}),
        ((1, 4, 3, 4), (4, 3, 3, 2), {"group": 2, "strides": [2, 3], "pads": [1, 0, 0, 1]}),
        ((2, 2, 3, 3), (2, 3, 2, 3), {"dilations": [2, 3], "strides": [2, 1]}),
        ((1, 2, 3, 3), (2, 3, 3, 3), {"strides": [3, 2], "output_shape": [9, 7]}),
        ((1, 2, 3, 3), (2, 3, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        ((1, 2, 3, 3), (2, 3, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
        ((1, 2, 2, 3, 2), (2, 1, 2, 2, 3), {"strides": [1, 2, 2]}),
    ],
)
def test_transposed_convolutions_agree(
    agrees: Agrees, x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    bias = numbers(w[1] * attributes.get("group", 1))
    agrees("ConvTranspose", [numbers(*x), numbers(*w), bias], settled=[1, 2], **attributes)


def test_an_integer_convolution_pads_with_the_zero_point(agrees: Agrees) -> None:
    x, w = _random.integers(0, 255, (1, 2, 5, 5)).astype(np.uint8), _random.integers(0, 255, (3, 2, 3, 3))
    zeros = np.array(7, np.uint8), np.array(3, np.uint8)
    agrees("ConvInteger", [x, w.astype(np.uint8), *zeros], settled=[1, 2, 3], pads=[1, 1, 1, 1])


def test_a_quantized_convolution_rounds_and_saturates(agrees: Agrees) -> None:
    x, w = _random.integers(0, 255, (1, 2, 6, 5)).astype(np.uint8), _random.integers(-99, 99, (3, 2, 3, 3))
    scales = np.float32(0.02), np.array([0.01, 0.02, 0.03], np.float32), np.float32(0.5)
    given = [x, np.array(scales[0]), np.array(9, np.uint8), w.astype(np.int8), scales[1], np.zeros(3, np.int8),
             np.array(scales[2]), np.array(100, np.uint8), _random.integers(-500, 500, 3).astype(np.int32)]  # fmt: skip
    agrees("QLinearConv", given, settled=range(1, 9), strides=[2, 1])


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize(
    ("x", "attributes"),
    [
        ((1, 2, 9), {"kernel_shape": [3], "strides": [2], "pads": [1, 0]}),
        ((2, 1, 7, 8), {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 1, 1], "ceil_mode": 1}),
        ((1, 2, 7, 8), {"kernel_shape": [2, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((1, 2, 7, 8), {"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER"}),
        ((1, 1, 4, 5, 6), {"kernel_shape": [2, 2, 3], "strides": [2, 1, 3]}),
        ((1, 1, 8, 8), {"kernel_shape": [3, 2], "dilations": [2, 3], "ceil_mode": 1, "strides": [2, 2]}),
    ],
)
def test_pooling_agrees(agrees: Agrees, operator: str, x: tuple[int, ...], attributes: dict[str, Any]) -> None:
    agrees(operator, [numbers(*x)], opset=22, **attributes)  # before 22, shape inference counts windows in the padding


@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("dilation", [1, 2])
def test_an_average_counts_the_padding_that_was_asked_for(agrees: Agrees, ceil: int, dilation: int) -> None:
    agrees(
        "AveragePool", [numbers(1, 1, 7, 6)], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 0], ceil_mode=ceil,
        count_include_pad=1, dilations=[dilation, 1],
    )  # fmt: skip


@pytest.mark.parametrize("upper", ["SAME_UPPER", "SAME_LOWER"])
def test_an_average_whose_strides_jump_begins_further_inside(agrees: Agrees, upper: str) -> None:
    agrees("AveragePool", [numbers(1, 1, 6, 5, 7)], opset=22, kernel_shape=[1, 3, 3], strides=[3, 1, 3], auto_pad=upper)


@pytest.mark.parametrize("order", [0, 1])
def test_a_max_pool_says_where_it_found_the_maximum(agrees: Agrees, order: int) -> None:
    agrees(
        "MaxPool", [numbers(2, 3, 6, 5)], outputs=2, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1],
        storage_order=order,
    )  # fmt: skip


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
def test_global_pooling_agrees(agrees: Agrees, operator: str) -> None:
    agrees(operator, [numbers(2, 3, 4, 5)])


def test_an_unpool_puts_the_maxima_back(agrees: Agrees) -> None:
    indices = np.array([[[[1, 7], [20, 10]], [[25, 33], [31, 40]]]], np.int64)
    agrees("MaxUnpool", [numbers(1, 2, 2, 2), indices], kernel_shape=[2, 2], strides=[3, 3])


def test_columns_become_an_image(agrees: Agrees) -> None:
    given = [numbers(1, 2 * 6, 4 * 6), np.array([6, 7], np.int64), np.array([2, 3], np.int64)]
    agrees("Col2Im", given, settled=[1, 2], pads=[0, 1, 0, 0], dilations=[2, 1], strides=[1, 1], opset=18)
