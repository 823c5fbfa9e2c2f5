"""Operands of a trial lie as they will in the network: strided, with gaps, channels last."""

import numpy as np
import pytest

from enginewright_builder.device import tensors, trial
from enginewright_builder.device.tensors import TensorType

SHAPE = (2, 3, 4, 5)


@pytest.mark.parametrize(
    "kind",
    [
        tensors.plain("float16", SHAPE),
        TensorType(dtype="float16", shape=SHAPE, strides=tensors.channels_last(SHAPE)),
        TensorType(dtype="float16", shape=SHAPE, strides=(4 * 5 * 8, 1, 5 * 8, 8)),  # a slice of eight channels
        tensors.plain("float16", ()),
        tensors.plain("float16", (3, 0)),
    ],
    ids=["C order", "channels last", "a slice", "a scalar", "empty"],
)
@pytest.mark.parametrize("small", [1 << 22, 0], ids=["by one processor", "by all"])
def test_packed_and_unpacked_is_the_same(kind, small, monkeypatch):
    monkeypatch.setattr(trial, "_SMALL", small)
    value = np.random.default_rng(0).standard_normal(kind.shape).astype(np.float16)
    flat = trial.pack(value, kind)
    assert flat.nbytes == kind.span_bytes
    again = trial.unpacked(flat, kind)
    assert again.shape == kind.shape
    np.testing.assert_array_equal(again, value)
