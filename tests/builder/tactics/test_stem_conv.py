"""The first convolution of a network on pictures, without a card: what it takes, packs and compiles."""

import dataclasses
import struct
from typing import Any

import numpy as np
import pytest

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain
from enginewright_builder.tactics import stem_conv, stem_geometry

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 * 1024)
CONSTANT = frozenset({1, 2})
POOL = {"kernel": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}


def stem(
    channels: int = 3,
    kernel: int = 7,
    stride: int = 2,
    pooled: bool = True,
    dtype: str = "float16",
    size: int = 224,
    whole: bool = False,
    **changes: Any,
) -> Problem:
    """ResNet's first layer, or what the arguments make of it; `whole` has float32 weights."""
    conv = (size + 2 * (kernel // 2) - kernel) // stride + 1
    made = (conv - 1) // 2 + 1 if pooled else conv
    shape = (1, 64, made, made)
    attributes: dict[str, Any] = {
        "strides": [stride] * 2,
        "pads": [kernel // 2] * 4,
        "dilations": [1, 1],
        "groups": 1,
        "activation": "Relu",
        "activation_parameters": {},
        "gated": False,
        **({"pool": POOL} if pooled else {}),
        **changes,
    }
    x = plain("float32", (1, channels, size, size))
    weights = plain("float32" if whole else dtype, (64, channels, kernel, kernel))
    y = TensorType(dtype=dtype, shape=shape, strides=channels_last(shape))
    bias = plain("float32", (64,))
    return Problem(kind=Kind.CONVOLUTION, inputs=(x, weights, bias, None), outputs=(y,), attributes=attributes)


def names(given: Problem) -> list[str]:
    return [each.name for each in stem_conv.StemConvolution().candidates(given, HOPPER, CONSTANT)]


def test_resnets_stem_is_offered_bands_first_then_whole_pooled_rows() -> None:
    assert names(stem())[0] == "bands of 1 rows, 2 across"
    assert [name for name in names(stem()) if "band" not in name] == ["3 rows", "5 rows", "7 rows"]


def test_a_stem_without_a_pool_is_offered() -> None:
    assert names(stem(kernel=3, stride=1, pooled=False, size=112)) == ["4 rows", "3 rows", "5 rows", "2 rows"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (dataclasses.replace(stem(), kind=Kind.POOLING), "it is no convolution"),
        (stem(dtype="float32"), "y is not float16 or bfloat16, or x or weights are neither float32 nor that"),
        (stem(groups=3), "it is grouped"),
        (stem(dilations=[2, 2]), "it is dilated"),
        (stem(stride=4), "its horizontal stride is not 1 or 2"),
        (stem(channels=5), "it has too many input channels"),
        (stem(kernel=13), "its kernel is larger than 11"),
        (stem(whole=True, halves=True), "it pools halves"),
    ],
)
def test_declines_with_a_reason(given: Problem, reason: str) -> None:
    assert stem_conv.refusal(given, HOPPER, CONSTANT) == reason
    assert names(given) == []


def test_declines_other_architectures() -> None:
    assert "9.0" in stem_conv.refusal(stem(), dataclasses.replace(HOPPER, capability=89), CONSTANT)


def test_declines_a_residual() -> None:
    given = stem()
    with_residual = dataclasses.replace(given, inputs=(*given.inputs[:3], given.outputs[0]))
    assert stem_conv.refusal(with_residual, HOPPER, CONSTANT) == "it has a residual or a pair"


def test_packed_weights_stand_where_the_kernel_multiplies_them() -> None:
    weights = np.arange(64 * 3 * 49, dtype=np.float64).reshape(64, 3, 7, 7)
    packed = stem_geometry.pack_weights(weights, 2)
    assert packed.shape == (1, 7, 2, 2, 64, 8)
    for output, channel, r, s in ((0, 0, 0, 0), (63, 2, 6, 6), (21, 1, 3, 5)):
        unit, pixel = divmod(s, 2)
        row = output // 16 * 16 + output % 16 // 2 + output % 2 * 8
        assert packed[0, r, unit // 2, unit % 2, row, pixel * 4 + channel] == weights[output, channel, r, s]


def test_packed_weights_fill_a_window_with_zeros() -> None:
    packed = stem_geometry.pack_weights(np.ones((32, 3, 3, 3)), 1)
    assert packed.shape == (1, 3, 2, 2, 64, 8)
    assert packed.sum() == 32 * 27


def test_float32_weights_are_two_parts_that_add_up_to_them() -> None:
    weights = np.random.default_rng(3).standard_normal((64, 3, 7, 7)).astype(np.float32)
    packed = stem_geometry.packers(stem(whole=True))["weights"]({1: weights})
    assert packed.shape == (1, 2, 7, 2, 2, 64, 8)
    want = stem_geometry.pack_weights(weights, 2)
    np.testing.assert_allclose(packed.astype(np.float32).sum(1), want, rtol=2.0**-21, atol=2.0**-24)


def test_halves_are_sums_of_the_same_weights_and_bias() -> None:
    weights, bias = np.ones((24, 3, 3, 3), np.float32), np.arange(24, dtype=np.float32)
    given = stem(kernel=3, pooled=False, whole=True, halves=True)
    narrow = dataclasses.replace(given, inputs=(given.inputs[0], plain("float32", weights.shape), *given.inputs[2:]))
    y = TensorType(dtype="float16", shape=(1, 48, 112, 112), strides=channels_last((1, 48, 112, 112)))
    packers = stem_geometry.packers(dataclasses.replace(narrow, outputs=(y,)))
    assert packers["weights"]({1: weights}).sum() == 2 * weights.sum()
    np.testing.assert_array_equal(packers["bias"]({2: bias})[:48], np.concatenate([bias, bias]))


def test_sizes_are_the_kernels() -> None:
    kernel = stem_conv.implementation(stem(), 3, HOPPER.architecture).steps[0].kernel
    assert kernel is not None
    sizes = struct.unpack("<18i2Q", bytes.fromhex(kernel.arguments[4].value))
    assert sizes[:8] == (224, 224, 3, 3, 112, 112, 1, 1)
    assert sizes[8:13] == (64, 56, 56, 28, 1)
    assert sizes[13:18] == (224 * 224, 224, 1, 56 * 64, 64)
    assert (kernel.grid, kernel.block) == ((2, 56, 1), (384, 1, 1))


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        (stem(), 3),
        (stem(dtype="bfloat16"), 7),
        (stem(kernel=3, stride=1, pooled=False), 4),
        (stem(channels=1, kernel=11, pooled=False, activation=""), 8),
        (stem(kernel=3, pooled=False, whole=True), 4),
        (stem(kernel=3, pooled=False, whole=True, halves=True, activation="HardSwish"), 2),
    ],
)
def test_compiles_without_spilling(given: Problem, rows: int) -> None:
    text = stem_conv.source(given, rows)
    assert "0 bytes spill stores" in compiler.resources(text, HOPPER.architecture)
