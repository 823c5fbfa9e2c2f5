"""The reference evaluates what the language says, in blocks, and finds loads that lack a guard."""

import numpy as np
import pytest

from enginewright_builder.device import reference
from enginewright_builder.device.expression import (
    Axis,
    Call,
    Cast,
    Computation,
    Constant,
    Expression,
    Index,
    Load,
    Reduction,
    Select,
)

I0, I1 = Index("i0"), Index("i1")


def made(shape: tuple[int, ...], value: Expression, *operands: np.ndarray, dtype: str = "float32") -> np.ndarray:
    return reference.evaluate(Computation(shape=shape, dtype=dtype, value=value), operands)


def test_an_output_without_dimensions_is_one_number():
    assert made((), Constant(3.0, "float32")).shape == ()


def test_an_index_is_an_element_of_its_own():
    assert made((2, 3), I1, dtype="int32").tolist() == [[0, 1, 2], [0, 1, 2]]


def test_a_load_permutes():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(made((3, 2), Load(0, (I1, I0), "float32"), x), x.T)


def test_a_load_out_of_bounds_is_an_error():
    with pytest.raises(reference.OutOfBounds, match="operand 0 of shape \\(2,\\) is read outside of axis 0"):
        made((3,), Load(0, (I0,), "float32"), np.zeros(2, np.float32))


def test_a_load_out_of_bounds_is_none_in_a_branch_that_is_not_taken():
    guard = Call("<", (I0, Constant(2, "int32")), "bool")
    value = Select(guard, Load(0, (I0,), "float32"), Constant(9.0, "float32"))
    assert made((3,), value, np.ones(2, np.float32)).tolist() == [1, 1, 9]


def test_a_guard_of_the_wrong_branch_does_not_help():
    guard = Call("<", (I0, Constant(2, "int32")), "bool")
    value = Select(guard, Constant(9.0, "float32"), Load(0, (I0,), "float32"))
    with pytest.raises(reference.OutOfBounds):
        made((3,), value, np.ones(2, np.float32))


def test_a_guard_holds_for_what_is_inside_a_reduction():
    place = Call("-", (Call("+", (I0, Index("k")), "int32"), Constant(1, "int32")), "int32")
    inside = Call("and", (Call("<=", (Constant(0, "int32"), place), "bool"),
                          Call("<", (place, Constant(3, "int32")), "bool")), "bool")  # fmt: skip
    body = Select(inside, Load(0, (place,), "float32"), Constant(0.0, "float32"))
    value = Reduction("sum", (Axis("k", 3),), body, "float32")
    assert made((3,), value, np.float32([1, 2, 4])).tolist() == [3, 7, 6]


@pytest.mark.parametrize(
    ("function", "want"), [("sum", 9), ("product", 24), ("min", 2), ("max", 4), ("argmin", 1), ("argmax", 2)]
)
def test_a_reduction_folds(function, want):
    value = Reduction(function, (Axis("k", 3),), Load(0, (Index("k"),), "float32"), "float32")
    assert made((), value, np.float32([3, 2, 4])) == want


@pytest.mark.parametrize("function", ["argmin", "argmax"])
def test_the_first_of_equal_ones_wins(function):
    value = Reduction(function, (Axis("k", 3),), Load(0, (Index("k"),), "float32"), "int32")
    assert made((), value, np.float32([5, 5, 5]), dtype="int32") == 0


@pytest.mark.parametrize(("function", "want"), [("sum", 0), ("product", 1), ("min", np.inf), ("max", -np.inf)])
def test_a_reduction_over_nothing_is_neutral(function, want):
    value = Reduction(function, (Axis("k", 0),), Load(0, (Index("k"),), "float32"), "float32")
    assert made((), value, np.zeros(0, np.float32)) == want


def test_a_body_that_does_not_depend_on_the_axis_counts_as_often_as_there_are_steps():
    value = Reduction("sum", (Axis("k", 5), Axis("l", 2)), Load(0, (I0,), "float32"), "float32")
    assert made((2,), value, np.float32([1, 2])).tolist() == [10, 20]


def test_a_reduction_within_a_reduction_sees_its_variable():
    inner = Reduction("sum", (Axis("l", 3),), Load(0, (Index("k"), Index("l")), "float32"), "float32")
    value = Reduction("max", (Axis("k", 2),), inner, "float32")
    assert made((), value, np.float32([[1, 2, 3], [4, 5, 6]])) == 15


@pytest.mark.parametrize("function", ["sum", "max", "argmax"])
def test_blocks_give_what_the_whole_gives(monkeypatch, function):
    x = np.random.default_rng(5).standard_normal((7, 5, 11)).astype(np.float32)
    dtype = "int32" if function == "argmax" else "float32"
    value = Reduction(function, (Axis("k", 11),), Load(0, (I0, I1, Index("k")), "float32"), dtype)
    whole = made((7, 5), value, x, dtype=dtype)
    monkeypatch.setattr(reference, "LANES", 4)
    np.testing.assert_allclose(made((7, 5), value, x, dtype=dtype), whole, rtol=1e-6)


def test_a_value_of_one_mask_is_not_taken_for_another():
    load = Load(0, (I0,), "float32")
    guard = Call("<", (I0, Constant(1, "int32")), "bool")
    guarded = Select(guard, load, Constant(0.0, "float32"))
    both = Call("+", (guarded, load), "float32")
    with pytest.raises(reference.OutOfBounds):
        made((2,), both, np.ones(1, np.float32))


def test_half_numbers_are_rounded_when_stored_only():
    x = np.float16([1, 2**-11])
    value = Call(
        "+", (Load(0, (Constant(0, "int32"),), "float32"), Load(0, (Constant(1, "int32"),), "float32")), "float32"
    )
    doubled = Call("-", (value, Constant(1.0, "float32")), "float32")
    assert made((), doubled, x, dtype="float16") == np.float16(2**-11)


def test_a_cast_to_a_half_type_rounds_at_once():
    value = Cast(Constant(1 + 2**-12, "float32"), "float16")
    assert made((), value) == 1


def test_an_output_of_no_elements_is_made():
    assert made((0, 3), Load(0, (I0, I1), "float32"), np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_divisions_by_zero_of_whole_numbers_are_nobodys_crash():
    zero = Constant(0, "int32")
    safe = Call("==", (I0, zero), "bool")
    value = Select(safe, zero, Call("//", (Constant(7, "int32"), I0), "int32"))
    assert made((3,), value, dtype="int32").tolist() == [0, 7, 3]
