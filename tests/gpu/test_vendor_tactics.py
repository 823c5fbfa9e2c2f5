"""cuDNN's and cuBLASLt's candidates on the device: every one of them right on odd shapes, eager and in a graph."""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from one_layer import laid_out, view

from enginewright_builder.device.implementation import Candidate, Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain, row_major
from enginewright_builder.tactics.cublaslt import CublasLtTactic
from enginewright_builder.tactics.cudnn import CudnnTactic
from enginewright_builder.tactics.vendor_pair import VendorPair
from enginewright_runtime.engine.cuda.cublaslt import CublasLtLibrary
from enginewright_runtime.engine.cuda.cudnn import CudnnLibrary
from enginewright_runtime.engine.cuda.program import Pointer, Space
from enginewright_runtime.engine.values import dtype_of
from enginewright_runtime.errors import UnsupportedError

pytestmark = pytest.mark.gpu

Array = np.ndarray[Any, np.dtype[Any]]
Tactic = CudnnTactic | CublasLtTactic | VendorPair
HERE = Device(
    capability=0, multiprocessors=0, l2_bytes=0, shared_bytes=0, libraries={"cudnn": "here", "cublaslt": "here"}
)  # the tactics read the libraries' names alone
KNOWN = frozenset({1, 2, 5})
TRIED = 4  # candidates of a problem: a build takes a while, and the tuner checks each one that it tries
# Of the output's range: half a step of the dtype, and float32's rounding over the longest sum here.
ALLOWED = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-5}


class Bench:
    """Device memory for the operands of a problem, and the libraries."""

    def __init__(self) -> None:
        import cupy

        self.cupy = cupy
        self.libraries: Mapping[str, Any] = {"cudnn": CudnnLibrary(), "cublaslt": CublasLtLibrary()}
        self.stream = cupy.cuda.Stream(non_blocking=True)

    def launcher(self, made: Implementation, operands: list[Any], constants: dict[int, Array]) -> Callable[[], None]:
        """A function that enqueues the implementation's steps."""
        packed = {name: self.upload(pack(constants)) for name, pack in made.constants.items()}
        scratch = self.cupy.full(max(made.workspace_bytes, 16), 255, self.cupy.uint8)

        def address(pointer: Pointer) -> int:
            where = {Space.OPERAND: lambda: operands[int(pointer.name)], Space.CONSTANT: lambda: packed[pointer.name]}
            return int(where.get(pointer.space, lambda: scratch)().data.ptr) + pointer.offset

        ready = [
            self.libraries["cudnn" if step.cudnn else "cublaslt"].prepare(
                step.cudnn or step.product, made.graphs.__getitem__
            )
            for step in made.steps
        ]

        def launch() -> None:
            for each in ready:
                each.launch(self.stream.ptr, address)

        return launch

    def upload(self, array: Array) -> Any:
        return self.cupy.asarray(np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8))


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


def values_of(problem: Problem) -> list[Array | None]:
    random = np.random.default_rng(7)
    made: list[Array | None] = []
    for number, kind in enumerate(problem.inputs):
        if kind is None:
            made.append(None)
            continue
        # Weights are small, so that sums are where activations bend.
        scale = 0.125 if number in (1, 5) and problem.kind is not Kind.ATTENTION else 1.0
        made.append((scale * random.standard_normal(kind.shape)).astype(np.float32).astype(dtype_of(kind.dtype)))
    return made


def convolved(problem: Problem, x: Array, weights: Array) -> Array:
    """The sums of a convolution in float64, window by window."""
    attributes, spatial = problem.attributes, x.ndim - 2
    pads = list(zip(attributes["pads"][:spatial], attributes["pads"][spatial:], strict=True))
    padded = np.pad(x, [(0, 0), (0, 0), *pads])
    reach = [d * (k - 1) + 1 for d, k in zip(attributes["dilations"], weights.shape[2:], strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(2, x.ndim)))
    windows = windows[(..., *(slice(None, None, step) for step in attributes["dilations"]))]
    windows = windows[(slice(None), slice(None), *(slice(None, None, step) for step in attributes["strides"]))]
    groups = attributes["groups"]
    parts = [
        np.tensordot(part, filters, axes=([1, *range(2 + spatial, 2 + 2 * spatial)], list(range(1, 2 + spatial))))
        for part, filters in zip(np.split(windows, groups, 1), np.split(weights, groups), strict=True)
    ]
    return np.moveaxis(np.concatenate(parts, -1), -1, 1)


