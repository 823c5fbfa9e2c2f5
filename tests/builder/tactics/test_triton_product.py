"""Products in Triton, without a card: what they take and pack, what they compute in its interpreter, what compiles."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from cuda_on_host.running import computed
from triton_on_host.interpreting import interpretation, interpreted, needs_triton

from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain, row_major
from enginewright_builder.tactics import hopper_form, triton_product
from enginewright_builder.tactics.triton_product import TILES, Tile, TritonProduct
from enginewright_runtime.engine.values import dtype_of
from enginewright_runtime.errors import UnsupportedError

AMPERE = Device(
    capability=80, multiprocessors=108, l2_bytes=40 << 20, shared_bytes=163 << 10, libraries={"triton": "here"}
)
CONSTANT = frozenset({1, 2})
POOL = {"kernel": (2, 2), "strides": (2, 2), "pads": (0, 0, 0, 0)}
SMALL = Tile(rows=16, columns=32, step=32, warps=4, stages=2)


def product(
    m: int, k: int, n: int, batch: tuple[int, ...] = (), *, dtype: str = "float16", out: str = "", bias: bool = True,
    residual: bool = False, turned: bool = False, pitch: int = 0, **more: Any,
) -> Problem:  # fmt: skip
    """y a slice of rows of `pitch` elements, b by columns where it is `turned`."""
    y = (*batch, m, n)
    rows = row_major((*batch, m, pitch or n))
    b = (*row_major((*batch, n, k))[:-2], 1, k) if turned else row_major((*batch, k, n))
    return Problem(
        kind=Kind.PRODUCT,
        inputs=(
            plain(dtype, (*batch, m, k)),
            TensorType(dtype=dtype, shape=(*batch, k, n), strides=b),
            plain("float32", (n,)) if bias else None,
            plain(out or dtype, y) if residual else None,
        ),
        outputs=(TensorType(dtype=out or dtype, shape=y, strides=rows),),
        attributes={"alpha": 1.0, "activation": "", "activation_parameters": {}, "gated": False, **more},
    )


def pixels(channels: int, outputs: int) -> Problem:
    shape, y = (2, channels, 3, 5), (2, outputs, 3, 5)
    kinds = [TensorType(dtype="float16", shape=each, strides=channels_last(each)) for each in (shape, y)]
    attributes = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1), "groups": 1, "activation": "Relu"}
    weights = plain("float16", (outputs, channels, 1, 1))
    return Problem(
        kind=Kind.CONVOLUTION,
        inputs=(kinds[0], weights, plain("float16", (outputs,)), None),
        outputs=(kinds[1],),
        attributes=attributes,
    )


PROBLEMS = {
    "odd everywhere": product(19, 77, 45, activation="Relu"),
    "residual": product(33, 64, 40, residual=True, activation="Gelu"),
    "gelu by tanh": product(5, 24, 33, activation="Gelu", activation_parameters={"approximate": "tanh"}),
    "gated, into a slice": product(7, 32, 21, pitch=64, activation="Sigmoid", gated=True),
    "hard swish": product(17, 48, 64, activation="HardSwish"),
    "into float32": product(9, 31, 50, out="float32", activation="Tanh", alpha=0.5),
    "batched": product(9, 16, 12, (2, 3), bias=False, alpha=0.125),
    "batched, b by columns": product(9, 17, 12, (5,), bias=False, turned=True),
    "clipped": product(4, 40, 33, activation="Clip", activation_parameters={"min": -0.5}),
    "leaky": product(4, 40, 33, activation="LeakyRelu", activation_parameters={"alpha": 0.1}),
    "elu": product(4, 40, 33, activation="Elu"),
    "hard sigmoid": product(4, 40, 33, activation="HardSigmoid"),
    "1 x 1 convolution": pixels(13, 37),
}
ACTIVATIONS = {
    "": lambda v, _: v,
    "Relu": lambda v, _: np.maximum(v, 0),
    "Gelu": lambda v, p: (
        v / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3))) if p else v / 2 * (1 + _erf(v / np.sqrt(2)))
    ),
    "Sigmoid": lambda v, _: 1 / (1 + np.exp(-v)),
    "HardSwish": lambda v, _: v * np.clip(v / 6 + 0.5, 0, 1),
    "Tanh": lambda v, _: np.tanh(v),
    "Clip": lambda v, p: np.clip(v, p.get("min"), p.get("max")),
    "LeakyRelu": lambda v, p: np.where(v < 0, v * p["alpha"], v),
    "Elu": lambda v, _: np.where(v < 0, np.exp(np.minimum(v, 0)) - 1, v),
    "HardSigmoid": lambda v, _: np.clip(0.2 * v + 0.5, 0, 1),
}
_erf = np.vectorize(math.erf)


def values_of(problem: Problem) -> list[Any]:
    random = np.random.default_rng(7)
    return [
        None if kind is None else random.standard_normal(kind.shape).astype(dtype_of(kind.dtype))
        for kind in problem.inputs
    ]


def expected(problem: Problem, inputs: list[Any]) -> Any:
    a, b, bias, residual = (None if each is None else each.astype(np.float64) for each in inputs)
    attributes = problem.attributes
    if problem.kind is Kind.CONVOLUTION:
        v = np.einsum("bchw,kc->bkhw", a, b[:, :, 0, 0]) + bias.reshape(-1, 1, 1)
    else:
        v = attributes["alpha"] * (a @ b) + (0 if bias is None else bias)
    v = v + (0 if residual is None else residual)
    bent = ACTIVATIONS[attributes["activation"]](v, attributes.get("activation_parameters", {}))
    return v * bent if attributes.get("gated") else bent


def test_weights_that_a_batch_shares_are_packed_once() -> None:
    shared = TensorType(dtype="float16", shape=(2, 24, 7), strides=(0, 7, 1))
    problem = product(5, 24, 7, (2,), bias=False)
    problem = dataclasses.replace(problem, inputs=(problem.inputs[0], shared, *problem.inputs[2:]))
    assert triton_product.refusal(problem, AMPERE, CONSTANT) == ""
    form = hopper_form.of_problem(problem, CONSTANT)
    assert form is not None
    weights = np.random.default_rng(3).standard_normal((24, 7)).astype(np.float16)
    packed = triton_product._weights(form, {1: np.broadcast_to(weights, shared.shape)})
    np.testing.assert_array_equal(packed, weights.T)


@needs_triton
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_kernel_computes_its_problem_on_odd_shapes(name: str) -> None:
    problem = PROBLEMS[name]
    constant = frozenset({2}) if "batched" in name else CONSTANT
    assert triton_product.refusal(problem, AMPERE, constant) == ""
    with interpretation():
        made = triton_product.implementation(problem, constant, SMALL, AMPERE)
    inputs = values_of(problem)
    (got,) = computed(made, problem, inputs, interpreted)
    want = expected(problem, inputs)
    step = 2.0**-11  # float16 alone: Triton 3.9's interpreter multiplies the bits of bfloat16
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=step, atol=step * np.abs(want).max())


@needs_triton
@pytest.mark.parametrize(
    ("capability", "dtype"), [*((each, "float16") for each in (80, 86, 89, 100, 120)), (80, "bfloat16")]
)
def test_compiles_for_every_architecture_that_it_takes(capability: int, dtype: str) -> None:
    shared = {80: 163, 100: 227}.get(capability, 99) << 10
    device = dataclasses.replace(AMPERE, capability=capability, shared_bytes=shared)
    candidates = TritonProduct().candidates(
        product(197, 768, 3072, dtype=dtype, residual=True, activation="Gelu"), device, CONSTANT
    )
    made = candidates[0].build()
    assert made.cubins["matrix_product"][:4] == b"\x7fELF"
    assert made.steps[0].kernel is not None
    assert 0 < made.steps[0].kernel.shared_bytes <= shared


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 86, 89, 100, 120])
@pytest.mark.parametrize("tile", TILES, ids=lambda tile: tile.name)
def test_every_tile_compiles_where_it_fits(tile: Tile, capability: int) -> None:
    shared = {80: 163, 100: 227}.get(capability, 99) << 10
    device = dataclasses.replace(AMPERE, capability=capability, shared_bytes=shared)
    if tile.shared_bytes <= shared:
        problem = product(197, 768, 3072, residual=True, activation="Sigmoid", gated=True)
        assert triton_product.implementation(problem, CONSTANT, tile, device).cubins


@needs_triton
def test_a_tile_that_wants_more_shared_memory_than_there_is_says_so() -> None:
    device = dataclasses.replace(AMPERE, shared_bytes=1 << 10)
    with pytest.raises(
        UnsupportedError, match=r"The tile 16x32x32, .* and a block of this GPU has 1024: try a smaller"
    ):
        triton_product.implementation(product(64, 64, 64), CONSTANT, SMALL, device)


def names(problem: Problem, device: Device = AMPERE) -> list[str]:
    return [each.name for each in TritonProduct().candidates(problem, device, CONSTANT)]


def test_large_products_begin_with_large_tiles_and_few_rows_with_small_ones() -> None:
    assert names(product(4096, 768, 3072))[0].startswith("128x")
    assert names(product(4, 768, 3072))[0].startswith("16x")


def test_tiles_that_do_not_fit_the_gpus_shared_memory_are_not_offered() -> None:
    small = dataclasses.replace(AMPERE, capability=89, shared_bytes=99 << 10)
    assert any(each.startswith("128x256") for each in names(product(4096, 768, 3072)))
    assert not any(each.startswith("128x256") for each in names(product(4096, 768, 3072), small))


def test_a_builder_without_triton_offers_nothing() -> None:
    assert names(product(64, 64, 64), dataclasses.replace(AMPERE, libraries={})) == []


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (dataclasses.replace(product(8, 8, 8), kind=Kind.ATTENTION), "it is no product of matrices"),
        (product(0, 8, 8), "it has an operand without elements"),
        (product(8, 8, 8, dtype="float32"), "its operands are not of one half type"),
        (product(8, 8, 8, activation="Mish"), "its activation is not in the kernel"),
        (dataclasses.replace(pixels(8, 8), attributes={**pixels(8, 8).attributes, "pool": POOL}), "a pair, a pool"),
        (product(8, 8, 8, tail=("Exp(v)",)), "it has a pair, a pool or a tail"),
        (product(1 << 16, 1 << 14, 8), "an operand has 2 GiB or more"),
    ],
)  # fmt: skip
def test_declines_with_a_reason(problem: Problem, reason: str) -> None:
    assert reason in triton_product.refusal(problem, AMPERE, CONSTANT)
    assert names(problem) == []


def test_turing_is_declined_and_hopper_only_where_its_own_kernels_do_not_take_the_operands() -> None:
    hopper = dataclasses.replace(AMPERE, capability=90, shared_bytes=227 << 10)
    assert "8.0" in triton_product.refusal(product(64, 64, 64), dataclasses.replace(AMPERE, capability=75), CONSTANT)
    assert triton_product.refusal(product(64, 64, 64), hopper, CONSTANT) == "Hopper's kernels take it"
    assert triton_product.refusal(product(64, 77, 64), hopper, CONSTANT) == ""
