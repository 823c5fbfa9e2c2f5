"""A tail as text, and behind an activation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewright_builder.network import tail
from enginewright_builder.network.tail import BINARY, UNARY, Step

NUMBERS = st.floats(width=32, allow_nan=False)
OPERANDS = st.one_of(st.sampled_from(["v", "r", "s0", "s11"]), NUMBERS)
PARAMETERS = st.dictionaries(st.sampled_from(["alpha", "gamma", "min", "max"]), NUMBERS)
STEPS = st.one_of(
    st.builds(
        lambda operator, operand, parameters: Step(operator=operator, operands=(operand,), parameters=parameters),
        st.sampled_from(sorted(UNARY)), OPERANDS, PARAMETERS,
    ),
    st.builds(
        lambda operator, a, b: Step(operator=operator, operands=(a, b)), st.sampled_from(sorted(BINARY)), OPERANDS,
        OPERANDS,
    ),
)  # fmt: skip


@given(st.lists(STEPS, max_size=4))
def test_a_tail_reads_back_what_was_written(steps: list[Step]) -> None:
    assert tail.parsed(tail.texts(steps)) == tuple(steps)


def test_a_gelu_says_which_form_it_is() -> None:
    step = Step(operator="Gelu", operands=("s2",), parameters={"approximate": "tanh"})
    assert str(step) == "Gelu(s2, approximate=tanh)"
    assert tail.parsed([str(step)]) == (step,)


@pytest.mark.parametrize("line", ["Exp v", "Floor(v)", "Import(v)", "Exp(v", "Exp(q)", ""])
def test_what_is_no_step_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"no step of a tail|could not convert"):
        tail.parsed([line])


def test_behind_an_activation_the_steps_are_of_what_it_gives() -> None:
    steps = tail.parsed(["Exp(v)", "Mul(s0, v)"])
    whole = tail.behind("Relu", {}, gated=False, tail=steps)
    assert tail.texts(whole) == ("Relu(v)", "Exp(s0)", "Mul(s1, s0)")


def test_behind_a_gated_activation_the_steps_are_of_the_product() -> None:
    whole = tail.behind("Sigmoid", {}, gated=True, tail=tail.parsed(["Sub(1.0, v)"]))
    assert tail.texts(whole) == ("Sigmoid(v)", "Mul(v, s0)", "Sub(1.0, s1)")


def test_without_an_activation_the_steps_are_the_whole() -> None:
    steps = tail.parsed(["Exp(v)"])
    assert tail.behind("", {}, gated=False, tail=steps) == steps
