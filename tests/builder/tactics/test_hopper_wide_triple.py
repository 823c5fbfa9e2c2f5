"""The triple whose weights are streamed, as far as it can be tested without a card: choice, tiles, maps, packing."""

import struct

import numpy as np
import pytest

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain
from enginewright_builder.tactics import hopper_order, hopper_wide_triple
from enginewright_builder.tactics.hopper_triple import Parts
from enginewright_builder.tactics.hopper_wide_triple import HopperWideTriple, Shape

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 * 1024)
CONSTANT = frozenset({1, 2, 3, 4, 8, 9})
SHAPE = Shape(groups=1, stages=4, staging=2)


def triple(
    channels: int = 128, between: int = 128, outputs: int = 512, following: int = 128, size: int = 28, *,
    images: int = 8, pair: int = 0, stride: int = 1, dtype: str = "float16",
) -> Problem:  # fmt: skip
    """With a residual, or with a pair."""

    def pixels(count: int) -> TensorType:
        shape = (images, count, size, size)
        return TensorType(dtype=dtype, shape=shape, strides=channels_last(shape))

    inputs = (
        pixels(channels),
        plain(dtype, (between, channels, 3, 3)),
        plain("float32", (between,)),
        plain(dtype, (outputs, between, 1, 1)),
        plain("float32", (outputs,)),
        None if pair else pixels(outputs),
        pixels(pair) if pair else None,
        plain(dtype, (outputs, pair, 1, 1)) if pair else None,
        plain(dtype, (following, outputs, 1, 1)),
        plain("float32", (following,)),
    )
    before = {"strides": (stride,) * 2, "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1, "activation": "Relu"}
    said = {"activation": "Relu", "before": before, "next": {"activation": "Relu"}, "pair": {"strides": [1, 1]}}
    return Problem(kind=Kind.TRIPLE, inputs=inputs, outputs=(pixels(outputs), pixels(following)), attributes=said)


def parts(given: Problem) -> Parts:
    found = hopper_wide_triple.parts(given, CONSTANT)
    assert found is not None
    return found


def offered(given: Problem, device: Device = HOPPER) -> list[str]:
    return [each.name for each in HopperWideTriple().candidates(given, device, CONSTANT | {7})]


@pytest.mark.parametrize(
    "given",
    [triple(64, 64), triple(256), triple(between=256), triple(following=512), triple(pair=64), triple(stride=2),
     triple(size=63), triple(dtype="float32")],
    ids=["few channels", "many", "many between", "many behind", "a pair", "strides", "wide rows", "float32"],
)  # fmt: skip
def test_what_the_kernel_cannot_do_is_not_offered(given: Problem) -> None:
    assert offered(given) == []
    assert offered(triple()) != []


def test_buffers_fit_into_shared_memory() -> None:
    for given in (triple(), triple(following=256), triple(104, 72, 200, 24, 61, images=128)):
        found, tiles = parts(given), hopper_wide_triple.stripes(given)
        for shape in hopper_wide_triple.shapes(found, tiles, HOPPER):
            assert hopper_wide_triple.shared_bytes(found, tiles, shape) <= HOPPER.shared_bytes
            assert 4 <= shape.stages <= 16


def test_a_tile_is_whole_rows_that_fit_into_64_places() -> None:
    tiles = hopper_wide_triple.stripes(triple(images=128))
    assert (tiles.wide, tiles.down, tiles.a_picture, tiles.tiles) == (30, 2, 14, 1792)
    few = hopper_wide_triple.stripes(triple(images=1, size=5))
    assert (few.wide, few.down, few.tiles) == (7, 5, 1)
    two = Shape(groups=2, stages=4, staging=2)
    assert [each.blocks(two, HOPPER) for each in (tiles, few)] == [132, 1]


def test_arguments_are_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "compile", lambda _text, _architecture: b"")
    given = triple(104, 72, 200, 24, 19, images=5)
    made = hopper_wide_triple.implementation(given, CONSTANT, SHAPE, HOPPER)
    kernel = made.steps[0].kernel
    assert kernel is not None
    maps = [each.tensor_map for each in kernel.arguments if each.tensor_map is not None]
    assert [each.pointer.name for each in maps] == ["0", "taps", "weights", "next weights", "5", "10", "11"]
    stripe = (64, 21, 3, 1)
    assert [each.box for each in maps] == [(64, 21, 5, 1), (64, 64), (64, 64), (64, 64), stripe, stripe, stripe]
    assert maps[1].dims == (2 * 9 * 64, 72)
    assert maps[2].dims == (64, 2 * 256)  # of 72 channels, to 200 in whole pairs of chunks
    assert maps[3].dims == (64, 4 * 128)  # of 256 channels, to 24
    assert [each.pointer.name for each in kernel.arguments if each.pointer] == ["before bias", "bias", "next bias"]
    assert kernel.grid == (35, 1, 1)
    (_, backwards) = hopper_order.alternate(made.steps * 2)
    assert backwards.kernel is not None
    numbers = [
        struct.unpack("<5i9f", bytes.fromhex(each.arguments[-1].value))[:5] for each in (kernel, backwards.kernel)
    ]
    assert numbers == [(35, 7, 1, 1, 0), (35, 7, 1, 1, 1)]


def test_taps_are_packed_64_channels_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "compile", lambda _text, _architecture: b"")
    weights = np.random.default_rng(3).standard_normal((72, 104, 3, 3)).astype(np.float16)
    made = hopper_wide_triple.implementation(triple(104, 72, 200, 24), CONSTANT, SHAPE, HOPPER).constants
    packed = made["taps"]({1: weights}).reshape(72, 2, 9, 64)
    np.testing.assert_array_equal(packed[:, 0, 5], weights[:, :64, 1, 2])
    np.testing.assert_array_equal(packed[:, 1, 5, :40], weights[:, 64:, 1, 2])
    assert not packed[:, 1, :, 40:].any()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("given", [triple(), triple(following=256, dtype="bfloat16")], ids=["128 behind", "256 behind"])
def test_it_compiles_without_spilling_in_the_products(given: Problem, groups: int) -> None:
    found, tiles = parts(given), hopper_wide_triple.stripes(given)
    shape = hopper_wide_triple.shape_of(found, tiles, groups, 2, HOPPER)
    said = compiler.resources(hopper_wide_triple.source(found, tiles, shape), "sm_90a")
    assert "0 bytes spill stores" in said
    assert "serialized" not in said
