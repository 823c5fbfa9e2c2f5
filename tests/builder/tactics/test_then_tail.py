"""A product and its tail in two launches: how a problem is cut, and that both together are the layer."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from cuda_on_host.running import computed, host_compilation

from enginewright_builder.device import portable
from enginewright_builder.device.expression import Call, Computation, Load
from enginewright_builder.device.implementation import Candidate, Device, Implementation
from enginewright_builder.device.operators import terms
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain
from enginewright_builder.network import tail
from enginewright_builder.tactics import in_a_row
from enginewright_builder.tactics.in_a_row import Part
from enginewright_builder.tactics.then_tail import ProductThenTail, cuts

AMPERE = Device(capability=80, multiprocessors=108, l2_bytes=40 << 20, shared_bytes=163 << 10)
SHAPE = (2, 8, 3, 5)


def pixels(dtype: str = "float16", pitch: int = 8) -> TensorType:
    return TensorType(dtype=dtype, shape=SHAPE, strides=channels_last((2, pitch, 3, 5)))


def convolution(**said: object) -> Problem:
    attributes = {
        "strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1), "groups": 1, "activation": "",
        "activation_parameters": {}, "gated": False,
    }  # fmt: skip
    x = pixels()
    return Problem(
        kind=Kind.CONVOLUTION,
        inputs=(x, plain("float16", (8, 8, 1, 1)), None, pixels(pitch=24)),
        outputs=(pixels(pitch=16),),
        attributes=attributes | said,
    )


class Doubling:
    """Stands in for a library's tactic: the sum is twice x, and the residual, where it is the sum's, added."""

    name, reason = "doubling", "a test"

    def __init__(self) -> None:
        self.asked: list[Problem] = []

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        self.asked.append(problem)
        build = functools.partial(self.implementation, problem, device)
        return (Candidate(tactic=self.name, name="only", build=build, serial=True),)

    def implementation(self, problem: Problem, device: Device) -> Implementation:
        (x, _, _, residual), y = problem.inputs, problem.outputs[0]
        assert x is not None
        first, second = (Load(number, tuple(terms.indices(SHAPE)), "float32") for number in range(2))
        inputs = (x,) if residual is None else (x, residual)
        value = terms.call("*", first, 2.0)
        value = value if residual is None else Call("+", (value, second), "float32")
        made = portable.implementation(Computation(shape=SHAPE, dtype=y.dtype, value=value), inputs, y, device)
        places = {"0": in_a_row.operand(0), str(len(inputs)): in_a_row.operand(4)}
        places |= {} if residual is None else {"1": in_a_row.operand(3)}
        between = plain("float16", (1,))
        return in_a_row.joined(between, (Part(made=made, operands=places),))


@pytest.mark.parametrize(
    ("lines", "activation", "want"),
    [
        (["Exp(v)"], "", lambda x, r: np.exp(2 * x + r)),
        (["Mul(v, r)", "Add(s0, 1.0)"], "", lambda x, r: 2 * x * r + 1),
        ([], "Softsign", lambda x, r: (2 * x + r) / (1 + np.abs(2 * x + r))),
        (["Neg(v)"], "Mish", lambda x, r: -(2 * x + r) * np.tanh(np.log1p(np.exp(2 * x + r)))),
    ],
)
@pytest.mark.parametrize("number", [0, 1])
def test_both_launches_together_are_the_layer(lines, activation, want, number) -> None:
    said = {"activation": activation, **({"tail": tuple(lines)} if lines else {})}
    problem, product = convolution(**said), Doubling()
    candidate = ProductThenTail([product], {"doubling"}).candidates(problem, AMPERE, frozenset({1}))[number]
    random = np.random.default_rng(4)
    x, r = random.standard_normal((2, *SHAPE)).astype(np.float16)
    with host_compilation():
        (got,) = computed(candidate.build(), problem, [x, np.zeros((8, 8, 1, 1), np.float16), None, r])
    np.testing.assert_allclose(got.astype(np.float32), want(x.astype(np.float32), r.astype(np.float32)), 4e-3, 4e-3)
    assert candidate.risky
    assert candidate.serial


def test_the_product_is_asked_for_without_its_tail_and_without_the_tails_residual() -> None:
    product = Doubling()
    problem = convolution(tail=("Mul(v, r)",), activation="Relu")
    names = [each.name for each in ProductThenTail([product], ()).candidates(problem, AMPERE, frozenset())]
    assert names == ["doubling: only | float16 | 1 steps", "doubling: only | float32 | 1 steps"]
    for asked, dtype in zip(product.asked, ("float16", "float32"), strict=True):
        assert (asked.inputs[3], asked.attributes["activation"]) == (None, "Relu")
        assert "tail" not in asked.attributes
        assert asked.outputs == (TensorType(dtype=dtype, shape=SHAPE, strides=channels_last(SHAPE)),)


def test_an_activation_that_no_library_has_goes_with_the_tail() -> None:
    (cut, _) = cuts(convolution(activation="Selu", tail=("Exp(v)",)))
    assert tail.texts(cut.rest) == ("Selu(v)", "Exp(s0)")
    assert (cut.product.attributes["activation"], cut.product.inputs[3] is None) == ("", False)


def single(**said: object) -> Problem:
    given = convolution(**said)
    kinds = [None if each is None else replace(each, dtype="float32") for each in (*given.inputs, *given.outputs)]
    return replace(given, inputs=tuple(kinds[:-1]), outputs=(kinds[-1],))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"activation": "Sigmoid", "tail": ("Mul(v, r)",)}, [("Mul(v, r)",), ("Sigmoid(v)", "Mul(s0, r)")]),
        ({"activation": "Relu", "tail": ("Exp(v)",)}, [("Exp(v)",), ("Add(v, r)", "Relu(s0)", "Exp(s1)")]),
        ({"activation": "Tanh"}, [("Add(v, r)", "Tanh(s0)")]),
        ({"activation": "Relu"}, []),
        ({}, []),
    ],
)
def test_in_float32_a_layer_is_also_cut_at_its_sum(said: dict[str, object], wanted: list[tuple[str, ...]]) -> None:
    made = cuts(single(**said))
    assert [tail.texts(cut.rest) for cut in made] == wanted
    if made:
        assert (made[-1].product.attributes["activation"], made[-1].product.inputs[3]) == ("", None)


@pytest.mark.parametrize(
    "said",
    [{}, {"activation": "Relu"}, {"activation": "Sigmoid", "gated": True}, {"tail": ("Exp(v)",), "pair": {}},
     {"tail": ("Exp(v)",), "pool": {}}],
)  # fmt: skip
def test_where_there_is_no_such_tail_nothing_is_cut(said: dict[str, object]) -> None:
    assert cuts(convolution(**said)) == []
