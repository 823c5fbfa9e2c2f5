"""The engine's public face: what it gives, what it refuses, and in which words."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from enginewright_runtime.engine import available
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.errors import GoldenMismatchError, InputError, PlanError, TargetMismatchError, UsageError
from enginewright_runtime.plan.manifest import Binding, Schedule, Segment

X = np.ones((2, 4), np.float32)
SCORES = np.array([[0, 2, 6], [0, 2, 6]], np.float32)
F, I64, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING

MakePlan = Callable[..., Path]


@pytest.fixture
def small(make_plan: MakePlan, models: Any) -> Path:
    return make_plan(models.small(batch=2), models.small(batch=5))


def test_an_array_goes_to_the_only_input(small: Path) -> None:
    with Engine(small) as engine:
        np.testing.assert_array_equal(engine.infer(X)["scores"], SCORES)


def test_a_mapping_goes_by_name(small: Path) -> None:
    with Engine(small) as engine:
        np.testing.assert_array_equal(engine.infer({"x": X})["scores"], SCORES)


def test_the_plan_may_be_given_as_the_keyword_that_tensorrt_uses(small: Path) -> None:
    with Engine(PLAN=str(small)) as engine:
        assert engine.manifest.schedules


@pytest.mark.parametrize("arguments", [{}, {"plan": "a.plan", "PLAN": "b.plan"}])
def test_no_plan_or_two_are_refused(arguments: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="takes one plan"):
        Engine(**arguments)


def test_each_shape_runs_its_own_schedule(small: Path) -> None:
    with Engine(small) as engine:
        assert engine.infer(np.ones((5, 4), np.float32))["scores"].shape == (5, 3)
        assert engine.inputs == (Binding(name="x", dtype="float32", shape=(-1, 4)),)
        assert engine.outputs == (Binding(name="scores", dtype="float32", shape=(-1, 3)),)


def test_lists_of_numbers_take_the_dtype_of_the_binding(small: Path) -> None:
    with Engine(small) as engine:
        np.testing.assert_array_equal(engine.infer([[1, 1, 1, 1], [1, 1, 1, 1]])["scores"], SCORES)


def test_arrays_of_any_memory_order_give_the_same(small: Path) -> None:
    value = np.arange(8, dtype=np.float32).reshape(2, 4)
    with Engine(small) as engine:
        np.testing.assert_array_equal(engine.infer(np.asfortranarray(value))["scores"], engine.infer(value)["scores"])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (np.ones((3, 4), np.float32), "got x [3, 4], and there are: x [2, 4]; x [5, 4]; give one of those shapes"),
        (np.ones((2, 4)), "The input 'x' must be float32, got float64: convert it with .astype('float32')."),
        (X.astype(">f4"), "The input 'x' must be float32, got big-endian float32"),
        ({"y": X}, "The engine has no input 'y'; its inputs are 'x' (float32 [any, 4])."),
        ({"x": X, "y": X}, "The engine has no input 'y'"),
        ({}, "The input 'x' is missing"),
        (None, "The input 'x' must be a NumPy array of float32, got NoneType"),
        ([["a"]], "The input 'x' cannot be read as float32: it reads as text."),
        ([[1.0, 2.0], [3.0]], "The input 'x' cannot be read as float32"),
    ],
)
def test_what_does_not_fit_is_refused_with_got_and_wanted(small: Path, given: Any, sentence: str) -> None:
    with Engine(small) as engine, pytest.raises(InputError) as refused:
        engine.infer(given)
    assert sentence in str(refused.value).replace("(float32 [2, 4])", "(float32 [any, 4])")


@pytest.mark.parametrize(("value", "sentence"), [([1.5], "it reads as float64"), ([300], "cannot be read as uint8")])
def test_python_numbers_that_an_integer_cannot_hold_are_refused(
    make_plan: MakePlan, models: Any, value: list[float], sentence: str
) -> None:
    U8 = TensorProto.UINT8
    plan = make_plan(models.one_node("Identity", {"x": (U8, [1])}, {"y": (U8, [1])}))
    with Engine(plan) as engine, pytest.raises(InputError, match=sentence):
        engine.infer(value)


def test_one_array_for_several_inputs_is_refused_with_their_names(make_plan: MakePlan, models: Any) -> None:
    plan = make_plan(models.one_node("Add", {"a": (F, [1]), "b": (F, [1])}, {"c": (F, [1])}))
    with Engine(plan) as engine, pytest.raises(InputError, match="has 2 inputs \\('a', 'b'\\): give a dict"):
        engine.infer(X)


def test_a_postprocessor_replaces_its_output(small: Path) -> None:
    with Engine(small, postprocessors={"scores": lambda scores: scores.argmax(axis=1)}) as engine:
        np.testing.assert_array_equal(engine.infer(X)["scores"], [2, 2])


def test_a_postprocessor_of_an_unknown_output_is_refused(small: Path) -> None:
    with pytest.raises(InputError, match="There is no output 'nope' to postprocess; the outputs are scores"):
        Engine(small, postprocessors={"nope": str})


def test_threads_infer_at_once_and_each_gets_its_own_answer(small: Path) -> None:
    wrong: list[int] = []
    with Engine(small) as engine:

        def work(number: int) -> None:
            value = np.full((2, 4), number, np.float32)
            for _ in range(200):
                if not np.array_equal(engine.infer(value)["scores"], SCORES * number):
                    wrong.append(number)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert not wrong


def test_a_closed_engine_says_so(small: Path) -> None:
    engine = Engine(small)
    engine.close()
    with pytest.raises(UsageError, match="is closed"):
        engine.infer(X)


def test_closing_while_threads_infer_ends_them_with_a_sentence(small: Path) -> None:
    engine = Engine(small)
    ended: list[str] = []

    def work() -> None:
        try:
            while True:
                engine.infer(X)
        except UsageError as error:
            ended.append(str(error))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    engine.close()
    for worker in workers:
        worker.join(10)
    assert len(ended) == 3


def test_text_comes_and_goes_as_str(make_plan: MakePlan, models: Any) -> None:
    plan = make_plan(models.one_node("Identity", {"x": (S, [2])}, {"y": (S, [2])}))
    with Engine(plan) as engine:
        for value in (np.array(["a", "é"]), np.array([b"a", "é".encode()], object), ["a", "é"]):
            assert engine.infer({"x": value})["y"].tolist() == ["a", "é"]
        with pytest.raises(InputError, match="not UTF-8"):
            engine.infer(np.array([b"a", b"\xff"], object))
        with pytest.raises(InputError, match="must be text"):
            engine.infer(np.array([1, 2]))


def test_values_that_the_model_refuses_are_an_input_error(make_plan: MakePlan, models: Any) -> None:
    plan = make_plan(models.one_node("Gather", {"x": (F, [2]), "i": (I64, [1])}, {"y": (F, [1])}))
    with Engine(plan) as engine, pytest.raises(InputError, match="values that the model refuses"):
        engine.infer({"x": np.zeros(2, np.float32), "i": np.array([7])})


def test_goldens_that_agree_are_replayed_without_a_word(make_plan: MakePlan, models: Any) -> None:
    plan = make_plan(models.small(), goldens=[(0, {"x": X}, {"scores": SCORES})])
    with Engine(plan) as engine:
        engine.replay_goldens()


def test_a_golden_that_does_not_agree_says_by_how_much(make_plan: MakePlan, models: Any) -> None:
    wrong = SCORES + np.array([0, 0, 1], np.float32)
    plan = make_plan(models.small(), goldens=[(0, {"x": X}, {"scores": wrong})])
    with Engine(plan) as engine, pytest.raises(GoldenMismatchError, match=r"2 of 6 elements differ, by up to 1 "):
        engine.replay_goldens()


def test_a_plan_for_another_target_is_refused_with_the_difference(make_plan: MakePlan, models: Any) -> None:
    plan = make_plan(models.small(), target=replace(available.describe_host(), architecture="riscv64"))
    with pytest.raises(TargetMismatchError, match="CPU architecture: built for riscv64"):
        Engine(plan)


def test_a_damaged_blob_is_found_when_the_plan_is_loaded(small: Path) -> None:
    data = bytearray(small.read_bytes())
    data[-1] ^= 1
    small.write_bytes(data)
    with pytest.raises(PlanError, match=r"damaged: blob 'segments/1.onnx'"):
        Engine(small)


def test_an_executor_that_this_runtime_lacks_is_named(make_plan: MakePlan, models: Any) -> None:
    model = models.small()
    schedule = models.schedule(model, "segments/0.onnx")
    segments = (replace(schedule.segments[0], executor="device"),)
    plan = make_plan(model, schedules=[replace(schedule, segments=segments)])
    with pytest.raises(PlanError, match=r"needs the executor 'device' .* this runtime has host"):
        Engine(plan)


def test_a_plan_without_a_schedule_is_refused(make_plan: MakePlan) -> None:
    with pytest.raises(PlanError, match="has no schedule"):
        Engine(make_plan())


def test_segments_hand_values_on_by_name(make_plan: MakePlan, models: Any) -> None:
    first = models.one_node("Neg", {"x": (F, [2])}, {"m": (F, [2])})
    second = models.one_node("Relu", {"m": (F, [2])}, {"y": (F, [2])})
    x, m, y = (Binding(name=name, dtype="float32", shape=(2,)) for name in "xmy")
    schedule = Schedule(
        inputs=(x,),
        outputs=(y, m),
        segments=(
            Segment(executor="host", inputs=("x",), outputs=("m",), blob="segments/0.onnx"),
            Segment(executor="host", inputs=("m",), outputs=("y",), blob="segments/1.onnx"),
        ),
    )
    with Engine(make_plan(first, second, schedules=[schedule])) as engine:
        outputs = engine.infer(np.array([1, -2], np.float32))
    assert outputs["m"].tolist() == [-1, 2]
    assert outputs["y"].tolist() == [0, 2]


def test_a_segment_that_takes_what_none_gives_is_refused(make_plan: MakePlan, models: Any) -> None:
    model = models.small()
    schedule = replace(models.schedule(model, "segments/0.onnx"), inputs=())
    with pytest.raises(PlanError, match="takes 'x', which no input and no segment before it gives"):
        Engine(make_plan(model, schedules=[schedule]))
