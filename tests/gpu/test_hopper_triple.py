"""A 3x3 convolution and a couple in one launch: both results are right for every form, on odd shapes too.

References are float64 in NumPy; inputs are random; the session poisons all that the kernel may write.
"""

import dataclasses

import numpy as np
import one_layer
import pytest
from triple_problems import ALLOWED, CONSTANT, HOPPER, expected, triple, values_of

from enginewright_builder.tactics import hopper_order, hopper_triple

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("hopper")]

TRIPLES = {
    "stage 1": triple((2, 64, 56, 56), 64, 256, 64, residual=True),
    "stage 1 to 2": triple((2, 64, 56, 56), 64, 256, 128, residual=True),
    "pair": triple((2, 64, 56, 56), 64, 256, 64, pair=64),
    "pair of odd sizes": triple((3, 24, 13, 9), 40, 136, 40, pair=24),
    "odd sizes": triple((3, 40, 19, 27), 56, 200, 72, residual=True),
    "fewer pixels than a tile": triple((1, 64, 3, 5), 24, 72, 8),
    "more tiles than blocks": triple((29, 32, 37, 41), 48, 72, 24, residual=True),
    "slices of wider buffers": triple((2, 64, 10, 17), 64, 128, 96, steps=(192, 160), residual=True),
    "uneven pads": triple((2, 48, 18, 23), 64, 128, 64, pads=(2, 0, 1, 2), residual=True),
    "bfloat16": triple((2, 64, 14, 14), 64, 256, 64, dtype="bfloat16", residual=True),
}


@pytest.mark.parametrize("name", TRIPLES)
def test_both_results_are_right(name: str) -> None:
    problem = TRIPLES[name]
    values = values_of(problem)
    want = expected(problem, values)
    found = hopper_triple.parts(problem, CONSTANT)
    assert found is not None
    for staging in {1, found.staging(HOPPER)}:
        made = hopper_triple.implementation(problem, CONSTANT, staging, HOPPER)
        backwards = dataclasses.replace(made, steps=hopper_order.alternate(made.steps * 2)[1:])
        for given in (made, backwards):
            got = one_layer.run(given, problem, dict(enumerate(values)), CONSTANT)
            for what, one, right in zip("yz", got, want, strict=True):
                error = np.linalg.norm(one.astype(np.float64) - right) / np.linalg.norm(right)
                assert error < ALLOWED[problem.outputs[0].dtype], f"{what}, {staging} staged: {error:.2e}"