def transposed(problem: Problem, x: Array, weights: Array) -> Array:
    """Every pixel scattered through the window, in float64. One group."""
    y = np.zeros((x.shape[0], weights.shape[1], *(extent + 64 for extent in problem.outputs[0].shape[2:])))
    for at in itertools.product(*map(range, weights.shape[2:])):
        pieces = np.moveaxis(np.tensordot(x, weights[(..., *at)], axes=([1], [0])), -1, 1)
        steps = problem.attributes["strides"]
        where = [slice(a, a + s * n, s) for a, s, n in zip(at, steps, x.shape[2:], strict=True)]
        y[(slice(None), slice(None), *where)] += pieces
    starts = problem.attributes["pads"]
    kept = [slice(p, p + n) for p, n in zip(starts, problem.outputs[0].shape[2:], strict=False)]
    return y[(slice(None), slice(None), *kept)]


def attended(problem: Problem, q: Array, k: Array, v: Array, mask: Array | None) -> Array:
    scores = q @ k.swapaxes(-1, -2) * problem.attributes["scale"]
    if mask is not None:
        scores = scores + mask
    if problem.attributes.get("causal"):
        scores = np.where(np.tril(np.ones(scores.shape[-2:])), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def activated(value: Array, problem: Problem) -> Array:
    given = problem.attributes.get("activation_parameters", {})
    functions: Mapping[str, Callable[[Array], Array]] = {
        "": lambda v: v,
        "Relu": lambda v: np.maximum(v, 0),
        "LeakyRelu": lambda v: np.where(v > 0, v, given.get("alpha", 0.01) * v),
        "Sigmoid": lambda v: 1 / (1 + np.exp(-v)),
        "Tanh": np.tanh,
        "Clip": lambda v: np.clip(v, given.get("min"), given.get("max")),
        "Elu": lambda v: np.where(v > 0, v, np.expm1(v)),
        "Softplus": lambda v: np.logaddexp(v, 0),
        "Mish": lambda v: v * np.tanh(np.logaddexp(v, 0)),
        "HardSigmoid": lambda v: np.clip(given.get("alpha", 0.2) * v + given.get("beta", 0.5), 0, 1),
        "HardSwish": lambda v: v * np.clip(v / 6 + 0.5, 0, 1),
        "Gelu": lambda v: (
            0.5 * v * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))
            if given.get("approximate") == "tanh"
            else 0.5 * v * (1 + np.vectorize(math.erf)(v / math.sqrt(2)))
        ),
    }
    made = functions[problem.attributes.get("activation", "")](value)
    return value * made if problem.attributes.get("gated") else made


def expected(problem: Problem, inputs: list[Array | None]) -> Array:
    first, second, bias, residual = [None if each is None else each.astype(np.float64) for each in [*inputs, None][:4]]
    assert first is not None
    assert second is not None
    match problem.kind:
        case Kind.ATTENTION:
            assert bias is not None, "the values"
            return attended(problem, first, second, bias, residual)
        case Kind.PRODUCT:
            value = problem.attributes["alpha"] * (first @ second) + (0 if bias is None else bias)
        case _:
            value = (transposed if problem.kind is Kind.TRANSPOSED_CONVOLUTION else convolved)(problem, first, second)
            value = value if bias is None else value + bias.reshape(-1, *(1,) * (first.ndim - 2))
            if "pair" in problem.attributes:
                other = replace(problem, attributes={**problem.attributes, **problem.attributes["pair"]})
                x2, w2 = (each.astype(np.float64) for each in inputs[4:] if each is not None)
                value = value + convolved(other, x2, w2)
    return activated(value if residual is None else value + residual, problem)


def check(bench: Bench, tactic: Tactic, problem: Problem, tried: slice = slice(TRIED)) -> None:
    """Each candidate that the library takes is right, also replayed from a graph; the first is made again by name."""
    inputs, y = values_of(problem), problem.outputs[0]
    want = expected(problem, inputs)
    constants = {number: array for number in KNOWN if number < len(inputs) and (array := inputs[number]) is not None}
    operands = [
        None if kind is None or value is None else bench.upload(laid_out(kind, value))
        for kind, value in zip(problem.inputs, inputs, strict=True)
    ]
    operands.append(bench.cupy.full(y.span_bytes, 255, bench.cupy.uint8))
    ran = 0
    for candidate in tactic.candidates(problem, HERE, KNOWN)[tried]:
        made = built(candidate)
        if made is None:
            continue
        launch = bench.launcher(made, operands, constants)
        for run in (eagerly, replayed):
            operands[-1].fill(255)
            bench.cupy.cuda.Device().synchronize()
            run(bench, launch)
            got = view(np.frombuffer(operands[-1].get().tobytes(), dtype_of(y.dtype)), y).astype(np.float64)
            error = float(np.max(np.abs(got - want)) / np.max(np.abs(want)))
            narrow = problem.inputs[0].dtype if problem.inputs[0] is not None else ""
            assert error < ALLOWED[narrow], f"{tactic.name}, {candidate.name}, {run.__name__}: {error}"
        if not ran:  # of one candidate: building takes longer than running
            assert tactic.named(problem, KNOWN, candidate.name).build().steps == made.steps
        ran += 1
    assert ran, f"{tactic.name} has nothing for it"


