"""A 3x3 convolution and a couple in one launch, as far as it can be tested without a card: choice, maps, packing."""

import dataclasses
import struct
from typing import Any

import numpy as np
import pytest

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain
from enginewright_builder.tactics import hopper_order, hopper_triple
from enginewright_builder.tactics.hopper_triple import HopperTriple, Parts
from enginewright_runtime.engine.cuda.program import Kernel

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 * 1024)
CONSTANT = frozenset({1, 2, 3, 4, 7, 8, 9})


def pixels(shape: tuple[int, ...], dtype: str) -> TensorType:
    return TensorType(dtype=dtype, shape=shape, strides=channels_last(shape))


def triple(
    channels: int = 64, between: int = 64, outputs: int = 256, following: int = 64, size: int = 56, *,
    images: int = 128, pair: int = 0, pair_stride: int = 1, window: int = 3, dtype: str = "float16", before: Any = None,
    **attributes: Any,
) -> Problem:  # fmt: skip
    """With a residual, or with a pair."""
    y, z = (pixels((images, each, size, size), dtype) for each in (outputs, following))
    wide = size * pair_stride
    inputs = (
        pixels((images, channels, size, size), dtype),
        plain(dtype, (between, channels, window, window)),
        plain("float32", (between,)),
        plain(dtype, (outputs, between, 1, 1)),
        plain("float32", (outputs,)),
        None if pair else y,
        pixels((images, pair, wide, wide), dtype) if pair else None,
        plain(dtype, (outputs, pair, 1, 1)) if pair else None,
        plain(dtype, (following, outputs, 1, 1)),
        plain("float32", (following,)),
    )
    lead = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1, "activation": "Relu"}
    said = {"activation": "Relu", "before": {**lead, **(before or {})}, "next": {"activation": "Relu"}}
    said |= {"pair": {"strides": [pair_stride] * 2}} if pair else {}
    return Problem(kind=Kind.TRIPLE, inputs=inputs, outputs=(y, z), attributes={**said, **attributes})


def parts(given: Problem) -> Parts:
    found = hopper_triple.parts(given, CONSTANT)
    assert found is not None
    return found


def offered(given: Problem, constant: frozenset[int] = CONSTANT, device: Device = HOPPER) -> list[str]:
    return [each.name for each in HopperTriple().candidates(given, device, constant)]


def kernel(given: Problem, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(compiler, "compile", lambda _text, _architecture: b"")
    made = hopper_triple.implementation(given, CONSTANT, 2, HOPPER).steps[0].kernel
    assert made is not None
    return made


def test_what_is_left_of_shared_memory_is_for_results() -> None:
    assert offered(triple()) == [f"8x8 patches, {staging} staged" for staging in (4, 3, 2)]
    assert offered(triple(following=128)) == [f"8x8 patches, {staging} staged" for staging in (2, 1)]
    assert offered(triple(pair=64)) == ["8x8 patches, 1 staged"]
    for given in (triple(), triple(following=128), triple(pair=64), triple(40, 40, 136, 40)):
        found = parts(given)
        assert found.shared_bytes(found.staging(HOPPER)) <= HOPPER.shared_bytes


@pytest.mark.parametrize(
    ("given", "constant"),
    [
        (triple(images=2), CONSTANT),
        (triple(dtype="float32"), CONSTANT),
        (triple(), CONSTANT - {1}),
        (triple(), CONSTANT - {8}),
        (triple(channels=128), CONSTANT),
        (triple(between=128), CONSTANT),
        (triple(window=1, before={"pads": (0, 0, 0, 0)}), CONSTANT),
        (triple(pair=256), CONSTANT),
        (triple(pair=64, pair_stride=2), CONSTANT),
        (triple(outputs=64), CONSTANT),
        (triple(outputs=512, following=128), CONSTANT),
        (triple(before={"activation": "Softsign"}), CONSTANT),
        (triple(next={"activation": "Softsign"}), CONSTANT),
        (dataclasses.replace(triple(), kind=Kind.COUPLE), CONSTANT),
    ],
    ids=[
        "a small batch",
        "float32",
        "weights that change",
        "next weights that change",
        "more channels than a row holds",
        "more channels between than a row holds",
        "no windows",
        "a wide pair",
        "a pair with strides",
        "one chunk",
        "weights that do not fit",
        "an activation without a kernel",
        "a next one without",
        "another kind",
    ],
)
def test_what_the_kernel_cannot_do_is_not_offered(given: Problem, constant: frozenset[int]) -> None:
    assert offered(given, constant) == []


def test_arguments_are_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    made = kernel(triple(40, 56, 200, 72, 61, images=5, pair=24), monkeypatch)
    maps = [each.tensor_map for each in made.arguments if each.tensor_map is not None]
    assert [each.pointer.name for each in maps] == ["0", "6", "taps", "weights", "next weights", "10", "11"]
    patch = (64, 8, 8, 1)
    assert [each.box for each in maps] == [(64, 10, 10, 1), patch, (64, 64), (64, 64), (64, 128), patch, patch]
    assert maps[3].dims == (64, 2 * 256)  # of 56 and of 24 channels, to 200 in whole chunks
    assert maps[4].dims == (64, 4 * 128)  # 200 channels, to 72 in whole panels
    assert [each.pointer.name for each in made.arguments if each.pointer] == ["before bias", "bias", "next bias"]
    numbers = struct.unpack("<6i9f", bytes.fromhex(made.arguments[-1].value))
    assert numbers[:6] == (5 * 8 * 8, 8, 8, 1, 1, 0)
    assert made.grid == (132, 1, 1)
    (_, backwards) = hopper_order.alternate(hopper_triple.implementation(triple(), CONSTANT, 2, HOPPER).steps * 2)
    assert backwards.kernel is not None
    assert struct.unpack("<6i9f", bytes.fromhex(backwards.kernel.arguments[-1].value))[5] == 1


def test_every_convolution_gets_its_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "compile", lambda _text, _architecture: b"")
    given, generator = triple(40, 56, 200, 72, pair=24), np.random.default_rng(3)
    known = {
        n: generator.standard_normal(given.inputs[n].shape).astype(np.float16) for n in CONSTANT if given.inputs[n]
    }
    made = hopper_triple.implementation(given, CONSTANT, 2, HOPPER).constants
    packed = {name: make(known) for name, make in made.items()}
    np.testing.assert_array_equal(packed["taps"].reshape(56, 9, 64)[:, 5, :40], known[1].reshape(56, 40, 9)[:, :, 5])
    np.testing.assert_array_equal(packed["weights"][0, :200, :56], known[3][:, :, 0, 0])
    np.testing.assert_array_equal(packed["weights"][1, :200, :24], known[7][:, :, 0, 0])
    np.testing.assert_array_equal(packed["next weights"][1, :72], known[8][:, 64:128, 0, 0])
    for name, number, size in (("before bias", 2, 64), ("bias", 4, 256), ("next bias", 9, 128)):
        assert packed[name].shape == (size,)
        np.testing.assert_array_equal(packed[name][: known[number].size], known[number].astype(np.float32))


@pytest.mark.parametrize(
    "given",
    [triple(), triple(following=128, dtype="bfloat16"), triple(pair=64, next={"activation": "Sigmoid", "gated": True})],
    ids=["64 behind", "128 behind", "a pair"],
)
def test_it_compiles_without_spilling(given: Problem) -> None:
    found = parts(given)
    said = compiler.resources(hopper_triple.source(found, found.staging(HOPPER)), "sm_90a")
    assert "0 bytes spill stores" in said
    assert "serialized" not in said
