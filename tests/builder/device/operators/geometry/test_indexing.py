"""Reads and writes at indices given at run time, against ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from enginewright_builder.device import reference, stages

Agrees = Callable[..., None]
_random = np.random.default_rng(5)


def numbers(*shape: int) -> Any:
    return _random.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_gather_takes_indices_from_both_ends(agrees: Agrees, axis: int) -> None:
    agrees("Gather", [numbers(4, 3, 5), np.array([[0, -1], [2, -3]], np.int64)], axis=axis)


def test_a_gather_by_a_scalar_drops_the_axis(agrees: Agrees) -> None:
    agrees("Gather", [numbers(4, 3), np.array(-2, np.int32)], axis=0)


def test_an_index_out_of_range_reads_inside_of_the_tensor(network_of_one: Callable[..., Any]) -> None:
    data = numbers(4)
    network, _, fed = network_of_one("Gather", [data, np.array([9, -9], np.int64)])
    (stage,) = stages.staged(network).stages
    made = reference.evaluate(stage.computation, [fed["i0"], fed["i1"]])
    np.testing.assert_array_equal(made, data[[3, 0]])


def test_gather_elements_keeps_the_other_indices(agrees: Agrees) -> None:
    agrees("GatherElements", [numbers(3, 4), np.array([[0, -1], [2, 1]], np.int64)], axis=1)


@pytest.mark.parametrize(("batch", "depth"), [(0, 1), (0, 2), (1, 1), (1, 2)])
def test_gather_nd_reads_slices_of_each_batch(agrees: Agrees, batch: int, depth: int) -> None:
    shape = (2, 3, depth) if batch else (4, depth)
    agrees("GatherND", [numbers(2, 3, 4), _random.integers(-2, 2, shape)], batch_dims=batch)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("axis", [0, 1])
def test_scatter_elements_folds_what_hits_an_element(agrees: Agrees, reduction: str, axis: int) -> None:
    indices = np.array([[1, 0, -1], [0, 2, 0]], np.int64)
    if reduction == "none":  # duplicates have no meaning there
        indices = np.array([[1, 0, -1], [0, 2, 0]], np.int64) if axis == 0 else np.array([[1, 0, -1], [0, 2, 3]])
    agrees("ScatterElements", [numbers(4, 4), indices, numbers(2, 3)], axis=axis, reduction=reduction)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_nd_folds_what_hits_a_slice(agrees: Agrees, reduction: str) -> None:
    indices = np.array([[[0], [-1]], [[2], [2 if reduction != "none" else 1]]], np.int64)
    agrees("ScatterND", [numbers(4, 3), indices, numbers(2, 2, 3)], reduction=reduction)


def test_scatter_of_integers_is_exact(agrees: Agrees) -> None:
    data, indices, updates = np.zeros(3, np.int64), np.array([1, 1, 1], np.int64), np.array([2**40, 5, -1], np.int64)
    agrees("ScatterElements", [data, indices, updates], reduction="add")


def test_a_sequence_is_reversed_up_to_its_length(agrees: Agrees) -> None:
    agrees("ReverseSequence", [numbers(4, 3, 2), np.array([1, 4, 2], np.int64)])
    agrees("ReverseSequence", [numbers(3, 4, 2), np.array([1, 4, 2], np.int64)], time_axis=1, batch_axis=0)