def built(candidate: Candidate) -> Implementation | None:
    try:
        return candidate.build()
    except UnsupportedError:
        return None


def eagerly(bench: Bench, launch: Callable[[], None]) -> None:
    launch()
    bench.stream.synchronize()


def replayed(bench: Bench, launch: Callable[[], None]) -> None:
    with bench.stream:
        bench.stream.begin_capture()
        launch()
        graph = bench.stream.end_capture()
        graph.launch(bench.stream)
    bench.stream.synchronize()


def convolution(
    shape: tuple[int, ...], weights: tuple[int, ...], *, dtype: str = "float16", pitch: int = 0, residual: bool = False,
    bias: bool = True, kind: Kind = Kind.CONVOLUTION, first: bool = False, **more: Any,
) -> Problem:  # fmt: skip
    """Channels last, or first; the output a slice of a buffer of `pitch` channels."""
    spatial = len(shape) - 2
    attributes: dict[str, Any] = {
        "strides": (1,) * spatial, "pads": (1,) * 2 * spatial, "dilations": (1,) * spatial, "groups": 1,
        "activation": "Relu", "activation_parameters": {}, "gated": False, **more,
    }  # fmt: skip
    sizes = zip(
        shape[2:], weights[2:], attributes["strides"], attributes["dilations"],
        attributes["pads"][:spatial], attributes["pads"][spatial:], strict=True,
    )  # fmt: skip
    if kind is Kind.TRANSPOSED_CONVOLUTION:
        channels, extents = weights[1], [(n - 1) * s - a - b + d * (k - 1) + 1 for n, k, s, d, a, b in sizes]
    else:
        channels, extents = weights[0], [(n + a + b - d * (k - 1) - 1) // s + 1 for n, k, s, d, a, b in sizes]
    out = (shape[0], channels, *extents)
    order = row_major if first else channels_last
    y = TensorType(dtype=dtype, shape=out, strides=order((out[0], pitch or out[1], *extents)))
    return Problem(
        kind=kind,
        inputs=(
            TensorType(dtype=dtype, shape=shape, strides=order(shape)),
            plain(dtype, weights),
            plain(dtype, (channels,)) if bias else None,
            TensorType(dtype=dtype, shape=out, strides=order(out)) if residual else None,
        ),
        outputs=(y,),
        attributes=attributes,
    )


CONVOLUTIONS = {
    "3 x 3": convolution((3, 64, 7, 7), (64, 64, 3, 3), residual=True),
    "into a slice": convolution((1, 64, 7, 7), (64, 64, 1, 1), pads=(0,) * 4, pitch=256),
    "1000 channels": convolution((1, 128, 7, 7), (1000, 128, 1, 1), pads=(0,) * 4, activation=""),
    "stride 2, asymmetric": convolution((1, 16, 15, 15), (24, 16, 3, 3), strides=(2, 2), pads=(0, 1, 2, 1)),
    "one pixel": convolution((3, 64, 1, 1), (32, 64, 1, 1), pads=(0,) * 4),
    "groups and dilation": convolution(
        (2, 64, 14, 14), (64, 16, 3, 3), groups=4, dilations=(2, 2), pads=(2,) * 4, activation="LeakyRelu",
        activation_parameters={"alpha": 0.1},
    ),
    "depthwise": convolution((3, 32, 7, 7), (32, 1, 3, 3), groups=32),
    "one dimension": convolution((2, 16, 33), (24, 16, 3), activation="Sigmoid", gated=True),
    "three dimensions": convolution((1, 16, 5, 6, 7), (24, 16, 3, 3, 3), activation=""),
    "float32, channels 3 and 7": convolution((1, 3, 29, 29), (7, 3, 3, 3), dtype="float32", first=True),
    "float32": convolution((1, 64, 14, 14), (64, 64, 3, 3), dtype="float32", residual=True),
    "bfloat16": convolution((1, 64, 14, 14), (64, 64, 1, 1), dtype="bfloat16", pads=(0,) * 4, activation="HardSwish"),
    "transposed": convolution(
        (2, 32, 14, 14), (32, 16, 4, 4), kind=Kind.TRANSPOSED_CONVOLUTION, strides=(2, 2), activation="", bias=False
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_cudnn_convolves(bench: Bench, name: str) -> None:
    check(bench, CudnnTactic(), CONVOLUTIONS[name])


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pair_is_convolved_in_two_halves(bench: Bench, stride: int) -> None:
    one = convolution((2, 64, 7, 7), (128, 64, 1, 1), pads=(0,) * 4, pair={"strides": (stride,) * 2, "pads": (0,) * 4})
    other = (2, 32, 7 * stride, 7 * stride)
    x2 = TensorType(dtype="float16", shape=other, strides=channels_last(other))
    check(bench, VendorPair(), replace(one, inputs=(*one.inputs, x2, plain("float16", (128, 32, 1, 1)))))


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "Tanh", "Elu", "Softplus", "Mish", "HardSigmoid", "Gelu"])
def test_cudnn_applies_the_activation(bench: Bench, activation: str) -> None:
    check(bench, CudnnTactic(), convolution((1, 64, 7, 7), (64, 64, 3, 3), activation=activation))


@pytest.mark.parametrize("bounds", [{"min": 0.0, "max": 1.0}, {"min": -1.0, "max": 1.0}, {"max": 2.0}, {"min": 0.0}])
def test_cudnn_clips(bench: Bench, bounds: dict[str, float]) -> None:
    problem = convolution((1, 64, 7, 7), (64, 64, 1, 1), activation="Clip", activation_parameters=bounds, pads=(0,) * 4)
    check(bench, CudnnTactic(), problem)


@pytest.mark.parametrize("name", ["into a slice", "1000 channels", "one pixel"])
def test_cublaslt_convolves_where_it_is_a_product(bench: Bench, name: str) -> None:
    check(bench, CublasLtTactic(), CONVOLUTIONS[name])


def product(
    m: int, k: int, n: int, batch: tuple[int, ...] = (), *, dtype: str = "float16", bias: bool = True,
    turned: tuple[bool, bool] = (False, False), residual: bool = False, out: str = "", **more: Any,
) -> Problem:  # fmt: skip
    def stored(shape: tuple[int, ...], by_columns: bool) -> TensorType:
        if not by_columns:
            return plain(dtype, shape)
        strides = row_major((*shape[:-2], shape[-1], shape[-2]))
        return TensorType(dtype=dtype, shape=shape, strides=(*strides[:-2], strides[-1], strides[-2]))

    return Problem(
        kind=Kind.PRODUCT,
        inputs=(
            stored((*batch, m, k), turned[0]),
            stored((*batch, k, n), turned[1]),
            plain(dtype, (n,)) if bias else None,
            plain(dtype, (*batch, m, n)) if residual else None,
        ),
        outputs=(plain(out or dtype, (*batch, m, n)),),
        attributes={"alpha": 1.0, "activation": "", "activation_parameters": {}, "gated": False, **more},
    )


PRODUCTS = {
    "odd rows": product(3, 2048, 1000),
    "one row": product(1, 512, 1000, activation="Relu"),
    "residual": product(128, 3072, 768, residual=True),
    "by columns, batched": product(96, 64, 80, (5,), turned=(True, True), bias=False, alpha=0.5),
    "float32, odd": product(7, 299, 65, dtype="float32", residual=True),
    "into float32": product(8, 256, 1000, bias=False, out="float32"),
    "gelu": product(64, 256, 512, activation="Gelu", activation_parameters={"approximate": "tanh"}),
    "bfloat16": product(64, 256, 512, dtype="bfloat16", activation="Relu"),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_cublaslt_multiplies(bench: Bench, name: str) -> None:
    check(bench, CublasLtTactic(), PRODUCTS[name])


@pytest.mark.parametrize("name", ["odd rows", "residual", "by columns, batched", "float32, odd"])
def test_cublaslt_multiplies_by_every_algorithm_that_it_has(bench: Bench, name: str) -> None:
    named = len(CublasLtTactic().candidates(PRODUCTS[name], HERE, KNOWN))
    check(bench, CublasLtTactic(every=True), PRODUCTS[name], slice(named, None, 7))  # every seventh of them


@pytest.mark.parametrize("name", ["residual", "gelu", "bfloat16", "by columns, batched"])
def test_cudnn_multiplies(bench: Bench, name: str) -> None:
    check(bench, CudnnTactic(), PRODUCTS[name])


@pytest.mark.parametrize(("masked", "causal"), [(False, False), (True, False), (False, True)])
def test_cudnn_attends(bench: Bench, masked: bool, causal: bool) -> None:
    q = TensorType(dtype="float16", shape=(2, 3, 77, 64), strides=(77 * 192, 64, 192, 1))
    mask = plain("float16", (2, 1, 1, 77)) if masked else None
    attributes = {"scale": 0.125, "causal": causal}
    check(
        bench, CudnnTactic(), Problem(kind=Kind.ATTENTION, inputs=(q, q, q, mask), outputs=(q,), attributes=attributes)
    )
