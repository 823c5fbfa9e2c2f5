"""A convolution with the mean of its pixels, without a card: what it takes, its arguments, and that it compiles."""

import dataclasses
import struct
from typing import Any

import pytest

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain
from enginewright_builder.tactics import hopper_latency_conv, latency_mean

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 * 1024)
CONSTANT = frozenset({1, 2})


def pixels(shape: tuple[int, ...], dtype: str) -> TensorType:
    return TensorType(dtype=dtype, shape=shape, strides=channels_last(shape))


def mean(
    channels: int = 512, outputs: int = 2048, size: int = 7, *, images: int = 1, kernel: int = 1, residual: bool = True,
    dtype: str = "float16", **attributes: Any,
) -> Problem:  # fmt: skip
    inputs = (
        pixels((images, channels, size, size), dtype),
        plain(dtype, (outputs, channels, kernel, kernel)),
        plain("float32", (outputs,)),
        pixels((images, outputs, size, size), dtype) if residual else None,
    )
    around = {"strides": (1, 1), "pads": (kernel // 2,) * 4, "dilations": (1, 1), "groups": 1, "activation": "Relu"}
    means = plain(dtype, (images, outputs, 1, 1))
    said = {**around, "size": (size, size), **attributes}
    return Problem(kind=Kind.MEAN, inputs=inputs, outputs=(means,), attributes=said)


def refusal(given: Problem, constant: frozenset[int] = CONSTANT) -> str:
    return latency_mean.refusal(given, HOPPER, constant)


def test_every_refusal_has_its_reason() -> None:
    assert refusal(mean()) == ""
    assert "more than one tile" in refusal(mean(size=9))
    assert "not constant" in refusal(mean(), frozenset({2}))
    assert "capability" in latency_mean.refusal(mean(), dataclasses.replace(HOPPER, capability=80), CONSTANT)
    assert "no convolution with a mean" in refusal(dataclasses.replace(mean(), kind=Kind.CONVOLUTION))
    apart = dataclasses.replace(mean().outputs[0], strides=(4096, 2, 1, 1))
    assert "one behind the other" in refusal(dataclasses.replace(mean(), outputs=(apart,)))
    assert refusal(mean(channels=4096, kernel=3)) == hopper_latency_conv.NOTHING_FITS


def test_a_block_has_all_channels_and_all_rows() -> None:
    offered = latency_mean.configurations(mean(images=8), HOPPER)
    assert offered
    assert {(each.splits, each.rows, each.abreast) for each in offered} == {(1, 7, 1)}


def test_a_picture_is_as_many_numbers_as_it_has_channels() -> None:
    given = mean(images=3)
    (form, *_) = latency_mean.configurations(given, HOPPER)
    kernel = latency_mean.implementation(given, form, "sm_90a").steps[0].kernel
    assert kernel is not None
    sizes = struct.unpack("<11i4x2Q", bytes.fromhex(kernel.arguments[7].value))
    assert sizes[:6] == (2048, 7, 7, 7, 1, 3)
    assert (sizes[7:9], sizes[11]) == ((0, 0), 2048)  # y: from pixel to pixel, row to row, picture to picture
    assert (sizes[9:11], sizes[12]) == ((2048, 7 * 2048), 49 * 2048)  # the residual
    assert [each.pointer.name for each in kernel.arguments[5:7] if each.pointer is not None] == ["4", "3"]


@pytest.mark.parametrize("given", [mean(), mean(images=8), mean(64, 72, 8, kernel=3, residual=False, dtype="bfloat16")])
def test_it_compiles_without_spilling(given: Problem) -> None:
    for form in latency_mean.configurations(given, HOPPER):
        text = hopper_latency_conv.source(latency_mean.averaged(given), form)
        assert "#define MEAN 1" in text
        assert "0 bytes spill stores" in compiler.resources(text, "sm_90a")
