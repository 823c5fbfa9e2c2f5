"""Two 1x1 convolutions in one launch, as far as it can be tested without a card: choice, maps, packing, compiling."""

import dataclasses
import struct
from typing import Any

import numpy as np
import pytest

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain, row_major
from enginewright_builder.tactics import hopper_couple
from enginewright_builder.tactics.hopper_couple import Halves, HopperCouple, Tile
from enginewright_runtime.engine.cuda.program import Kernel

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 * 1024)
CONSTANT = frozenset({1, 2, 5, 6, 7})
ALL_WEIGHTS = Tile(columns=128, inputs=2, stages=6, staging=4, resident=True)
STREAMED = Tile(columns=128, inputs=1, stages=4, staging=2, resident=False)


def pixels(shape: tuple[int, ...], dtype: str) -> TensorType:
    return TensorType(dtype=dtype, shape=shape, strides=channels_last(shape))


def couple(
    channels: int = 64, outputs: int = 256, following: int = 64, size: int = 56, *, images: int = 32, pair: int = 0,
    dtype: str = "float16", **attributes: Any,
) -> Problem:  # fmt: skip
    """With a residual, or with a pair at stride 2."""
    y = pixels((images, outputs, size, size), dtype)
    inputs = (
        pixels((images, channels, size, size), dtype),
        plain(dtype, (outputs, channels, 1, 1)),
        plain("float32", (outputs,)),
        None if pair else y,
        pixels((images, pair, 2 * size, 2 * size), dtype) if pair else None,
        plain(dtype, (outputs, pair, 1, 1)) if pair else None,
        plain(dtype, (following, outputs, 1, 1)),
        plain("float32", (following,)),
    )
    said = {"activation": "Relu", "next": {"activation": "Relu"}, **({"pair": {"strides": [2, 2]}} if pair else {})}
    z = pixels((images, following, size, size), dtype)
    return Problem(kind=Kind.COUPLE, inputs=inputs, outputs=(y, z), attributes={**said, **attributes})


def offered(given: Problem, constant: frozenset[int] = CONSTANT, device: Device = HOPPER) -> list[str]:
    return [each.name for each in HopperCouple().candidates(given, device, constant)]


def halves(given: Problem) -> Halves:
    found = hopper_couple.halves(given, CONSTANT)
    assert found is not None
    return found


