"""Attention in one launch, without a card: what it takes, how it is cut, what it computes, that it compiles."""

import dataclasses
import struct

import numpy as np
import pytest
from compile_sweep.architectures import DEVICES
from cuda_on_host import warps
from cuda_on_host.running import computed, host_compilation

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, plain
from enginewright_builder.tactics import attention, attention_form
from enginewright_builder.tactics.attention_form import Form
from enginewright_runtime.engine.values import dtype_of

HOPPER = DEVICES[90]


def posed(
    b: int, h: int, s: int, t: int, d: int, e: int, mask: TensorType | None = None, *, causal: bool = False,
    dtype: str = "float16",
) -> Problem:  # fmt: skip
    q, k, v = (plain(dtype, (b, h, *each)) for each in ((s, d), (t, d), (t, e)))
    y = TensorType(dtype=dtype, shape=(b, h, s, e), strides=(s * h * e, e, h * e, 1))
    attributes = {"scale": d**-0.5, "causal": causal}
    return Problem(kind=Kind.ATTENTION, inputs=(q, k, v, mask), outputs=(y,), attributes=attributes)


def berts(batch: int = 1) -> Problem:
    """q, k and v side by side in rows of 2304 numbers."""
    wide = TensorType(dtype="float16", shape=(batch, 12, 128, 64), strides=(294912, 64, 2304, 1))
    given = posed(batch, 12, 128, 128, 64, 64, plain("float16", (batch, 1, 1, 128)))
    return dataclasses.replace(given, inputs=(wide, wide, wide, given.inputs[3]))


def names(given: Problem, device: Device = HOPPER) -> list[str]:
    return [each.name for each in attention.FlashAttention().candidates(given, device, frozenset())]


def form(row_warps: int, key_warps: int, keys: int) -> Form:
    return Form(row_warps=row_warps, key_warps=key_warps, keys=keys)


def expected(given: Problem, inputs: list[np.ndarray | None]) -> np.ndarray:
    q, k, v, mask = (None if each is None else each.astype(np.float64) for each in inputs)
    scores = q @ k.swapaxes(-1, -2) * given.attributes["scale"] + (0 if mask is None else mask)
    if given.attributes["causal"]:
        scores = np.where(np.tril(np.ones(scores.shape[-2:])), scores, -np.inf)
    with np.errstate(invalid="ignore"):
        weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def drawn(given: Problem) -> list[np.ndarray | None]:
    random = np.random.default_rng(3)
    return [
        None if each is None else random.standard_normal(each.shape).astype(dtype_of(each.dtype))
        for each in given.inputs
    ]


def on_host(given: Problem, cut: Form, inputs: list[np.ndarray | None]) -> np.ndarray:
    with host_compilation():
        made = attention.implementation(given, cut, HOPPER)
    return computed(made, given, inputs, warps.launch)[0].astype(np.float64)


@pytest.mark.parametrize(
    ("given", "cut"),
    [
        (posed(1, 1, 1, 1, 32, 32), form(1, 2, 16)),
        (posed(2, 2, 20, 128, 64, 64, plain("float16", (2, 1, 1, 128))), form(1, 4, 32)),
        (posed(1, 2, 70, 150, 64, 64, plain("float32", (1, 2, 70, 150))), form(2, 1, 64)),
        (posed(1, 1, 77, 77, 96, 40, causal=True), form(2, 2, 16)),
        (posed(1, 1, 20, 50, 24, 128, plain("bfloat16", (20, 1)), dtype="bfloat16"), form(1, 8, 16)),
    ],
    ids=["one key", "shared keys", "steps", "causal, odd heads", "bfloat16"],
)
def test_the_kernels_text_computes_attention(given: Problem, cut: Form) -> None:
    inputs = drawn(given)
    want = expected(given, inputs)
    allowed = 8e-3 if given.outputs[0].dtype == "bfloat16" else 1e-3  # the output's rounding, and the exponentials'
    assert np.max(np.abs(on_host(given, cut, inputs) - want)) <= allowed * np.max(np.abs(want))


