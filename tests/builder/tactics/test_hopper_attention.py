"""Attention over few keys on Hopper without a card: what it takes, its tensor maps, that it compiles."""

import dataclasses
import struct

import pytest
from compile_sweep.architectures import DEVICES

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, plain
from enginewright_builder.tactics import hopper_attention

HOPPER = DEVICES[90]


def posed(
    b: int, h: int, s: int, t: int, d: int = 64, mask: TensorType | None = None, *, causal: bool = False,
    scale: float = 0.125, dtype: str = "float16",
) -> Problem:  # fmt: skip
    q, k = (plain(dtype, (b, h, rows, d)) for rows in (s, t))
    y = TensorType(dtype=dtype, shape=(b, h, s, d), strides=(s * h * d, d, h * d, 1))
    return Problem(
        kind=Kind.ATTENTION, inputs=(q, k, k, mask), outputs=(y,), attributes={"scale": scale, "causal": causal}
    )


def berts(batch: int) -> Problem:
    """q, k and v side by side in rows of 2304 numbers."""
    wide = TensorType(dtype="float16", shape=(batch, 12, 128, 64), strides=(294912, 64, 2304, 1))
    return dataclasses.replace(posed(batch, 12, 128, 128), inputs=(wide, wide, wide, None))


def names(given: Problem) -> list[str]:
    return [each.name for each in hopper_attention.HopperAttention().candidates(given, HOPPER, frozenset())]


def test_offers_blocks_of_one_warpgroup_and_of_two_where_there_are_rows_for_both() -> None:
    assert names(berts(8)) == ["64 rows", "128 rows"]
    assert names(posed(1, 2, 64, 200)) == ["64 rows"]


def test_every_operand_is_a_box_of_rows_of_one_head() -> None:
    kernel = hopper_attention.implementation(berts(8), 2, HOPPER).steps[0].kernel
    assert kernel is not None
    assert (kernel.grid, kernel.block, kernel.dependent) == ((1, 12, 8), (256, 1, 1), True)
    maps = [each.tensor_map for each in kernel.arguments if each.tensor_map is not None]
    assert [each.box for each in maps] == [(64, 64, 1, 1), (64, 128, 1, 1), (64, 128, 1, 1), (64, 64, 1, 1)]
    assert {(each.dims, each.strides) for each in maps[:3]} == {((64, 128, 12, 8), (4608, 128, 589824))}
    assert maps[3].strides == (1536, 128, 196608)
    keys, scale = struct.unpack("<if", bytes.fromhex(kernel.arguments[4].value))
    assert (keys, round(scale, 6)) == (128, round(0.125 * 1.4426950, 6))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (posed(1, 2, 8, 8, mask=plain("float16", (8,))), "its scores are masked"),
        (posed(1, 2, 8, 8, causal=True), "its rows see different keys"),
        (posed(1, 2, 8, 8, scale=-1.0), "its scale is not positive"),
        (posed(1, 2, 8, 8, 96), "its heads have more than 64 numbers"),
        (posed(1, 2, 8, 300), "it has more than 256 keys"),
        (posed(1, 2, 8, 8, dtype="float32"), "q, k, v and y are not of one half type, or its mask is of another"),
    ],
)  # fmt: skip
def test_declines_with_a_reason(given: Problem, reason: str) -> None:
    assert hopper_attention.refusal(given, HOPPER) == reason
    assert names(given) == []


def test_declines_heads_that_share_their_keys() -> None:
    one = plain("float16", (1, 1, 8, 64))
    given = posed(1, 2, 8, 8)
    given = dataclasses.replace(given, inputs=(given.inputs[0], one, one, None))
    assert hopper_attention.refusal(given, HOPPER) == "heads share their keys"


@pytest.mark.parametrize("capability", [80, 100, 120])
def test_declines_other_architectures(capability: int) -> None:
    assert "9.0" in hopper_attention.refusal(berts(1), DEVICES[capability])


@pytest.mark.parametrize("given", [berts(8), posed(1, 2, 70, 250, 40, dtype="bfloat16")], ids=["bert", "tail"])
def test_compiles_without_spills_and_without_products_that_wait_for_each_other(given: Problem) -> None:
    for warpgroups in (1, 2):
        said = compiler.resources(hopper_attention.source(given, warpgroups), HOPPER.architecture)
        assert "0 bytes spill stores" in said
        assert "serialized" not in said