def kernel(given: Problem, tile: Tile, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(compiler, "compile", lambda _text, _architecture: b"")
    made = hopper_couple.implementation(given, CONSTANT, tile, HOPPER).steps[0].kernel
    assert made is not None
    return made


def text(given: Problem, tile: Tile) -> str:
    return hopper_couple.source(*halves(given).filled(tile.columns), tile)


def test_a_large_couple_is_offered_by_distinct_names() -> None:
    for given in (couple(), couple(pair=64), couple(128, 512, 128, 28, images=128), couple(dtype="bfloat16")):
        names = offered(given)
        assert names
        assert len(set(names)) == len(names)
        assert names == offered(given)


def test_weights_that_fit_stay_in_shared_memory() -> None:
    assert "all weights" in offered(couple())[0]
    assert not any("all weights" in name for name in offered(couple(128, 512, 128, 28, images=128)))


@pytest.mark.parametrize(
    ("given", "constant"),
    [
        (couple(images=8), CONSTANT),
        (couple(dtype="float32"), CONSTANT),
        (couple(), CONSTANT - {6}),
        (couple(), CONSTANT - {2}),
        (couple(outputs=100), CONSTANT),
        (couple(following=320), CONSTANT),
        (couple(following=60), CONSTANT),
        (couple(256, 1024, 256, 14, images=256), CONSTANT),
        (couple(activation="Softsign"), CONSTANT),
        (couple(next={"activation": "Softsign"}), CONSTANT),
        (dataclasses.replace(couple(), kind=Kind.CONVOLUTION), CONSTANT),
    ],
    ids=[
        "a small batch",
        "float32",
        "next weights that change",
        "a bias that changes",
        "results of 200 bytes",
        "sums that no register holds",
        "next results of 120 bytes",
        "more products than bytes to hide behind",
        "an activation without a kernel",
        "a next one without",
        "another kind",
    ],
)
def test_what_the_kernel_cannot_do_is_not_offered(given: Problem, constant: frozenset[int]) -> None:
    assert offered(given, constant) == []


def test_other_devices_and_layouts_get_nothing() -> None:
    assert offered(couple(), device=dataclasses.replace(HOPPER, capability=100)) == []
    y, z = couple().outputs
    turned = dataclasses.replace(z, strides=row_major(z.shape))
    assert offered(dataclasses.replace(couple(), outputs=(y, turned))) == []


def test_every_choice_fits_and_never_waits_for_a_slot_that_it_holds() -> None:
    """A slot is freed once the products behind it have begun: with one alone nobody would free it."""
    for given in (couple(), couple(pair=64), couple(128, 512, 128, 28, pair=256), couple(256, 1024, 256, 14)):
        both = halves(given)
        for tile in hopper_couple.tiles(both, HOPPER):
            assert both.shared_bytes(tile) <= HOPPER.shared_bytes
            assert 2 <= tile.stages <= hopper_couple.SLOTS
            assert 2 <= tile.staging <= hopper_couple.MOST_STAGING


def test_arguments_are_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    made = kernel(couple(128, 520, 72, 28, images=96, pair=256), STREAMED, monkeypatch)
    maps = [each.tensor_map for each in made.arguments if each.tensor_map is not None]
    assert [each.pointer.name for each in maps] == ["0", "4", "weights", "8", "next weights", "9"]
    assert [each.box for each in maps if each.im2col is None] == [(64, 128), (64, 128), (64, 128), (64, 128), (64, 128)]
    first, second = maps[2], maps[4]
    assert first.dims == (64, 6 * 640)  # 128 + 256 channels, to 520 in whole chunks
    assert second.dims == (64, 9 * 128)  # 520 channels, to 72 in whole panels
    assert [each.dims for each in (maps[3], maps[5])] == [(520, 96 * 28 * 28), (72, 96 * 28 * 28)]
    assert [each.pointer.name for each in made.arguments if each.pointer is not None] == ["bias", "next bias"]
    numbers = struct.unpack("<25i3f", bytes.fromhex(made.arguments[-1].value))
    assert numbers[:4] == (588, 1, 588, 6)  # a tile is 128 pixels with all their channels
    assert numbers[24] == 640
    assert made.grid == (132, 1, 1)


def test_weights_are_filled_up_with_zeros() -> None:
    generator = np.random.default_rng(3)
    weights, following = (
        generator.standard_normal(shape).astype(np.float16) for shape in ((72, 40, 1, 1), (24, 72, 1, 1))
    )
    both = halves(couple(40, 72, 24))
    first, second = both.filled(128)
    packed = hopper_couple._weights(both.first, first.columns, {1: weights})
    assert packed.shape == (1, 128, 64)
    np.testing.assert_array_equal(packed[0, :72, :40], weights[:, :, 0, 0])
    assert not packed[:, 72:].any()
    assert not packed[:, :, 40:].any()
    next_packed = hopper_couple._next_weights(both.second, second.columns, {1: weights, 6: following})
    assert next_packed.shape == (2, 64, 64)
    np.testing.assert_array_equal(next_packed[1, :24, :8], following[:, 64:, 0, 0])
    bias = hopper_couple._next_bias(second.columns, {2: np.ones(72), 7: np.full(24, 2.0)})
    np.testing.assert_array_equal(bias, [2.0] * 24 + [0.0] * 40)


@pytest.mark.parametrize(
    ("given", "tile"),
    [
        (couple(), ALL_WEIGHTS),
        (couple(128, 512, 256, 28, dtype="bfloat16", next={"activation": "Sigmoid", "gated": True}), STREAMED),
        (couple(128, 512, 128, 28, pair=256), STREAMED),
        (couple(), dataclasses.replace(ALL_WEIGHTS, columns=64)),
    ],
    ids=["all weights", "256 next", "a pair", "64 at a time"],
)
def test_it_compiles_without_spilling(given: Problem, tile: Tile) -> None:
    said = compiler.resources(text(given, tile), "sm_90a")
    assert "0 bytes spill stores" in said
    assert "serialized" not in said


def test_equal_choices_of_couples_that_differ_in_their_first_results_share_their_machine_code() -> None:
    assert text(couple(64, 256, 64), STREAMED) == text(couple(64, 512, 64), STREAMED)
