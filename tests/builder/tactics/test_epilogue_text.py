"""The C++ of a tail, run on the host, against what its operators mean."""

import numpy as np
import pytest
from cuda_on_host.running import run_on_host

from enginewright_builder.device import reference, tails
from enginewright_builder.device.expression import Computation, Load
from enginewright_builder.device.operators import terms
from enginewright_builder.network import tail
from enginewright_builder.network.tail import BINARY, UNARY
from enginewright_builder.tactics import epilogue_text, hopper_launch, kernel_text
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space

ON_HOST = {
    'asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));': "y = exp2f(x);",
    'asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));': "y = 1.f / x;",
    'asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));': "y = log2f(x);",
    'asm("sqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));': "y = sqrtf(x);",
    "__device__ __forceinline__": "inline",
    "__int_as_float": "::of_bits",
}
KERNEL = """
extern "C" __global__ void each(const float* v, const float* r, float* y) {
    const int i = blockIdx.x * 128 + threadIdx.x;
    y[i] = tail(v[i], r[i]);
}
"""
TAILS = [
    *([f"{name}(v)"] for name in sorted(UNARY)),
    *([f"{name}(v, r)"] for name in sorted(BINARY - {"Pow"})),
    *([f"{name}(-0.5, v)"] for name in sorted(BINARY - {"Pow"})),
    ["Pow(v, 2.0)"], ["Pow(v, 3.0)", "Sub(s0, v)"], ["Gelu(v, approximate=tanh)"], ["Selu(v, alpha=2.0, gamma=0.5)"],
    ["Clip(v, max=0.5)", "Elu(s0, alpha=0.3)"], ["Softplus(v)", "Tanh(s0)", "Mul(v, s1)", "Mul(s2, r)"],
    ["Min(v, inf)", "Add(s0, 1e-05)"],
]  # fmt: skip


@pytest.mark.parametrize("lines", TAILS, ids=" | ".join)
def test_the_text_computes_what_the_operators_mean(lines: list[str]) -> None:
    steps = tail.parsed(lines)
    random = np.random.default_rng(2)
    v, r = (2 * random.standard_normal((2, 512))).astype(np.float32)
    loads = [Load(number, tuple(terms.indices(v.shape)), "float32") for number in range(2)]
    want = reference.evaluate(
        Computation(shape=v.shape, dtype="float32", value=tails.expression(steps, *loads)), [v, r]
    )
    np.testing.assert_allclose(ran(steps, v, r), want, rtol=3e-6, atol=2e-6)


def test_what_is_not_a_number_stays_so_through_max_and_min() -> None:
    v = np.full(128, np.nan, np.float32)
    for lines in (["Max(v, 0.5)"], ["Min(0.5, v)"], ["Relu(v)"], ["Clip(v, min=0.0, max=6.0)"]):
        assert np.isnan(ran(tail.parsed(lines), v, v)).all()


def ran(steps: tail.Tail, v: np.ndarray, r: np.ndarray) -> np.ndarray:
    y = np.zeros_like(v)
    text = kernel_text.header("activations.cuh") + epilogue_text.text(steps)
    for ours, its in ON_HOST.items():
        assert ours in text or "approx" in ours
        text = text.replace(ours, its)
    arguments = tuple(Argument(pointer=Pointer(space=Space.OPERAND, name=name)) for name in ("v", "r", "y"))
    kernel = Kernel(cubin="k", function="each", grid=(v.size // 128, 1, 1), block=(128, 1, 1), arguments=arguments)
    buffers = {(Space.OPERAND, "v"): v, (Space.OPERAND, "r"): r, (Space.OPERAND, "y"): y}
    run_on_host([kernel], {"k": text + KERNEL}, buffers)
    return y


PLAIN = {"activation": "Relu", "activation_parameters": {}, "gated": False}
TAILED = {**PLAIN, "tail": ("Add(v, r)",)}


def test_a_kernel_without_a_tail_calls_its_activation_and_has_no_other_text() -> None:
    assert epilogue_text.packed(PLAIN) == "pack_positive(a, b)"
    assert epilogue_text.packed(PLAIN, residual=True) == "pack_positive(a + r.x, b + r.y)"
    assert epilogue_text.activated(PLAIN, "v") == "relu(v, 0.f, 0.f)"
    assert epilogue_text.text(epilogue_text.tail(PLAIN)) == ""


def test_a_residual_that_the_tail_reads_is_not_added_to_the_sum() -> None:
    assert epilogue_text.packed(TAILED, residual=True) == "pack(tail(a, r.x), tail(b, r.y))"
    assert epilogue_text.packed({**PLAIN, "tail": ("Exp(v)",)}, residual=True) == (
        "pack(tail((a + r.x), 0.f), tail((b + r.y), 0.f))"
    )


def test_an_activation_that_a_kernel_does_not_know_is_a_tail() -> None:
    mish = {**PLAIN, "activation": "Mish"}
    assert tail.texts(epilogue_text.tail(mish, hopper_launch.ACTIVATIONS)) == ("Mish(v)",)
    assert epilogue_text.tail({**PLAIN, "activation": "Gelu"}, hopper_launch.ACTIVATIONS) == ()
