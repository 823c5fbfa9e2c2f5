"""A 3x3 convolution and a couple in one launch of one tile a block: both results are right, on odd shapes too."""

import numpy as np
import one_layer
import pytest
from triple_problems import ALLOWED, CONSTANT, HOPPER, expected, triple, values_of

from enginewright_builder.tactics import hopper_small_triple

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("hopper")]

TRIPLES = {
    "stage 1": triple((1, 64, 56, 56), 64, 256, 64, residual=True),
    "stage 1 to 2": triple((1, 64, 56, 56), 64, 256, 128, residual=True),
    "pair": triple((2, 64, 56, 56), 64, 256, 64, pair=64),
    "pair of odd sizes": triple((3, 24, 13, 9), 40, 136, 40, pair=24),
    "odd sizes": triple((3, 40, 19, 27), 56, 200, 72, residual=True),
    "fewer pixels than a tile": triple((1, 64, 3, 5), 24, 72, 8),
    "slices of wider buffers": triple((2, 64, 10, 17), 64, 128, 96, steps=(192, 160), residual=True),
    "uneven pads": triple((2, 48, 18, 23), 64, 128, 64, pads=(2, 0, 1, 2), residual=True),
    "bfloat16": triple((2, 64, 14, 14), 64, 256, 64, dtype="bfloat16", residual=True),
}


@pytest.mark.parametrize("name", TRIPLES)
def test_both_results_are_right(name: str) -> None:
    problem = TRIPLES[name]
    values = values_of(problem)
    want = expected(problem, values)
    made = hopper_small_triple.implementation(problem, CONSTANT, HOPPER)
    got = one_layer.run(made, problem, dict(enumerate(values)), CONSTANT)
    for what, one, right in zip("yz", got, want, strict=True):
        error = np.linalg.norm(one.astype(np.float64) - right) / np.linalg.norm(right)
        assert error < ALLOWED[problem.outputs[0].dtype], f"{what}: {error:.2e}"
