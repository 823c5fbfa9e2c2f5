"""What a tail makes of its sum's error: never less than what an error really does, and no more than a tail needs."""

import numpy as np
import onnx_ir as ir
import pytest

from enginewright_builder.device import checking, layout, lower, reference, tail_bounds, tails
from enginewright_builder.device.expression import Computation, Load
from enginewright_builder.device.operators import terms
from enginewright_builder.device.tail_bounds import Bounded
from enginewright_builder.network import shapes, tail
from enginewright_builder.network.network import Network
from enginewright_builder.network.tail import BINARY, UNARY
from enginewright_builder.passes.fuse_epilogues import FuseEpilogues
from enginewright_builder.passes.fuse_tails import FuseTails

RANDOM = np.random.default_rng(9)
LINES = [
    *(f"{name}(v)" for name in sorted(UNARY)),
    *(f"{name}(v, 0.7)" for name in sorted(BINARY - {"Pow"})),
    *(f"{name}(0.7, v)" for name in sorted(BINARY - {"Pow"})),
    *(f"{name}(v, r)" for name in sorted(BINARY - {"Pow"})),
    "Pow(v, 2.0)", "Pow(v, 3.0)", "Elu(v, alpha=2.5)", "Selu(v, gamma=3.0)",
    "LeakyRelu(v, alpha=1.5)", "Selu(v, alpha=2.0, gamma=3.0)",
    "Clip(v, min=-0.3, max=0.4)", "HardSigmoid(v, alpha=0.9, beta=0.1)", "Celu(v, alpha=0.5)",
]  # fmt: skip


def computed(steps: tail.Tail, v: np.ndarray, r: np.ndarray) -> np.ndarray:
    loads = [Load(number, tuple(terms.indices(v.shape)), "float32") for number in range(2)]
    value = tails.expression(steps, *loads)
    with np.errstate(all="ignore"):
        return reference.evaluate(Computation(shape=v.shape, dtype="float32", value=value), [v, r])


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("off", [1e-3, 0.3])
def test_no_error_of_the_sum_does_more_than_its_bound(line: str, off: float) -> None:
    steps = tail.parsed([line, "Mul(s0, 1.5)"])
    v = (3 * RANDOM.standard_normal(4000)).astype(np.float32)
    r = RANDOM.standard_normal(4000).astype(np.float32)
    moves = [(v + np.float32(share * off)).astype(np.float32) for share in np.linspace(-1, 1, 21)]
    error = np.max([np.abs(moved.astype(np.float64) - v) for moved in moves], axis=0)
    made = tail_bounds.result(steps, Bounded(value=v, error=error.astype(np.float32)), r)
    right = computed(steps, v, r)
    np.testing.assert_array_equal(made.value, right)
    for moved in (computed(steps, each, r) for each in moves):
        error = np.abs(moved.astype(np.float64) - right)
        assert not (error > made.error + 1e-6 * (np.abs(right) + np.abs(moved))).any()
        assert (np.isnan(moved) == np.isnan(right))[np.isfinite(made.error)].all()


def test_a_small_error_of_a_plain_tail_stays_small() -> None:
    steps = tail.parsed(["Exp(v)", "Add(s0, 1.0)", "Log(s1)"])
    v = RANDOM.standard_normal(1000).astype(np.float32)
    made = tail_bounds.result(steps, Bounded(value=v, error=np.full_like(v, 1e-4)), None)
    assert made.error.max() < 1.1e-4 + 1e-5


def _layer(body: str, dtype: str = "float16"):
    text = (
        f'<ir_version: 8, opset_import: ["" : 18]> net ({dtype}[2, 32, 9, 9] x, {dtype}[2, 16, 9, 9] r, '
        f"{dtype}[16, 32, 3, 3] w, {dtype} h) => ({dtype}[2, 16, 9, 9] y) "
        f"{{ c = Conv<pads = [1, 1, 1, 1]>(x, w) {body} }}"
    )
    network = Network(ir.from_onnx_text(text))
    kind = np.dtype(np.float16 if dtype == "float16" else np.float32)
    weights = (np.random.default_rng(0).standard_normal((16, 32, 3, 3)) / 8).astype(kind)
    for name, array in {"w": weights, "h": np.array(0.3, kind)}.items():
        value = next(v for v in network.graph.inputs if v.name == name)
        network.graph.inputs.remove(value)
        value.const_value = ir.tensor(array, name=name)
        network.graph.register_initializer(value)
    shapes.infer(network)
    FuseEpilogues().apply(network)
    FuseTails().apply(network)
    placed = layout.assign(network)
    (layer,) = lower.lower(network, placed.places, placed.free)
    return layer


BODIES = [
    "a = Exp(c) y = Add(a, h)",
    "a = Relu(c) y = Add(a, r)",
    "y = Mul(c, r)",
    "y = Sqrt(c)",
    "a = Abs(c) y = Log(a)",
]


@pytest.mark.parametrize("body", BODIES)
def test_the_rounded_reference_of_a_tail_is_right_and_most_of_it_is_compared(body: str) -> None:
    check = checking.check(_layer(body))
    assert check.judge({"y": check.expected["y"].astype(np.float16)})[0] == ""
    assert np.isfinite(check.allowed["y"]).mean() > 0.3


@pytest.mark.parametrize("body", BODIES)
def test_one_lost_term_of_a_sum_is_wrong_behind_a_tail_too(body: str) -> None:
    layer = _layer(body)
    check = checking.check(layer)
    lost = layer.constants[1].copy()
    lost[:, 7, 1, 1] = 0
    v, r = convolved(check.feed["x"], lost), check.feed.get("r")
    steps = tails.whole(layer.problem.attributes)
    y = computed(steps, v, v if r is None else r.astype(np.float32))
    assert "are off)" in check.judge({"y": y.astype(np.float16)})[0]


@pytest.mark.parametrize("body", ["a = Relu(c) y = Add(a, r)", "y = Mul(c, r)"])
def test_a_tail_that_was_left_out_is_wrong(body: str) -> None:
    layer = _layer(body)
    check = checking.check(layer)
    y = convolved(check.feed["x"], layer.constants[1])
    assert "are off)" in check.judge({"y": y.astype(np.float16)})[0]


def test_results_beyond_their_type_are_not_compared() -> None:
    layer = _layer("a = Mul(c, c) b = Mul(a, a) d = Mul(b, b) e = Mul(d, d) y = Mul(e, e)")
    check = checking.check(layer)
    with np.errstate(over="ignore"):
        y = check.expected["y"].astype(np.float16)
    assert check.judge({"y": y})[0] == ""
    beyond = ~np.isfinite(y)
    assert np.isinf(check.allowed["y"][beyond]).all()


def convolved(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """A 3x3 convolution with a padding of 1."""
    wide = np.pad(x.astype(np.float32), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), axis=(2, 3))
    made: np.ndarray = np.einsum("nchwij,kcij->nkhw", windows, w.astype(np.float32), optimize=True)
    return made
