"""Our attention on a card: BERT's own layer by the check that guards every tactic, and odd shapes, every candidate."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import one_layer
import pytest
from networks.bert import bert
from networks.weights import cheap

from enginewright_builder import passes
from enginewright_builder.device import checking, layout, lower, trial
from enginewright_builder.device.implementation import Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, plain
from enginewright_builder.tactics.attention import FlashAttention
from enginewright_builder.tactics.hopper_attention import HopperAttention
from enginewright_runtime.engine import available
from enginewright_runtime.engine.values import dtype_of
from enginewright_runtime.plan.recipe import Precision

pytestmark = pytest.mark.gpu

_LOG = logging.getLogger(__name__)  # the times: pytest --log-cli-level=INFO
Array = np.ndarray[Any, np.dtype[Any]]
TACTICS = (HopperAttention(), FlashAttention())
# Of the output's range: the output's rounding and that of the exponentials before the second product.
ALLOWED = {"float16": 1e-3, "bfloat16": 8e-3}


@pytest.mark.parametrize(
    ("batch", "mask", "precision"),
    [(1, True, Precision.FP16), (8, True, Precision.FP16), (1, False, Precision.FP16), (8, False, Precision.BF16)],
)
def test_berts_attention_is_right_by_the_check_that_guards_every_tactic(
    batch: int, mask: bool, precision: Precision, ampere: Device
) -> None:
    from enginewright_builder.device.session_bench import SessionBench  # imports cupy

    network = bert(1, cheap(), batch=batch, mask=mask)
    passes.run(network, passes.gpu_pipeline(precision, capability=ampere.capability))
    placed = layout.assign(network)
    layers = lower.lower(network, placed.places, placed.free)
    (layer,) = [each for each in layers if each.problem.kind is Kind.ATTENTION]
    subject = trial.subject(layer, placed.places, checking.check(layer))
    for name, made in every_candidate(layer.problem, ampere):
        judged = trial.judge(subject, made, SessionBench())
        assert judged.wrong == "", name
        _LOG.info("batch %d, mask %s, %s: %s: %.2f us", batch, mask, precision, name, judged.microseconds)


def every_candidate(problem: Problem, device: Device) -> list[tuple[str, Implementation]]:
    """All of them, compiled side by side."""
    candidates = [c for tactic in TACTICS for c in tactic.candidates(problem, device, frozenset())]
    assert candidates
    with ThreadPoolExecutor(available.processors()) as pool:
        made = pool.map(lambda each: each.build(), candidates)
        return [(each.name, built) for each, built in zip(candidates, made, strict=True)]


def attention(
    q: TensorType, k: TensorType, v: TensorType, mask: TensorType | None = None, causal: bool = False
) -> Problem:
    """The output has its heads side by side in a row, as what follows reads them."""
    (b, h, s, d), e = q.shape, v.shape[-1]
    y = TensorType(dtype=q.dtype, shape=(b, h, s, e), strides=(s * h * e, e, h * e, 1))
    attributes = {"scale": d**-0.5, "causal": causal}
    return Problem(kind=Kind.ATTENTION, inputs=(q, k, v, mask), outputs=(y,), attributes=attributes)


def same(b: int, h: int, s: int, d: int, mask: TensorType | None = None, dtype: str = "float16") -> Problem:
    """q, k and v side by side in the rows of one buffer."""
    wide = TensorType(dtype=dtype, shape=(b, h, s, d), strides=(s * 3 * h * d, d, 3 * h * d, 1))
    return attention(wide, wide, wide, mask)


def apart(
    b: int, h: int, s: int, t: int, d: int, e: int, mask: TensorType | None = None, *, causal: bool = False,
    dtype: str = "float16",
) -> Problem:  # fmt: skip
    """q, k and v in buffers of their own."""
    q, k, v = (plain(dtype, (b, h, *each)) for each in ((s, d), (t, d), (t, e)))
    return attention(q, k, v, mask, causal)


HALF = "float16"
PROBLEMS = {
    "one row, one key": apart(1, 1, 1, 1, 64, 64),
    "7 rows, 299 keys": apart(2, 3, 7, 299, 64, 64),
    "heads of 32": same(3, 4, 50, 32),
    "heads of 64, every key seen": same(3, 12, 128, 64),
    "197 rows, 256 keys, bfloat16": apart(2, 3, 197, 256, 64, 64, dtype="bfloat16"),
    "numbers of 40, values of 24": apart(1, 2, 130, 100, 40, 24),
    "heads of 64, batch 3, mask of a batch": same(3, 12, 128, 64, plain(HALF, (3, 1, 1, 128))),
    "heads of 96, mask of a head": same(2, 5, 77, 96, plain(HALF, (1, 5, 77, 77))),
    "heads of 128, full mask, float32": same(2, 3, 197, 128, plain("float32", (2, 3, 197, 197))),
    "40 numbers, values of 24": apart(1, 2, 33, 100, 40, 24, plain(HALF, (1, 1, 33, 1))),
    "causal": apart(1, 4, 300, 300, 64, 64, causal=True),
    "causal, more rows than keys": apart(1, 2, 90, 40, 128, 128, causal=True),
    "bfloat16": same(2, 3, 130, 64, plain("bfloat16", (2, 1, 1, 130)), dtype="bfloat16"),
    "bfloat16, causal": apart(1, 3, 150, 150, 96, 96, causal=True, dtype="bfloat16"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_candidate_is_right(name: str, ampere: Device) -> None:
    problem = PROBLEMS[name]
    random = np.random.default_rng(5)
    values = [None if each is None else drawn(random, each) for each in problem.inputs]
    want = expected(problem, values)
    for candidate, made in every_candidate(problem, ampere):
        (got,) = one_layer.run(made, problem, dict(enumerate(values)))
        error = float(np.max(np.abs(got.astype(np.float64) - want)) / np.max(np.abs(want)))
        assert error <= ALLOWED[problem.outputs[0].dtype], (candidate, error)


def test_hidden_keys_count_for_nothing_and_a_row_of_nothing_else_is_nan(ampere: Device) -> None:
    problem = apart(1, 2, 20, 150, 64, 64, plain("float32", (1, 1, 20, 150)))
    random = np.random.default_rng(5)
    values = [None if each is None else drawn(random, each) for each in problem.inputs]
    mask = np.where(random.random((1, 1, 20, 150)) < 0.5, -np.inf, 0).astype(np.float32)
    mask[..., 3, :], mask[..., 4, :], mask[..., 5, :128] = -np.inf, np.finfo(np.float32).min, -np.inf
    values[3] = mask
    with np.errstate(invalid="ignore", over="ignore"):
        want = expected(problem, [*values[:3], mask])
    want[:, :, 4] = np.mean(values[2].astype(np.float64), axis=2)  # float32 sees no score beside such a mask
    for name, made in every_candidate(problem, ampere):
        (got,) = one_layer.run(made, problem, dict(enumerate(values)))
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want), err_msg=name)
        assert np.nanmax(np.abs(got.astype(np.float64) - want)) <= ALLOWED["float16"] * np.nanmax(np.abs(want)), name


def drawn(random: np.random.Generator, kind: TensorType) -> Array:
    return random.standard_normal(kind.shape).astype(dtype_of(kind.dtype))


def expected(problem: Problem, values: list[Array | None]) -> Array:
    """In float64."""
    q, k, v, mask = (None if each is None else each.astype(np.float64) for each in values)
    assert q is not None
    assert k is not None
    assert v is not None
    scores = q @ k.swapaxes(-1, -2) * problem.attributes["scale"]
    scores = scores if mask is None else scores + mask
    if problem.attributes["causal"]:
        scores = np.where(np.tril(np.ones(scores.shape[-2:])), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True) @ v)
