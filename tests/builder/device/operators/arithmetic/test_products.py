"""Products of every rank and kind as plain sums."""

import numpy as np
import pytest

from enginewright_builder.device.operators.layer import Declined


@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 5), (5, 7)), ((5,), (5,)), ((5,), (2, 5, 3)), ((2, 3, 5), (5,)), ((2, 1, 3, 5), (4, 5, 7)), ((1, 5), (5, 1))],
)
def test_ranks_are_numpys(agrees, numbers, a, b):
    agrees("MatMul", numbers(*a), numbers(*b), rtol=1e-4)


@pytest.mark.parametrize("transposed", [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("bias", [(), (7,), (3, 1), (3, 7)])
def test_a_general_product(agrees, numbers, transposed, bias):
    a = numbers(5, 3) if transposed[0] else numbers(3, 5)
    b = numbers(7, 5) if transposed[1] else numbers(5, 7)
    agrees("Gemm", a, b, numbers(*bias), transA=transposed[0], transB=transposed[1], alpha=0.5, beta=2.0, rtol=1e-4)


def test_integers_have_zero_points_for_rows_and_columns(agrees, numbers):
    a, b = numbers(3, 5, dtype=np.uint8), numbers(5, 7, dtype=np.uint8)
    agrees("MatMulInteger", a, b, np.array(2, np.uint8), numbers(7, dtype=np.uint8), opset=10)


def test_a_quantized_product_is_rounded_once(agrees, numbers):
    a, b = numbers(3, 5, dtype=np.uint8), numbers(5, 7, dtype=np.uint8)
    scale, zero = np.float32(0.3), np.array(3, np.uint8)
    agrees("QLinearMatMul", a, scale, zero, b, scale, zero, np.float32(2), np.array(9, np.uint8))


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(3, 5), (5, 7)]),
        ("ij->ji", [(3, 5)]),
        ("ii->i", [(4, 4)]),
        ("ii", [(4, 4)]),
        ("...ij,...jk->...ik", [(2, 3, 5), (1, 5, 7)]),
        ("bhwc,hkc->bhwk", [(2, 3, 4, 5), (3, 6, 5)]),
        ("i,j", [(3,), (4,)]),
        ("ijk,jil,kl->", [(2, 3, 4), (3, 2, 5), (4, 5)]),
        ("...i->...", [(2, 3, 4)]),
    ],
)
def test_an_equation_says_what_is_summed(lowered, numbers, equation, shapes):
    inputs = [numbers(*shape, seed=n) for n, shape in enumerate(shapes)]
    want = np.einsum(equation, *inputs)
    (y,) = lowered("Einsum", inputs, [("float32", want.shape)], equation=equation)
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_determinant_of_a_few_rows(lowered, numbers, size):
    x = numbers(3, size, size)
    (y,) = lowered("Det", [x], [("float32", (3,))])
    np.testing.assert_allclose(y, np.linalg.det(x), rtol=1e-4, atol=1e-5)


def test_a_determinant_of_many_rows_is_declined(lowered, numbers):
    with pytest.raises(Declined, match="5 rows"):
        lowered("Det", [numbers(5, 5)], [("float32", ())])
