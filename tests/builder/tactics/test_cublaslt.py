"""cuBLASLt's products: what the records mean, held against NumPy by a model of the library's column-major semantics."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewright_builder.device import layout, lower
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain, row_major
from enginewright_builder.network.definition import Network
from enginewright_builder.tactics import cublaslt
from enginewright_builder.tactics import device as tactics
from enginewright_builder.tactics.cublaslt import CublasLtTactic
from enginewright_builder.tactics.cublaslt_product import packed_patches, product
from enginewright_runtime.engine.cuda.program import MatrixLayout, MatrixProduct, Pointer, Space
from enginewright_runtime.errors import PlanError, UnsupportedError
from enginewright_runtime.plan.recipe import Effort

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 << 10)
Flat = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
WEIGHTS_KNOWN = frozenset({1, 2})


def flat(kind: TensorType, value: Flat) -> Flat:
    memory = np.full(kind.span_bytes // 4, np.nan, np.float32)
    view(memory, kind)[...] = value
    return memory


def view(memory: Flat, kind: TensorType) -> Flat:
    return np.lib.stride_tricks.as_strided(memory, kind.shape, tuple(4 * stride for stride in kind.strides))


def columns(memory: Flat, layout: MatrixLayout, transpose: bool = False) -> Flat:
    """The batch of matrices that the library sees."""
    strides = (4 * layout.batch_stride, 4, 4 * layout.leading)
    seen = np.lib.stride_tricks.as_strided(memory, (layout.batch, layout.rows, layout.columns), strides)
    return seen.transpose(0, 2, 1) if transpose else seen


def library(record: MatrixProduct, memory: Mapping[tuple[Space, str], Flat]) -> None:
    """What cublasLtMatmul does, written down: d = epilogue(alpha op(a) op(b) + beta c + bias)."""

    def at(pointer: Pointer) -> Flat:
        return memory[pointer.space, pointer.name]

    assert record.a_layout.leading >= record.a_layout.rows
    assert record.b_layout.leading >= record.b_layout.rows
    a = columns(at(record.a), record.a_layout, record.transpose_a)
    b = columns(at(record.b), record.b_layout, record.transpose_b)
    d = columns(at(record.d), record.d_layout)
    value = record.alpha * (a @ b)
    if record.beta:
        value = value + record.beta * columns(at(record.c), record.c_layout)
    if record.bias is not None:
        value = value + at(record.bias)[: record.d_layout.rows, None]
    d[...] = np.maximum(value, 0) if record.epilogue.startswith("RELU") else value


def answered(problem: Problem, inputs: list[Flat | None]) -> Flat:
    """What the record of the problem computes."""
    record = product(problem, WEIGHTS_KNOWN)
    assert record is not None
    memory = {
        (Space.OPERAND, str(number)): flat(kind, value)
        for number, (kind, value) in enumerate(zip(problem.inputs, inputs, strict=True))
        if kind is not None and value is not None
    }
    y = problem.outputs[0]
    memory[Space.OPERAND, "4"] = np.full(y.span_bytes // 4, np.nan, np.float32)
    if inputs[1] is not None:
        memory[Space.CONSTANT, "weights"] = packed_patches({1: inputs[1]}).reshape(-1)
    library(record, memory)
    return view(memory[Space.OPERAND, "4"], y)


def matrices(a: TensorType, b: TensorType, y: TensorType, **more: object) -> Problem:
    attributes = {"alpha": 1.0, "activation": "", "activation_parameters": {}, "gated": False}
    bias, residual = more.pop("bias", None), more.pop("residual", None)
    return Problem(kind=Kind.PRODUCT, inputs=(a, b, bias, residual), outputs=(y,), attributes=attributes | more)  # type: ignore[arg-type]


def turned(shape: tuple[int, ...]) -> TensorType:
    """Matrices stored by columns."""
    strides = row_major((*shape[:-2], shape[-1], shape[-2]))
    return TensorType(dtype="float32", shape=shape, strides=(*strides[:-2], strides[-1], strides[-2]))


def f32(*shape: int) -> TensorType:
    return plain("float32", shape)


def random(*shape: int) -> Flat:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@given(
    m=st.integers(1, 5), k=st.integers(1, 5), n=st.integers(1, 5), batch=st.sampled_from([(), (3,), (2, 3)]),
    first=st.booleans(), second=st.booleans(), bias=st.booleans(), residual=st.booleans(), relu=st.booleans(),
)  # fmt: skip
def test_a_record_computes_the_product_however_its_operands_lie(
    m: int, k: int, n: int, batch: tuple[int, ...], first: bool, second: bool, bias: bool, residual: bool, relu: bool
) -> None:
    a = (turned if first else f32)((*batch, m, k)) if first else f32(*batch, m, k)
    b = turned((*batch, k, n)) if second else f32(*batch, k, n)
    y = f32(*batch, m, n)
    problem = matrices(
        a, b, y, bias=f32(n) if bias else None, residual=y if residual else None, alpha=0.5,
        activation="Relu" if relu else "",
    )  # fmt: skip
    values = [random(*a.shape), random(*b.shape), random(n) if bias else None, random(*y.shape) if residual else None]
    assert values[0] is not None
    want = 0.5 * (values[0] @ values[1]) + sum(each for each in values[2:] if each is not None)
    want = np.maximum(want, 0) if relu else want
    np.testing.assert_allclose(answered(problem, values), want, rtol=1e-5, atol=1e-5)


def test_one_matrix_for_every_product_of_a_batch_makes_one_product_of_more_rows() -> None:
    shared = TensorType(dtype="float32", shape=(2, 3, 7, 5), strides=(0, 0, 5, 1))
    record = product(matrices(f32(2, 3, 4, 7), shared, f32(2, 3, 4, 5)), frozenset())
    assert record is not None
    assert (record.d_layout.batch, record.d_layout.columns) == (1, 24)


def test_a_shared_matrix_over_rows_that_do_not_follow_each_other_stays_a_batch() -> None:
    shared = TensorType(dtype="float32", shape=(3, 7, 5), strides=(0, 5, 1))
    spread = TensorType(dtype="float32", shape=(3, 4, 7), strides=(40, 7, 1))
    values = [random(3, 4, 7), np.broadcast_to(random(7, 5), (3, 7, 5)), None, None]
    problem = matrices(spread, shared, f32(3, 4, 5))
    record = product(problem, frozenset())
    assert record is not None
    assert (record.a_layout.batch_stride, record.b_layout.batch_stride, record.d_layout.batch) == (0, 40, 3)
    assert values[0] is not None
    np.testing.assert_allclose(answered(problem, values), values[0] @ values[1], rtol=1e-5, atol=1e-5)


def convolution(x: TensorType, weights: TensorType, y: TensorType, **more: object) -> Problem:
    spatial = len(x.shape) - 2
    attributes = {
        "strides": (1,) * spatial, "pads": (0,) * 2 * spatial, "dilations": (1,) * spatial, "groups": 1,
        "activation": "", "activation_parameters": {}, "gated": False,
    }  # fmt: skip
    bias, residual = more.pop("bias", None), more.pop("residual", None)
    return Problem(
        kind=Kind.CONVOLUTION, inputs=(x, weights, bias, residual), outputs=(y,), attributes=attributes | more
    )  # type: ignore[arg-type]


def image(*shape: int, pitch: int = 0) -> TensorType:
    """Channels last; `pitch` is the number of channels of the buffer that it is a slice of."""
    strides = channels_last((shape[0], pitch or shape[1], *shape[2:]))
    return TensorType(dtype="float32", shape=shape, strides=strides)


@pytest.mark.parametrize("spatial", [(6,), (3, 5), (2, 3, 2)])
def test_a_pointwise_convolution_is_one_product_of_all_pixels_into_a_slice_too(spatial: tuple[int, ...]) -> None:
    x, y = image(2, 5, *spatial, pitch=9), image(2, 7, *spatial, pitch=16)
    ones = (1,) * len(spatial)
    problem = convolution(x, f32(7, 5, *ones), y, bias=f32(7), residual=image(2, 7, *spatial), activation="Relu")
    values = [random(*x.shape), random(7, 5, *ones), random(7), random(*y.shape)]
    want = np.einsum("nc...,kc->nk...", values[0], values[1].reshape(7, 5)) + values[3]
    want = np.maximum(want + values[2].reshape(1, 7, *ones), 0)
    np.testing.assert_allclose(answered(problem, [*values]), want, rtol=1e-5, atol=1e-5)


def test_a_convolution_as_large_as_its_image_is_a_product_with_packed_weights() -> None:
    problem = convolution(image(3, 4, 2, 5), f32(6, 4, 2, 5), image(3, 6, 1, 1))
    values = [random(3, 4, 2, 5), random(6, 4, 2, 5), None, None]
    assert values[0] is not None
    want = np.einsum("nchw,kchw->nk", values[0], values[1]).reshape(3, 6, 1, 1)
    np.testing.assert_allclose(answered(problem, values), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("problem", "why"),
    [
        (convolution(image(1, 4, 5, 5), f32(6, 4, 3, 3), image(1, 6, 3, 3)), "windows overlap"),
        (convolution(f32(1, 4, 5, 5), f32(6, 4, 1, 1), f32(1, 6, 5, 5)), "channels first"),
        (convolution(image(1, 4, 5, 5), f32(6, 2, 1, 1), image(1, 6, 5, 5), groups=2), "groups"),
        (convolution(image(1, 4, 5, 5), f32(6, 4, 1, 1), image(1, 6, 3, 3), strides=(2, 2)), "pixels left out"),
        (convolution(image(1, 4, 5, 5), f32(6, 4, 1, 1), image(1, 6, 7, 7), pads=(1,) * 4), "padding"),
        (matrices(f32(4, 3), f32(3, 5), f32(4, 5), activation="Tanh"), "no such epilogue"),
        (matrices(f32(4, 3), f32(3, 5), f32(4, 5), activation="Gelu"), "its GELU is the tanh form"),
        (matrices(f32(4, 3), f32(3, 5), f32(4, 5), activation="Relu", gated=True), "gated"),
        (matrices(f32(4, 3), f32(3, 5), f32(4, 5), bias=f32(4, 1)), "one bias a row"),
        (matrices(f32(4, 3), f32(3, 5), turned((4, 5))), "output by columns"),
        (matrices(f32(0, 3), f32(3, 5), f32(0, 5)), "nothing to do"),
    ],
)
def test_what_is_no_product_of_the_library_is_not_taken(problem: Problem, why: str) -> None:
    assert product(problem, WEIGHTS_KNOWN) is None, why


def test_the_tanh_form_of_gelu_is_its_epilogue() -> None:
    problem = matrices(
        f32(4, 3), f32(3, 5), f32(4, 5), bias=f32(5), activation="Gelu", activation_parameters={"approximate": "tanh"}
    )
    record = product(problem, frozenset())
    assert record is not None
    assert record.epilogue == "GELU_BIAS"


def test_a_constant_bias_of_another_dtype_is_converted_and_a_computed_one_declined() -> None:
    half = plain("float16", (4, 4))
    problem = replace(matrices(half, half, half, bias=f32(4)))
    record = product(problem, frozenset({2}))
    assert record is not None
    assert record.bias == Pointer(space=Space.CONSTANT, name="bias")
    assert product(problem, frozenset()) is None


def test_float32_is_rounded_to_tf32_only_where_the_problem_allows_it() -> None:
    problem = matrices(f32(4, 3), f32(3, 5), f32(4, 5))
    exact, rounded = (
        product(problem, frozenset()),
        product(matrices(*problem.operands[:2], f32(4, 5), math="tf32"), frozenset()),
    )  # type: ignore[arg-type]
    assert exact is not None
    assert rounded is not None
    assert (exact.compute, rounded.compute) == ("COMPUTE_32F", "COMPUTE_32F_FAST_TF32")


@given(st.tuples(*[st.integers(-1, 99)] * 9))
def test_a_name_says_its_algorithm_and_back(settings: tuple[int, ...]) -> None:
    algorithm = cublaslt.Algorithm(settings=settings)
    assert cublaslt.parse(algorithm.name) == algorithm


def test_a_split_adds_its_parts_in_float32() -> None:
    split = cublaslt.Algorithm(settings=(66, 20, 35, 1, 0, 0, 0, 0, 2)).with_split(4)
    assert (
        split.name == "algorithm 66, tile 20, stages 35, split 4, reduction 2, swizzle 0, custom 0, inner 0, cluster 2"
    )


def test_a_name_that_says_no_algorithm_is_refused_with_a_sentence() -> None:
    with pytest.raises(UnsupportedError, match="'engine 3' names no algorithm of cuBLASLt: remove it"):
        cublaslt.parse("engine 3")


def test_where_every_algorithm_is_asked_for_those_that_the_library_takes_come_behind_the_named_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named = cublaslt.Algorithm(settings=(66, 20, 35, 1, 0, 0, 0, 0, 2))

    def checked(record: MatrixProduct, algorithm: cublaslt.Algorithm) -> tuple[bytes, int]:
        if algorithm.settings[1] == 9:
            raise PlanError("no such tile: try another.")
        return b"", 0

    monkeypatch.setattr(cublaslt, "_algorithms", lambda record: iter([named]))
    monkeypatch.setattr(cublaslt, "_checked", checked)
    monkeypatch.setattr(cublaslt.cublaslt_library, "numbers", lambda record: [1, 66])
    monkeypatch.setattr(cublaslt.cublaslt_library, "offered", lambda record, number: ([8, 9, 10], [number, 2]))
    problem = matrices(f32(4, 3), f32(3, 5), f32(4, 5))
    found = [
        cublaslt.parse(each.name)
        for each in cublaslt.CublasLtTactic(every=True).candidates(
            problem, replace(HOPPER, libraries={"cublaslt": "1"}), frozenset()
        )
    ]
    assert found[0] == named
    assert [each.settings[:3] for each in found[1:]] == [
        (number, tile, stages) for number in (66, 1) for tile in (8, 10) for stages in (number, 2)
    ]


@pytest.mark.parametrize("effort", Effort)
def test_every_algorithm_is_asked_for_where_nobody_is_in_a_hurry(
    effort: Effort, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(CublasLtTactic, "candidates", lambda tactic, *given: asked.append(tactic.every) or ())
    network = Network("product")
    network.mark_output(network.add_fully_connected(network.add_input("x", (4, 8)), 16, np.ones((16, 8))), "y")
    placed = layout.assign(network)
    for layer in lower.lower(network, placed.places, placed.free):
        tactics.candidates(layer, HOPPER, effort)
    assert set(asked) == {effort is Effort.THOROUGH}


def test_where_the_device_has_no_such_library_nothing_is_offered_and_nothing_asked() -> None:
    problem = matrices(f32(4, 3), f32(3, 5), f32(4, 5))
    assert cublaslt.CublasLtTactic().candidates(problem, HOPPER, frozenset()) == ()


def test_importing_the_tactics_imports_nothing_of_the_vendors() -> None:
    modules = "enginewright_builder.tactics.cublaslt, enginewright_builder.tactics.cudnn"
    check = f"import sys, {modules}; print(sorted({{'cudnn', 'cuda', 'cuda.pathfinder', 'cupy'}} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "[]"
