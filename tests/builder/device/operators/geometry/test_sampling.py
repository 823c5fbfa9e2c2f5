"""Reads between the elements and over regions, against ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from enginewright_builder.device import stages
from enginewright_builder.device.operators.layer import Declined

Agrees = Callable[..., None]
_random = np.random.default_rng(8)
TRANSFORMATIONS = ["half_pixel", "asymmetric", "pytorch_half_pixel", "align_corners", "half_pixel_symmetric"]


def numbers(*shape: int) -> Any:
    return _random.standard_normal(shape).astype(np.float32)


def scales(*values: float) -> Any:
    return np.array(values, np.float32)


def sizes(*values: int) -> Any:
    return np.array(values, np.int64)


@pytest.mark.parametrize("transformation", [*TRANSFORMATIONS, "tf_half_pixel_for_nn"])
@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("size", [(7, 3), (2, 9)])
def test_the_nearest_element_is_onnx_runtimes(
    agrees: Agrees, transformation: str, rounding: str, size: tuple[int, int]
) -> None:
    agrees(
        "Resize", [numbers(1, 2, 4, 5), None, None, sizes(1, 2, *size)], settled=[3], mode="nearest", opset=18,
        coordinate_transformation_mode=transformation, nearest_mode=rounding,
    )  # fmt: skip


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("scale", [(1, 1, 2, 1.7), (1, 1, 0.6, 0.4), (1, 1, 1, 3)])
def test_interpolation_agrees(agrees: Agrees, transformation: str, mode: str, scale: tuple[float, ...]) -> None:
    agrees(
        "Resize", [numbers(2, 1, 5, 7), None, scales(*scale)], settled=[2], mode=mode, opset=19,
        coordinate_transformation_mode=transformation,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("excluded", [0, 1])
def test_a_smaller_output_is_smoothed_where_asked(agrees: Agrees, mode: str, excluded: int) -> None:
    agrees(
        "Resize", [numbers(1, 2, 9, 11), None, None, sizes(1, 2, 4, 5)], settled=[3], mode=mode, antialias=1,
        exclude_outside=excluded, opset=19,
    )  # fmt: skip


def test_a_cubic_leaves_out_what_is_outside(agrees: Agrees) -> None:
    agrees(
        "Resize", [numbers(1, 1, 4, 4), None, scales(1, 1, 2.5, 0.7)], settled=[2], mode="cubic", exclude_outside=1,
        cubic_coeff_a=-0.5, opset=19,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_a_crop_is_resized_and_what_is_outside_has_a_value_of_its_own(agrees: Agrees, mode: str) -> None:
    region = scales(0, 0, 0.4, -0.2, 1, 1, 0.8, 1.3)
    agrees(
        "Resize", [numbers(1, 1, 5, 6), region, None, sizes(1, 1, 4, 3)], settled=[1, 3], mode=mode, opset=19,
        coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=10.0,
    )  # fmt: skip


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_the_aspect_ratio_is_kept(agrees: Agrees, policy: str) -> None:
    agrees(
        "Resize", [numbers(1, 1, 4, 6), None, None, sizes(9, 7)], settled=[3], axes=[2, 3], opset=19, mode="linear",
        keep_aspect_ratio_policy=policy,
    )  # fmt: skip


def test_three_dimensions_are_interpolated(agrees: Agrees) -> None:
    agrees("Resize", [numbers(1, 1, 3, 4, 5), None, scales(1, 1, 2, 1.5, 0.8)], settled=[2], mode="linear", opset=19)


def test_scales_that_come_at_run_time_are_declined(network_of_one: Callable[..., Any]) -> None:
    network, _, _ = network_of_one("Resize", [numbers(1, 1, 4, 4), None, scales(1, 1, 2, 2)], opset=19)
    with pytest.raises(Declined, match="known only when it has been computed"):
        stages.staged(network)


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_a_grid_is_sampled_inside_and_outside(agrees: Agrees, mode: str, padding: str, corners: int) -> None:
    grid = _random.uniform(-1.9, 1.9, (2, 4, 5, 2)).astype(np.float32)
    agrees("GridSample", [numbers(2, 3, 5, 6), grid], mode=mode, padding_mode=padding, align_corners=corners)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_a_volume_is_sampled(agrees: Agrees, padding: str) -> None:
    grid = _random.uniform(-1.5, 1.5, (1, 2, 3, 4, 3)).astype(np.float32)
    agrees("GridSample", [numbers(1, 2, 3, 4, 5), grid], mode="linear", padding_mode=padding)


@pytest.mark.parametrize("size", [(2, 3, 4, 5), (2, 1, 3, 4, 2)])
@pytest.mark.parametrize("corners", [0, 1])
def test_an_affine_grid_is_made_of_theta(agrees: Agrees, size: tuple[int, ...], corners: int) -> None:
    rank = len(size) - 2
    agrees("AffineGrid", [numbers(2, rank, rank + 1), sizes(*size)], settled=[1], align_corners=corners)


@pytest.mark.parametrize("masked", [False, True])
def test_a_deformable_convolution_reads_at_offsets(agrees: Agrees, masked: bool) -> None:
    x, w, bias = numbers(1, 4, 5, 6), numbers(4, 2, 3, 2), numbers(4)
    offset = 2 * numbers(1, 2 * 2 * 6, 3, 3)
    mask = numbers(1, 2 * 6, 3, 3) if masked else None
    given = [x, w, offset, bias, *([mask] if masked else [])]
    agrees("DeformConv", given, opset=19, group=2, offset_group=2, strides=[2, 2], pads=[1, 0, 1, 0])


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("transformation", ["half_pixel", "output_half_pixel"])
def test_regions_are_aligned(agrees: Agrees, mode: str, ratio: int, transformation: str) -> None:
    regions = scales(1, 1, 9, 6, -3, -2, 30, 25, 0.5, 0.5, 0.7, 0.6, 12, 9, 14, 22).reshape(4, 4)
    agrees(
        "RoiAlign", [numbers(2, 3, 7, 8), regions, sizes(0, 1, 1, 0)], opset=16, mode=mode, sampling_ratio=ratio,
        output_height=3, output_width=2, spatial_scale=0.7, coordinate_transformation_mode=transformation,
    )  # fmt: skip


def test_a_region_beside_the_map_has_nothing_but_zeros(agrees: Agrees) -> None:
    regions = scales(-90, -80, -30, -20, 50, 60, 70, 99).reshape(2, 4)
    agrees(
        "RoiAlign", [numbers(1, 1, 7, 8), regions, sizes(0, 0)], opset=16, mode="max", sampling_ratio=0,
        output_height=3, output_width=2,
    )  # fmt: skip


def test_the_largest_of_each_bin_of_a_region(agrees: Agrees) -> None:
    regions = scales(0, 1, 1, 9, 6, 0, -3, -2, 30, 25, 1, 20, 20, 22, 21).reshape(3, 5)
    agrees("MaxRoiPool", [numbers(2, 3, 7, 8), regions], pooled_shape=[3, 2], spatial_scale=0.5)
