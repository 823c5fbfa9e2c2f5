"""A product and the attention of its columns in one launch: right for short sequences of every kind.

References are float64 in NumPy, of queries, keys and values rounded as the kernel has them; inputs are random; the
session poisons all that the kernel may write.
"""

from typing import Any

import numpy as np
import one_layer
import pytest

from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, plain
from enginewright_builder.tactics import hopper_heads
from enginewright_runtime.engine.values import dtype_of

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("hopper")]

Array = np.ndarray[Any, np.dtype[Any]]
HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 * 1024)
CONSTANT = frozenset({1, 2})
ALLOWED = {"float16": 1e-3, "bfloat16": 8e-3}  # of the output's norm: a step of rounding, and a half
SIZE = 64  # numbers of a head


def heads(
    sequences: int,
    rows: int,
    count: int,
    depth: int,
    *,
    dtype: str = "float16",
    order: tuple[int, int, int] = (0, 1, 2),
    spare: int = 0,
    step: int = 0,
    bias: bool = True,
) -> Problem:
    """`order` says whether queries, keys and values stand first, second or third; `spare` columns stand behind them;
    `step` is from one row of the output to the next."""
    width = 3 * count * SIZE + spare
    step = step or count * SIZE
    return Problem(
        kind=Kind.HEADS,
        inputs=(
            plain(dtype, (sequences, rows, depth)),
            TensorType(dtype=dtype, shape=(sequences, depth, width), strides=(0, width, 1)),
            plain("float32", (width,)) if bias else None,
            None,
        ),
        outputs=(TensorType(dtype=dtype, shape=(sequences, count, rows, SIZE), strides=(rows * step, SIZE, step, 1)),),
        attributes={"columns": tuple(place * count * SIZE for place in order), "scale": SIZE**-0.5},
    )


def values_of(problem: Problem) -> dict[int, Array | None]:
    generator = np.random.default_rng(13)
    a, weights, bias, _ = problem.inputs
    assert a is not None
    assert weights is not None
    wide = generator.standard_normal(weights.shape[1:]) * (3 / weights.shape[1]) ** 0.5  # scores of some size
    return {
        0: generator.standard_normal(a.shape).astype(dtype_of(a.dtype)),
        1: np.broadcast_to(wide.astype(dtype_of(a.dtype)), weights.shape),
        2: None if bias is None else generator.standard_normal(bias.shape).astype(np.float32),
    }


def expected(problem: Problem, values: dict[int, Array | None]) -> Array:
    a, weights, bias = values[0], values[1], values[2]
    assert a is not None
    assert weights is not None
    sequences, count, rows, _ = problem.outputs[0].shape
    made = a.astype(np.float64) @ weights[0].astype(np.float64) + (0.0 if bias is None else bias)
    made = made.astype(a.dtype).astype(np.float64)
    q, k, v = (
        made[..., first : first + count * SIZE].reshape(sequences, rows, count, SIZE).swapaxes(1, 2)
        for first in problem.attributes["columns"]
    )
    scores = q @ k.swapaxes(2, 3) * problem.attributes["scale"]
    weight = np.exp(scores - scores.max(-1, keepdims=True))
    right: Array = weight @ v / weight.sum(-1, keepdims=True)
    return right


HEADS = {
    "BERT-base, eight of 128": heads(8, 128, 12, 768),
    "more heads than multiprocessors": heads(29, 128, 5, 128),
    "100 rows, values first": heads(3, 100, 2, 192, order=(1, 2, 0)),
    "65 rows, depth of 72": heads(2, 65, 3, 72),
    "one warpgroup": heads(5, 64, 2, 320),
    "50 rows, bfloat16": heads(3, 50, 2, 96, dtype="bfloat16"),
    "128 rows, bfloat16, no bias": heads(3, 128, 2, 256, dtype="bfloat16", bias=False),
    "one row": heads(4, 1, 2, 64),
    "columns that nobody reads, wider rows of the output": heads(2, 33, 2, 128, spare=40, step=168),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_result_is_right(name: str) -> None:
    problem = HEADS[name]
    values = values_of(problem)
    want = expected(problem, values)
    made = hopper_heads.implementation(problem, CONSTANT, HOPPER)
    (got,) = one_layer.run(made, problem, values, CONSTANT)
    error = np.linalg.norm(got.astype(np.float64) - want) / np.linalg.norm(want)
    assert error < ALLOWED[problem.outputs[0].dtype], f"{error:.2e}"
