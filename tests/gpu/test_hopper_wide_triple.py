"""A 3x3 convolution of 65 to 128 channels and a couple in one launch: both results are right, on odd shapes too."""

import dataclasses

import numpy as np
import one_layer
import pytest
from triple_problems import ALLOWED, CONSTANT, HOPPER, expected, triple, values_of

from enginewright_builder.tactics import hopper_order, hopper_wide_triple

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("hopper")]

TRIPLES = {
    "stage 2": triple((2, 128, 28, 28), 128, 512, 128, residual=True),
    "stage 2 to 3": triple((2, 128, 28, 28), 128, 512, 256, residual=True),
    "odd sizes": triple((3, 72, 19, 27), 88, 200, 72, residual=True),
    "few channels in": triple((3, 40, 13, 9), 96, 136, 40),
    "fewer pixels than a tile": triple((1, 128, 3, 5), 72, 72, 8),
    "wide rows": triple((2, 128, 5, 61), 128, 256, 136, residual=True),
    "more tiles than blocks": triple((29, 72, 27, 41), 80, 136, 24, residual=True),
    "slices of wider buffers": triple((2, 128, 10, 17), 128, 128, 96, steps=(192, 160), residual=True),
    "uneven pads": triple((2, 80, 18, 23), 128, 128, 64, pads=(2, 0, 1, 2), residual=True),
    "bfloat16": triple((2, 128, 14, 14), 128, 256, 128, dtype="bfloat16", residual=True),
}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", TRIPLES)
def test_both_results_are_right(name: str, groups: int) -> None:
    problem = TRIPLES[name]
    values = values_of(problem)
    want = expected(problem, values)
    found, tiles = hopper_wide_triple.parts(problem, CONSTANT), hopper_wide_triple.stripes(problem)
    assert found is not None
    for staging in (1, 3):
        shape = hopper_wide_triple.shape_of(found, tiles, groups, staging, HOPPER)
        made = hopper_wide_triple.implementation(problem, CONSTANT, shape, HOPPER)
        backwards = dataclasses.replace(made, steps=hopper_order.alternate(made.steps * 2)[1:])
        for given in (made, backwards):
            got = one_layer.run(given, problem, dict(enumerate(values)), CONSTANT)
            for what, one, right in zip("yz", got, want, strict=True):
                error = np.linalg.norm(one.astype(np.float64) - right) / np.linalg.norm(right)
                assert error < ALLOWED[problem.outputs[0].dtype], f"{what}, {shape.name}: {error:.2e}"
