"""Moves, padding, and what is made of indices alone, against ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from enginewright_builder.device import stages
from enginewright_builder.device.expression import Load
from enginewright_builder.device.operators import terms
from enginewright_builder.device.operators.layer import Declined
from enginewright_builder.device.operators.moves import relinearized

Agrees = Callable[..., None]


def numbers(*shape: int, dtype: Any = np.float32) -> Any:
    """All different, so that a wrong place is a wrong number."""
    return np.arange(1, np.prod(shape) + 1).reshape(shape).astype(dtype)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


@pytest.mark.parametrize("target", [(24,), (4, 6), (2, 12), (3, 2, 4), (1, 2, 3, 1, 4), (8, 3), (2, 2, 2, 3)])
def test_a_reshape_reads_the_same_position(agrees: Agrees, target: tuple[int, ...]) -> None:
    agrees("Reshape", [numbers(2, 3, 4), ints(*target)], settled=[1])


def test_a_dimension_that_stays_is_read_without_arithmetic() -> None:
    at = terms.indices((5, 6, 4))
    assert relinearized(at, (5, 6, 4), (5, 2, 3, 4))[0] == at[0]
    assert relinearized(at, (5, 6, 4), (5, 2, 3, 4))[3] == at[2]


@pytest.mark.parametrize(
    ("operator", "attributes", "extra"),
    [
        ("Transpose", {"perm": [2, 0, 3, 1]}, []),
        ("Transpose", {}, []),
        ("Flatten", {"axis": 2}, []),
        ("Flatten", {"axis": 0}, []),
        ("Tile", {}, [ints(2, 1, 3, 2)]),
        ("Expand", {}, [ints(5, 1, 1, 4, 6)]),
        ("Unsqueeze", {}, [ints(0, -1)]),
        ("Slice", {}, [ints(1, -2), ints(3, -100), ints(1, 3), ints(1, -1)]),
        ("Slice", {}, [ints(-1, 5), ints(-100, 0), ints(2, 3), ints(-2, -3)]),
        ("Slice", {}, [ints(100), ints(100), ints(1)]),
        ("DepthToSpace", {"blocksize": 2, "mode": "DCR"}, []),
        ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}, []),
        ("SpaceToDepth", {"blocksize": 2}, []),
        ("CenterCropPad", {"axes": [1, 2, 3]}, [ints(5, 7, 2)]),
        ("Trilu", {"upper": 1}, [np.array(-1, np.int64)]),
        ("Trilu", {"upper": 0}, [np.array(2, np.int64)]),
    ],
)
def test_moves_of_one_tensor_agree(agrees: Agrees, operator: str, attributes: dict[str, Any], extra: list[Any]) -> None:
    shape = (2, 4, 4, 6) if operator != "Expand" else (1, 4, 1)
    agrees(operator, [numbers(*shape), *extra], settled=range(1, 6), **attributes)


def test_a_slice_before_opset_10_has_attributes(agrees: Agrees) -> None:
    agrees("Slice", [numbers(3, 5)], opset=9, starts=[1, -3], ends=[9, -1], axes=[0, 1])


def test_a_slice_whose_starts_come_at_run_time_is_declined(network_of_one: Callable[..., Any]) -> None:
    network, _, _ = network_of_one("Slice", [numbers(3), ints(1), ints(2)])
    with pytest.raises(Declined, match="known only when it has been computed"):
        stages.staged(network)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_concat_reads_each_input_where_it_lies(agrees: Agrees, axis: int) -> None:
    shapes = [[3, 2, 4] for _ in range(3)]
    for extent, shape in zip((1, 3, 2), shapes, strict=True):
        shape[axis] = extent
    agrees("Concat", [numbers(*shape) * 10**k for k, shape in enumerate(shapes)], axis=axis)


def test_an_empty_input_of_a_concat_is_never_read(agrees: Agrees) -> None:
    agrees("Concat", [numbers(2, 3), numbers(2, 0), numbers(2, 1)], axis=1)


def test_a_split_begins_where_the_one_before_ends(agrees: Agrees) -> None:
    agrees("Split", [numbers(2, 7), ints(3, 0, 4)], settled=[1], outputs=3, axis=1)


def test_a_split_without_sizes_is_even_and_the_last_part_smaller(agrees: Agrees) -> None:
    agrees("Split", [numbers(7, 2)], outputs=3, num_outputs=3)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [(0, 1, 2, 0, 2, 1), (0, -1, 2, 0, 2, -1), (0, -1, -2, 0, 0, -1)])
def test_pads_agree_in_all_modes_also_where_they_crop(agrees: Agrees, mode: str, pads: tuple[int, ...]) -> None:
    agrees("Pad", [numbers(2, 4, 5), ints(*pads)], settled=[1], mode=mode)


def test_a_pad_takes_its_value_and_its_axes(agrees: Agrees) -> None:
    agrees("Pad", [numbers(2, 3), ints(1, 2), np.array(7, np.float32), ints(-1)], settled=[1, 3])


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.bool_, np.float16])
def test_moves_carry_every_type(agrees: Agrees, dtype: Any) -> None:
    agrees("Pad", [numbers(3, 2, dtype=dtype), ints(1, 0, 0, 1)], settled=[1])
    agrees("Transpose", [numbers(3, 2, dtype=dtype)])


def test_a_one_hot_counts_negative_indices_from_the_back_and_ignores_others(agrees: Agrees) -> None:
    agrees("OneHot", [ints(0, -1, 3, 9, -9), np.array(4, np.int64), ints(5, 8)], settled=[1], axis=0)


def test_an_eye_has_ones_on_its_diagonal(agrees: Agrees) -> None:
    agrees("EyeLike", [numbers(4, 5)], k=1, dtype=7)


def test_a_move_is_one_load() -> None:
    at = relinearized(terms.indices((6,)), (6,), (2, 3))
    assert not any(isinstance(each, Load) for each in at)
