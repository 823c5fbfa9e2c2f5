"""Windows, Fourier and mel, against NumPy's and ONNX Runtime's."""

import numpy as np
import pytest


@pytest.mark.parametrize("operator", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
def test_a_window(agrees, operator, periodic):
    agrees(operator, np.array(10, np.int64), periodic=periodic, rtol=1e-5)


@pytest.mark.parametrize("inverse", [0, 1])
def test_a_transform_of_complex_numbers(lowered, numbers, inverse):
    x = numbers(2, 9, 2)
    (y,) = lowered("DFT", [x], [("float32", (2, 9, 2))], inverse=inverse, opset=19, axis=1)
    want = (np.fft.ifft if inverse else np.fft.fft)(x[..., 0] + 1j * x[..., 1], axis=1)
    np.testing.assert_allclose(y, np.stack([want.real, want.imag], -1), rtol=1e-4, atol=1e-5)


def test_half_a_spectrum_of_real_numbers(lowered, numbers):
    x = numbers(2, 9, 1)
    (y,) = lowered("DFT", [x, None, np.array(1, np.int64)], [("float32", (2, 5, 2))], onesided=1, constant=(2,))
    want = np.fft.rfft(x[..., 0], axis=1)
    np.testing.assert_allclose(y, np.stack([want.real, want.imag], -1), rtol=1e-4, atol=1e-5)


def test_a_signal_is_padded_to_the_length_that_is_asked_for(lowered, numbers):
    x = numbers(2, 5, 1)
    inputs = [x, np.array(8, np.int64), np.array(1, np.int64)]
    (y,) = lowered("DFT", inputs, [("float32", (2, 8, 2))], constant=(1, 2))
    want = np.fft.fft(x[..., 0], 8, axis=1)
    np.testing.assert_allclose(y, np.stack([want.real, want.imag], -1), rtol=1e-4, atol=1e-5)


def test_mel_weights(agrees):
    inputs = [np.array(8), np.array(16), np.array(8192), np.float32(0), np.float32(4096)]
    agrees("MelWeightMatrix", *inputs, rtol=1e-5)