def test_hidden_keys_count_for_nothing_and_a_row_of_nothing_else_is_nan_as_in_onnx_runtime() -> None:
    given = posed(1, 1, 4, 40, 32, 32, plain("float32", (1, 1, 4, 40)))
    inputs = drawn(given)
    mask = np.zeros((1, 1, 4, 40), np.float32)
    mask[..., 0, ::2], mask[..., 1, :32], mask[..., 2, :], mask[..., 3, :] = -np.inf, -np.inf, -np.inf, -3.4e38
    inputs[3] = mask
    want = expected(given, inputs)
    assert inputs[2] is not None
    want[:, :, 3] = inputs[2].astype(np.float64).mean(2)  # float32 sees no score beside such a mask
    np.testing.assert_allclose(on_host(given, form(1, 2, 16), inputs), want, atol=2e-3)


def test_a_small_batch_has_few_rows_a_block_and_shares_its_keys() -> None:
    first = attention_form.ranked(attention.work(berts()), HOPPER)[0]
    assert first.rows == 16
    assert first.key_warps >= 4


def test_a_large_batch_has_more_rows_a_block() -> None:
    assert attention_form.ranked(attention.work(berts(8)), HOPPER)[0].rows >= 64


@pytest.mark.parametrize("capability", [80, 86, 120])
def test_candidates_fit_the_shared_memory_of_a_block(capability: int) -> None:
    sizes = attention.work(posed(1, 1, 512, 512, 128, 128))
    cuts = attention_form.ranked(sizes, DEVICES[capability])
    assert 0 < len(cuts) <= attention_form.MOST
    assert all(attention_form.shared_bytes(cut, sizes) <= DEVICES[capability].shared_bytes for cut in cuts)


def test_steps_are_strides_and_none_where_a_mask_repeats() -> None:
    kernel = attention.implementation(berts(2), form(4, 2, 64), HOPPER).steps[0].kernel
    assert kernel is not None
    assert (kernel.grid, kernel.block, kernel.dependent) == ((2, 12, 2), (256, 1, 1), True)
    *steps, scale = struct.unpack("<18if", bytes.fromhex(kernel.arguments[5].value))
    wide = [294912, 64, 2304]
    assert steps == [128, 128, *wide, *wide, *wide, 98304, 64, 768, 128, 0, 0, 1]
    assert scale == 0.125


def test_runs_on_ampere_without_dependent_launch() -> None:
    kernel = attention.implementation(berts(), form(1, 4, 32), DEVICES[80]).steps[0].kernel
    assert kernel is not None
    assert not kernel.dependent


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (dataclasses.replace(berts(), kind=Kind.PRODUCT), "it is no attention"),
        (posed(1, 1, 0, 8, 64, 64), "it has nothing to compute"),
        (posed(1, 1, 8, 8, 8, 8, dtype="float32"), "q, k, v and y are not of one half type, or its mask is of another"),
        (posed(1, 1, 8, 8, 12, 64), "its heads are not of 8, 16, ... up to 128 numbers"),
        (posed(1, 1, 8, 8, 64, 256), "its heads are not of 8, 16, ... up to 128 numbers"),
        (posed(1, 65536, 1, 8, 8, 8), "it has more heads or batches than a grid"),
        (posed(1, 1, 1, 1 << 25, 64, 64), "a tensor is too large for offsets of 32 bits"),
    ],
)  # fmt: skip
def test_declines_with_a_reason(given: Problem, reason: str) -> None:
    assert attention.refusal(given, HOPPER) == reason
    assert names(given) == []


def test_declines_rows_that_are_not_in_whole_units() -> None:
    given = posed(1, 2, 8, 8, 64, 64)
    odd = TensorType(dtype="float16", shape=(1, 2, 8, 64), strides=(1088, 68, 136, 1))
    reason = "its rows are not contiguous in units of 16 bytes"
    assert attention.refusal(dataclasses.replace(given, inputs=(odd, *given.inputs[1:])), HOPPER) == reason


def test_declines_turing() -> None:
    assert "8.0" in attention.refusal(berts(), DEVICES[75])


@pytest.mark.parametrize("capability", [80, 86, 89, 90, 100, 120])
def test_compiles_for_every_architecture_that_it_takes(capability: int) -> None:
    device = DEVICES[capability]
    full = posed(1, 2, 300, 300, 128, 128, plain("float32", (1, 2, 300, 300)), causal=True)
    for given in (berts(), berts(8), full):
        cut = attention_form.ranked(attention.work(given), device)[0]
        assert "0 bytes spill stores" in compiler.resources(attention.source(given, cut), device.architecture)
