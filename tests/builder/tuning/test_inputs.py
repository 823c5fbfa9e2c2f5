"""Inputs to check with."""

from collections.abc import Mapping

import numpy as np
import pytest

from enginewright_builder.calibration.samples import Samples
from enginewright_builder.tuning import inputs
from enginewright_runtime.engine.values import Value
from enginewright_runtime.errors import InputError
from enginewright_runtime.plan.manifest import Binding

IMAGE = Binding(name="x", dtype="float32", shape=(2, 3))


def echo(feed: Mapping[str, Value]) -> Mapping[str, Value]:
    return {"y": feed["x"]}


def test_random_inputs_are_the_same_each_time_and_not_all_alike() -> None:
    one, two = (inputs.prove_with([IMAGE], None, echo) for _ in range(2))
    np.testing.assert_array_equal(one.feeds[0]["x"], two.feeds[0]["x"])
    assert len(np.unique(one.feeds[0]["x"])) == 6
    assert not np.array_equal(one.feeds[0]["x"], one.feeds[1]["x"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int8", "uint64", "bool", "string", "complex64"])
def test_every_dtype_gets_inputs_of_its_shape(dtype: str) -> None:
    feed = inputs.random([Binding(name="x", dtype=dtype, shape=(4, 2))], inputs.LADDER[0])
    assert feed["x"].shape == (4, 2)
    assert inputs.random([Binding(name="x", dtype=dtype, shape=())], inputs.LADDER[0])["x"].shape == ()


def test_a_model_that_refuses_large_indices_is_given_smaller_ones() -> None:
    def table_of_two(feed: Mapping[str, Value]) -> Mapping[str, Value]:
        if np.max(np.asarray(feed["x"])) > 1:
            raise InputError("The index is out of range.")
        return {"y": np.zeros(1, np.float32)}

    proof = inputs.prove_with([Binding(name="x", dtype="int64", shape=(50,))], None, table_of_two)
    assert proof.rung > 0
    assert proof.reason == ""


def test_inputs_that_give_no_finite_result_are_passed_over() -> None:
    def root(feed: Mapping[str, Value]) -> Mapping[str, Value]:
        with np.errstate(invalid="ignore"):
            return {"y": np.sqrt(np.asarray(feed["x"]))}

    proof = inputs.prove_with([IMAGE], None, root)
    assert np.isfinite(np.asarray(proof.expected[0]["y"])).all()


def test_a_model_that_is_never_finite_is_checked_with_what_there_is() -> None:
    proof = inputs.prove_with([IMAGE], None, lambda _feed: {"y": np.array([np.nan], np.float32)})
    assert proof.feeds
    assert proof.rung == 0


def test_a_model_that_refuses_everything_leaves_the_reason() -> None:
    def refuse(feed: Mapping[str, Value]) -> Mapping[str, Value]:
        raise InputError("No.")

    proof = inputs.prove_with([IMAGE], None, refuse)
    assert not proof.feeds
    assert proof.reason.endswith("No.")


def test_a_sequence_input_cannot_be_made_up_and_says_so() -> None:
    proof = inputs.prove_with([Binding(name="s", dtype="float32", container="sequence")], None, echo)
    assert "'s'" in proof.reason


def test_samples_come_before_random_inputs() -> None:
    samples = Samples(inputs={"x": np.arange(9, dtype=np.float32).reshape(3, 3)})
    proof = inputs.prove_with([IMAGE], samples, echo)
    np.testing.assert_array_equal(proof.feeds[0]["x"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(proof.feeds[1]["x"], [[6, 7, 8], [0, 1, 2]])
    assert proof.source == "calibration samples"
