"""Two 1x1 convolutions in one launch, as far as it can be tested without a card: choice, arguments, compiling."""

import dataclasses
import struct
from typing import Any

import pytest

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain, row_major
from enginewright_builder.tactics import latency_couple
from enginewright_builder.tactics.latency_couple import Form

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 * 1024)
CONSTANT = frozenset({1, 2, 5, 6, 7})


def pixels(shape: tuple[int, ...], dtype: str) -> TensorType:
    return TensorType(dtype=dtype, shape=shape, strides=channels_last(shape))


def couple(
    channels: int = 64, outputs: int = 256, following: int = 64, size: int = 56, *, images: int = 1, pair: int = 0,
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


def refusal(given: Problem, constant: frozenset[int] = CONSTANT) -> str:
    return latency_couple.refusal(given, HOPPER, constant)


def test_every_refusal_has_its_reason() -> None:
    assert refusal(couple()) == ""
    assert "capability" in latency_couple.refusal(couple(), dataclasses.replace(HOPPER, capability=80), CONSTANT)
    assert "float16" in refusal(couple(dtype="float32"))
    assert "not constant" in refusal(couple(), CONSTANT - {6})
    assert "16-byte units" in refusal(couple(outputs=100))
    assert "no device expression" in refusal(couple(next={"activation": "Erf"}))
    assert "no form fits" in refusal(couple(512, 2048, 512, 7))
    assert "no small batch" in refusal(couple(images=8))
    y = dataclasses.replace(couple().outputs[0], strides=row_major(couple().outputs[0].shape))
    assert "NHWC" in refusal(dataclasses.replace(couple(), outputs=(y, couple().outputs[1])))


def test_forms_share_all_of_the_first_results_channels_and_fit() -> None:
    for given, tiles in ((couple(), 4), (couple(128, 512, 128, 28), 8), (couple(256, 1024, 256, 14), 16)):
        offered = latency_couple.forms(given, HOPPER)
        assert offered
        assert {form.splits * form.own for form in offered} == {tiles}
        assert any(not form.half for form in offered)
        assert all(latency_couple.shared_bytes(given, form) <= 227 * 1024 for form in offered)


def test_arguments_are_the_kernels() -> None:
    form = Form(splits=4, own=2, rows=7, half=True)
    kernel = latency_couple.implementation(couple(128, 512, 128, 28, pair=256), form, "sm_90a").steps[0].kernel
    assert kernel is not None
    assert [each.tensor_map.pointer.name for each in kernel.arguments[:3] if each.tensor_map] == ["0", "4", "0"]
    assert kernel.arguments[1].tensor_map is not None
    assert kernel.arguments[1].tensor_map.box == (64, 15, 13, 1)
    names = [each.pointer.name for each in kernel.arguments[3:9] if each.pointer is not None]
    assert names == ["weights", "bias", "next weights", "next bias", "8", "9"]
    sizes = struct.unpack("<10i2Q", bytes.fromhex(kernel.arguments[9].value))
    assert sizes == (512, 128, 28, 28, 7, 4, 512, 28 * 512, 128, 28 * 128, 28 * 28 * 512, 28 * 28 * 128)
    assert (kernel.grid, kernel.cluster, kernel.block) == ((4, 4, 4), (4, 1, 1), (256, 1, 1))


@pytest.mark.parametrize(
    ("given", "form"),
    [
        (couple(), Form(splits=1, own=4, rows=8, half=False)),
        (couple(pair=64), Form(splits=2, own=2, rows=7, half=True)),
        (couple(128, 512, 256, 28), Form(splits=8, own=1, rows=7, half=True)),
        (couple(256, 1024, 256, 14), Form(splits=8, own=2, rows=4, half=False)),
        (couple(dtype="bfloat16", activation=""), Form(splits=4, own=1, rows=5, half=False)),
    ],
)
def test_it_compiles_without_spilling(given: Problem, form: Form) -> None:
    said = compiler.resources(latency_couple.source(given, form), "sm_90a")
    assert "0 bytes spill stores" in said
    assert "serialized" not in said
