"""Inputs on which rounding decides prove nothing; others do, and where there are none nothing is checked."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from enginewright_builder.importers import from_onnx
from enginewright_builder.tuning import inputs, rounding
from enginewright_builder.tuning.allowance import Deadline
from enginewright_builder.tuning.bounds import Arithmetic
from enginewright_builder.tuning.inputs import Proof
from enginewright_runtime.engine.values import Value
from enginewright_runtime.plan.manifest import Binding

X = Binding(name="x", dtype="float32", shape=(4,))


def exact(feed: Mapping[str, Value]) -> Mapping[str, Value]:
    return {"y": np.asarray(feed["x"])}


def another_answer(*steady: float) -> inputs.Reference:
    """A model that its last bits lead to another answer, but for inputs whose first number is one of these."""

    def run(feed: Mapping[str, Value]) -> Mapping[str, Value]:
        x = np.asarray(feed["x"])
        return {"y": x if float(x[0]) in steady else x + 1}

    return run


def drawn(number: int) -> float:
    """The first number of an input that is drawn."""
    return float(inputs.random([X], inputs.LADDER[0], rounding._SEED + number)["x"][0])


def found(moved: inputs.Reference) -> Proof:
    proof = inputs.prove_with([X], None, exact)
    assert rounding.decides(proof, moved, Arithmetic.FP32)
    return rounding.undecided(proof, [X], exact, moved, Arithmetic.FP32, Deadline())


def test_it_decides_where_the_last_bits_lead_to_another_answer() -> None:
    proof = inputs.prove_with([X], None, exact)
    assert not rounding.decides(proof, exact, Arithmetic.FP32)
    assert rounding.decides(proof, another_answer(), Arithmetic.FP32)


def test_others_are_drawn_where_it_decides() -> None:
    proof = found(another_answer(drawn(1), drawn(4)))
    assert [float(np.asarray(feed["x"])[0]) for feed in proof.feeds] == [drawn(1), drawn(4)]
    assert [float(np.asarray(wanted["y"])[0]) for wanted in proof.expected] == [drawn(1), drawn(4)]
    assert proof.source == "random inputs, 2 of 5: on the others rounding decides what the model says"


def test_where_it_decides_on_every_input_no_more_are_drawn_than_show_it() -> None:
    proof = found(another_answer())
    assert (proof.feeds, proof.reason) == ((), "rounding decides what it says, on 4 of 4 random inputs")


def test_where_it_decides_on_nearly_every_input_nothing_can_be_checked() -> None:
    assert found(another_answer(drawn(2))).reason == "rounding decides what it says, on 7 of 8 random inputs"


def test_weights_are_moved_by_their_last_bit_and_nothing_else_is(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> agraph (float[2] x) => (float[2] y)
    <float[2, 2] w = {1, -2, 0, 4}, float[2] b = {1, 2}> { z = MatMul(x, w) y = Add(z, b) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    network = from_onnx.load(tmp_path / "model.onnx")
    moved = rounding.nudged(network)
    before, after = (each.constant(each.graph.initializers["w"]) for each in (network, moved))
    assert before is not None
    assert after is not None
    assert (before != after).all()
    assert after == pytest.approx(before, rel=2e-7)
    assert moved.constant(moved.graph.initializers["b"]).tolist() == [1, 2]  # type: ignore[union-attr]  # as above
